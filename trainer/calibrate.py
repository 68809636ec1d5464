"""Held-out normal windows -> what a score means: weights, levels, each series' usual scores.

Never from the errors of the data that was fitted, which are too small. The same functions of
core.levels turn scores into levels here and in the detector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.bundle import WINDOW, Expert, Levels, SeriesTable, Smoothing, Threshold
from stream_detector.core import levels as core
from trainer.data import DataError
from trainer.export import OUTPUTS
from trainer.preprocess import stream_windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream_detector.ports import Scorer
    from trainer.config import Calibration
    from trainer.preprocess import Run, Scaling
    from trainer.rows import Series

UNREMARKABLE = {"stuck": (5 / 59) ** 2}
"""Scores that count as usual though held-out data has none: five equal values, as holding makes."""
WEIGHT_QUANTILE = 0.99
"""Experts are weighted so that this quantile of each, beside the usual error, counts alike."""

FLOOR = 0.05
"""Least spread of a series' log score: five per cent of its usual score."""

PRIOR_WINDOWS = 10.0
"""Independent windows' worth of weight that the fleet's spread has on that of one series."""

KNOTS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, *(0.75 + 0.25 * step for step in range(18)))
"""Levels to place knots at, 5 the highest."""

CLUSTERS = 10
"""Separate stretches above a knot that make it reliable; overlapping windows count once."""

PRIOR_EXCESS, PRIOR_CLUSTERS, LEAST_EXCESS = 0.5, 5.0, 0.1
"""Beyond the knots: mean excess in z to start from, its weight in clusters, its least value."""

EXCESS_CUT = 3.0
"""A held-out anomaly counts at most this many usual excesses, so that it hardly widens the tail."""


@dataclass(frozen=True, slots=True)
class RunScores:
    """Scores of one held-out run at each sample from the first at which every scale has one."""

    series: int
    raw: NDArray[np.float32]  # [n, X] smoothed scores by expert, held between windows


@dataclass(frozen=True, slots=True)
class Calibrated:
    experts: list[Expert]
    levels: Levels
    threshold: Threshold
    series: SeriesTable
    windows: int  # held-out scores that all this rests on


def experts_of(scales: Sequence[int], smoothing: int) -> list[Expert]:
    """Every output of every scale's module, not yet weighted; only the first one is smoothed."""
    return [
        Expert(
            name=name,
            scale=scale,
            output=output,
            smoothing=Smoothing(n=smoothing if output == 0 else 1),
        )
        for scale in scales
        for output, name in enumerate(OUTPUTS)
    ]


def score_runs(
    scorer: Scorer,
    experts: Sequence[Expert],
    runs: Sequence[Run],
    scaling: Scaling,
    max_windows: int,
) -> list[RunScores]:
    """Score runs as the detector would: window by window, smoothed, held between two windows."""
    most = max(max_windows // max(len(runs), 1), 1)
    results = []
    for run in runs:
        anchor = scaling.center[run.series]  # as the detector has it for series of the bundle
        center = np.zeros(len(anchor), np.float32)
        spread = scaling.scale[run.series].astype(np.float32)
        outputs: dict[int, tuple[NDArray[np.float32], NDArray[np.int64]]] = {}
        for scale in dict.fromkeys(expert.scale for expert in experts):
            windows, newest = stream_windows(run, scale, anchor, most)
            shape = (len(windows), len(center))
            given = np.broadcast_to(center, shape), np.broadcast_to(spread, shape)
            outputs[scale] = scorer.score(scale, windows, *given).scores, newest
        if any(not len(newest) for _, newest in outputs.values()):
            continue
        samples = np.arange(max(newest[0] for _, newest in outputs.values()), len(run))
        raw = np.empty((len(samples), len(experts)), np.float32)
        for column, expert in enumerate(experts):
            scores, newest = outputs[expert.scale]
            smooth = smoothed(scores[:, expert.output], expert.smoothing)
            raw[:, column] = smooth[np.searchsorted(newest, samples, side="right") - 1]
        results.append(RunScores(run.series, raw))
    return results


def smoothed(scores: NDArray[np.float32], rule: Smoothing) -> NDArray[np.float32]:
    """Causal mean or maximum of the last n scores [m] of one run; at its start of fewer."""
    if rule.n == 1 or not len(scores):
        return scores
    padded = np.concatenate([np.full(rule.n - 1, np.nan, np.float32), scores])
    windows = np.lib.stride_tricks.sliding_window_view(padded, rule.n)
    reduced = np.nanmean(windows, axis=1) if rule.kind == "mean" else np.nanmax(windows, axis=1)
    return np.asarray(reduced, dtype=np.float32)


def calibrate(
    scored: Sequence[RunScores],
    experts: Sequence[Expert],
    series: Sequence[Series],
    scaling: Scaling,
    config: Calibration,
) -> Calibrated:
    """Weights, levels and the series table. Raises DataError without a finite held-out score.

    Experts are summed as they are and the sum's logarithm is measured from each series' own usual
    value: series whose errors differ by orders of magnitude then share one distribution.
    """
    finite = [RunScores(s.series, s.raw[np.isfinite(s.raw).all(axis=1)]) for s in scored]
    by_series = {
        number: np.concatenate([one.raw for one in finite if one.series == number])
        for number in dict.fromkeys(one.series for one in finite if len(one.raw))
    }
    if not by_series:
        raise DataError(
            "no held-out window to calibrate with; give longer series, smaller windows.scales, or "
            "smaller split shares"
        )
    experts = _weighted(experts, by_series)
    weights = [expert.weight for expert in experts]
    fused = {number: core.fuse(raw, "sum", weights) for number, raw in by_series.items()}
    middle = float(np.median([np.median(score) for score in fused.values()]))
    blank = Levels(
        location=0.0, spread=1.0, z=[0.0, 1.0], level=[0.0, 1.0], slope=1.0,
        epsilon=max(1e-6 * middle, 1e-12),
    )  # fmt: skip
    t = {number: core.transformed(score, blank) for number, score in fused.items()}
    location, spread, overall = _usual(t, len(series))
    z = [(t[number] - location[number]) / spread[number] for number in t]
    knots_z, knots_level, slope = knots(z)
    levels = Levels(
        location=overall[0], spread=overall[1], epsilon=blank.epsilon,
        z=knots_z, level=knots_level, slope=slope,
    )  # fmt: skip
    everything = np.concatenate(list(fused.values()))
    table = SeriesTable(
        row={one.name: number for number, one in enumerate(series)},
        center=scaling.center,
        scale=scaling.scale,
        score_location=location,
        score_spread=spread,
        score_mean=_each(fused, len(series), np.mean, everything),
        score_std=_each(fused, len(series), np.std, everything),
        interval=np.array([one.interval for one in series]),
    )
    count = len(everything)
    return Calibrated(experts, levels, _threshold(config, count, len(fused)), table, count)


def _weighted(experts: Sequence[Expert], by_series: dict[int, NDArray[np.float32]]) -> list[Expert]:
    """Weights such that every expert's tail counts alike; the first one's is 1."""
    errors = [float(np.median(raw[:, 0])) or 1.0 for raw in by_series.values()]
    relative = [raw / error for raw, error in zip(by_series.values(), errors, strict=True)]
    reach = np.quantile(np.concatenate(relative), WEIGHT_QUANTILE, axis=0)
    floor = np.array([UNREMARKABLE.get(one.name, 0.0) for one in experts]) / np.median(errors)
    reach = np.maximum(reach, floor)
    reach = np.where(reach > 0, reach, 1.0)
    return [
        Expert(
            name=one.name, scale=one.scale, output=one.output, smoothing=one.smoothing,
            tail=one.tail, weight=float(reach[0] / reach[column]),
        )
        for column, one in enumerate(experts)
    ]  # fmt: skip


def _usual(
    t: dict[int, NDArray[np.float64]], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]:
    """Location and spread of each series' transformed score, and the fleet's.

    The fleet's are the medians over the series; a series without held-out scores gets them. Windows
    that overlap tell little news, so the spread of a short slice is drawn to the fleet's.
    """
    found = {number: core.usual(part, FLOOR) for number, part in t.items()}
    fleet = tuple(float(part) for part in np.median(list(found.values()), axis=0))
    location, spread = np.full(count, fleet[0]), np.full(count, fleet[1])
    for number, (middle, width) in found.items():
        news = len(t[number]) / WINDOW
        weighted = news * np.log(width) + PRIOR_WINDOWS * np.log(fleet[1])
        location[number], spread[number] = middle, np.exp(weighted / (news + PRIOR_WINDOWS))
    return location, spread, (fleet[0], fleet[1])


def knots(z: Sequence[NDArray[np.float64]]) -> tuple[list[float], list[float], float]:
    """z of each series in time -> knots (z, level = -log10 of the tail), and the slope beyond.

    The last knot is the highest that enough separate stretches of windows exceed; from there the
    tail is exponential with the mean excess over it.
    """
    pooled = np.sort(np.concatenate(z))
    found_z: list[float] = []
    found_level: list[float] = []
    for level in KNOTS:
        at = float(np.quantile(pooled, 1 - 10.0**-level, method="higher"))
        separate = sum(_clusters(part, at) for part in z)
        if found_z and (separate < CLUSTERS and level > 1.0):
            break
        if not found_z or at > found_z[-1] + 1e-6:
            found_z.append(at)
            found_level.append(level)
    if len(found_z) < 2:  # all scores alike
        found_z, found_level = [found_z[0], found_z[0] + 1.0], [found_level[0], 1.0]
    return found_z, found_level, 1.0 / (_mean_excess(z, found_z[-1]) * float(np.log(10)))


def _mean_excess(z: Sequence[NDArray[np.float64]], at: float) -> float:
    """Mean excess over `at`, every cluster counting once; drawn to a prior while they are few."""
    found = []
    for part in z:
        above = np.flatnonzero(part > at)
        apart = np.flatnonzero(np.diff(above) >= WINDOW) + 1
        found += [part[rows] - at for rows in np.split(above, apart) if len(rows)]
    total = PRIOR_CLUSTERS * PRIOR_EXCESS
    if found:
        most = EXCESS_CUT * float(np.median([one.mean() for one in found]))
        total += sum(float(np.minimum(one, most).mean()) for one in found)
    return max(total / (PRIOR_CLUSTERS + len(found)), LEAST_EXCESS)


def _clusters(z: NDArray[np.float64], at: float) -> int:
    """Stretches above `at`, in time; less than a window apart they are one."""
    above = np.flatnonzero(z > at)
    return int((np.diff(above) >= WINDOW).sum()) + 1 if len(above) else 0


def _each(
    fused: dict[int, NDArray[np.float32]],
    count: int,
    of: object,
    everything: NDArray[np.float32],
) -> NDArray[np.float64]:
    assert callable(of)
    return np.array(
        [float(of(fused.get(number, everything).astype(np.float64))) for number in range(count)]
    )


def _threshold(config: Calibration, windows: int, series: int) -> Threshold:
    rest = f"from {windows} held-out windows of {series} series, none of them fitted"
    rule = config.threshold
    if rule is None:
        provenance = f"{config.alarm_budget:g} false episodes per series and day, {rest}"
        return Threshold(method="alarm_budget", value=config.alarm_budget, provenance=provenance)
    if rule.level is not None:
        return Threshold(
            method="level", value=rule.level, provenance=f"set directly; levels {rest}"
        )
    if rule.quantile is not None:
        return Threshold(method="quantile", value=rule.quantile, provenance=f"quantile {rest}")
    assert rule.sigma is not None
    return Threshold(method="sigma", value=rule.sigma, provenance=f"mean and deviation {rest}")
