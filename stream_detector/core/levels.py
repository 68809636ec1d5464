"""From expert scores to one transformed score: tails, fusion, transform.

The trainer calibrates with these functions and the engine applies them, so the two cannot drift
apart. All of them work element by element on contiguous columns: what comes out for a window does
not depend on which windows it was computed beside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from stream_detector.manifest import Levels, Tail

Rule = Literal["sum", "max", "l2"]


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
    """Fused score [n] -> t, whose tail falls no slower than exponentially (see Levels)."""
    t = np.ascontiguousarray(score, dtype=np.float64)
    if levels.transform == "identity":
        return t
    if levels.transform == "log1p":
        return np.where(t > 0, np.log1p(np.maximum(t, 0.0)), t)
    return np.log(np.maximum(t, 0.0) + levels.epsilon)


def untransformed(t: NDArray[np.floating], levels: Levels) -> NDArray[np.float64]:
    """The fused score [n] that gives t; not below zero with transform `log`."""
    value = np.ascontiguousarray(t, dtype=np.float64)
    if levels.transform == "identity":
        return value
    if levels.transform == "log1p":
        return np.where(value > 0, np.expm1(np.maximum(value, 0.0)), value)
    return np.maximum(np.exp(value) - levels.epsilon, 0.0)


def just_above(score: ArrayLike) -> NDArray[np.float64]:
    """The least score of the engine, a float32, above each of these [n]: reached means exceeded."""
    value = np.asarray(score, dtype=np.float32)
    return np.nextafter(value, np.float32(np.inf)).astype(np.float64)
