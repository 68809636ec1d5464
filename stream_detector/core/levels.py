"""From expert scores to levels: smoothing, tails, fusion, transform, knots.

The trainer calibrates with these functions and the engine applies them, so the two cannot drift
apart. All of them work element by element on contiguous columns: what comes out for a window does
not depend on which windows it was computed beside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from stream_detector.bundle import Levels, Tail

Rule = Literal["sum", "max", "l2"]

Z_OF_UPPER = 1.2815515655446004
"""The standard normal's 90% quantile."""

UPPER = 2.5066282746310002
"""sqrt(2 pi): mean of the positive part of a normal variable -> its standard deviation."""

_ROUNDS = 30
"""Rounds until `usual` has settled."""


def tail(
    scores: NDArray[np.float32],  # [n] of one expert, smoothed
    at: float,
    excess: float,
    slope: float,
) -> NDArray[np.float32]:  # [n]
    """(s - at) / excess above `at`; below it the same times `slope`, so that order is kept."""
    scaled = (np.ascontiguousarray(scores, dtype=np.float32) - np.float32(at)) / np.float32(excess)
    return np.where(scaled > 0, scaled, scaled * np.float32(slope)).astype(np.float32)


def logarithmic(scores: NDArray[np.float32], at: float) -> NDArray[np.float32]:  # [n] -> [n]
    """ln(1 + s / at); scores below zero count as zero."""
    positive = np.maximum(np.ascontiguousarray(scores, dtype=np.float32), np.float32(0.0))
    return np.log1p(positive / np.float32(at))


def median(
    scores: NDArray[np.float32],  # [n, m], NaN where there is none; at least one in each row
) -> NDArray[np.float32]:  # [n]
    """Median of the scores in each row, of as many as there are."""
    ordered = np.sort(scores, axis=1)  # NaN last
    count = scores.shape[1] - np.isnan(scores).sum(axis=1)
    rows = np.arange(len(scores))
    low, high = ordered[rows, (count - 1) // 2], ordered[rows, count // 2]
    middle: NDArray[np.float32] = low + (high - low) * np.float32(0.5)
    return middle


def excess_of(scores: NDArray[np.float32], rule: Tail | None) -> NDArray[np.float32]:
    """The tail excess of one expert's scores [n]; the scores themselves where it has no tail."""
    if rule is None:
        return np.ascontiguousarray(scores, dtype=np.float32)
    if rule.shape == "log":
        return logarithmic(scores, rule.at)
    return tail(scores, rule.at, rule.excess, rule.slope)


def fuse(
    excess: NDArray[np.float32],  # [n, X]
    rule: Rule,
    weights: ArrayLike,  # [X]
) -> NDArray[np.float32]:  # [n]
    """One score from X experts: weighted sum, largest weighted, or root of weighted squares.

    `l2` keeps the sign of nothing: negative excess counts as none.
    """
    factors = np.asarray(weights, dtype=np.float32)
    total = np.zeros(len(excess), dtype=np.float32)
    if rule == "max":
        total.fill(-np.inf)
    for column, weight in enumerate(factors):
        part = np.ascontiguousarray(excess[:, column], dtype=np.float32)
        if rule == "sum":
            total += weight * part
        elif rule == "max":
            np.maximum(total, weight * part, out=total)
        else:
            positive = np.maximum(part, np.float32(0.0))
            total += weight * positive * positive
    return np.sqrt(total) if rule == "l2" else total


def transformed(score: NDArray[np.floating], levels: Levels) -> NDArray[np.float64]:
    """Fused score [n] -> t: itself, or ln(max(score, 0) + epsilon)."""
    t = np.ascontiguousarray(score, dtype=np.float64)
    if levels.transform == "identity":
        return t
    return np.log(np.maximum(t, 0.0) + levels.epsilon)


def untransformed(t: NDArray[np.floating], levels: Levels) -> NDArray[np.float64]:
    """The fused score [n] that gives t; not below zero with transform `log`."""
    value = np.ascontiguousarray(t, dtype=np.float64)
    if levels.transform == "identity":
        return value
    return np.maximum(np.exp(value) - levels.epsilon, 0.0)


def just_above(score: ArrayLike) -> NDArray[np.float64]:
    """The least score of the engine, a float32, above each of these [n]: reached means exceeded."""
    value = np.asarray(score, dtype=np.float32)
    return np.nextafter(value, np.float32(np.inf)).astype(np.float64)


def usual(
    t: NDArray[np.floating],  # [n], finite
    least: float = 0.0,
) -> tuple[float, float]:
    """Location and spread of transformed scores, as the engine follows them online.

    The location is where errors cut at one spread average to zero; the spread is sqrt(2 pi) times
    the mean excess over it, cut at three spreads: for normal values their standard deviation. Only
    the upper side makes the spread, because alarms come from there. It is at least `least`.
    """
    value = np.asarray(t, dtype=np.float64)
    middle, upper = (float(part) for part in np.quantile(value, (0.5, 0.9)))
    spread = max((upper - middle) / Z_OF_UPPER, least, 1e-12)
    for _ in range(_ROUNDS):
        excess = np.clip(value - middle, 0.0, 3.0 * spread)
        spread = max(UPPER * float(excess.mean()), least, 1e-12)
        middle += float(np.clip(value - middle, -spread, spread).mean())
    return middle, spread


def level_of(
    z: ArrayLike,  # [n]
    knots_z: Sequence[float],  # [K] strictly ascending
    knots_level: Sequence[float],  # [K] strictly ascending
    slope: float,
) -> NDArray[np.float64]:  # [n]
    """z -> level: straight between the knots, level of the first below it, `slope` above the last.

    NaN stays NaN.
    """
    value = np.ascontiguousarray(z, dtype=np.float64)
    inside = np.interp(value, knots_z, knots_level)
    return inside + slope * np.maximum(value - knots_z[-1], 0.0)


def z_of(
    level: ArrayLike,  # [n]
    knots_z: Sequence[float],
    knots_level: Sequence[float],
    slope: float,
) -> NDArray[np.float64]:  # [n]
    """The smallest z that has this level: the inverse of `level_of` from the first knot up."""
    value = np.ascontiguousarray(level, dtype=np.float64)
    inside = np.interp(value, knots_level, knots_z)
    return inside + np.maximum(value - knots_level[-1], 0.0) / slope
