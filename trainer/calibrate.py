"""Held-out normal windows -> what a score means: weights, levels, each series' usual scores.

Never from the errors of the data that was fitted, which are too small. The same functions of
core.levels turn scores into levels here and in the detector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from msgspec.structs import replace

from stream_detector.bundle import (
    Expert,
    Levels,
    SeriesTable,
    Smoothing,
    Tail,
    Threshold,
)
from stream_detector.core import levels as core
from trainer.data import DataError
from trainer.preprocess import stream_windows
from trainer.score_memory import usual_scores
from trainer.thresholds import SeriesScores, threshold_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from stream_detector.ports import Scorer
    from trainer.config import Calibration, ExpertRule
    from trainer.reading.rows import Series
    from trainer.runs import Run
    from trainer.scaling import Scaling

Shape = Literal["linear", "log", "ratio"]
Transform = Literal["log", "log1p", "identity"]
TRANSFORM: Mapping[Shape, Transform] = {"linear": "log1p", "log": "identity", "ratio": "log"}
"""What makes a logarithm of errors of each shape's sum."""
UNREMARKABLE = {"stuck": (5 / 59) ** 2}
"""Scores that count as usual though held-out data has none: five equal values, as holding makes."""
WEIGHT_QUANTILE = 0.99
"""Experts are weighted so that this quantile of each, beside the usual error, counts alike."""

INSIDE = 2.0
"""Scores of windows that were fitted are about so many times too low for those that were not."""

LEAST_PART = 1e-3
"""Least mean excess of a tail, as a part of where it begins."""

CLUSTERS = 10
"""Scores above its beginning that a tail needs to have a mean excess of its own."""


@dataclass(frozen=True, slots=True)
class RunScores:
    """Scores of one held-out run at each sample from the first at which every scale has one."""

    series: int
    raw: NDArray[np.float32]  # [n, X] smoothed scores by expert, held between windows
    truth: NDArray[np.bool_] | None = None  # [n] anomalous by its label; None: all are normal


@dataclass(frozen=True, slots=True)
class Calibrated:
    experts: list[Expert]
    levels: Levels
    threshold: Threshold
    series: SeriesTable
    windows: int  # held-out scores that all this rests on


def experts_of(outputs: Mapping[int, Sequence[str]], rules: Sequence[ExpertRule]) -> list[Expert]:
    """The experts that the rules ask for and modules have, not yet weighted. `outputs`: scale ->

    the columns of its module by name.
    """
    return [
        Expert(
            name=rule.name,
            scale=scale,
            output=names.index(rule.name),
            smoothing=Smoothing(kind=rule.of, n=max(1, round(rule.smoothing / scale))),
            weight=rule.weight or 0.0,
        )
        for scale, names in outputs.items()
        for rule in sorted(
            (one for one in at_scale(rules, scale, outputs) if one.name in names),
            key=lambda one: names.index(one.name),
        )
    ]


def at_scale(rules: Sequence[ExpertRule], scale: int, scales: Collection[int]) -> list[ExpertRule]:
    """The rules that apply to one of the scales."""
    where = {"all": scale, "finest": min(scales), "coarsest": max(scales)}
    return [rule for rule in rules if where[rule.scales] == scale]


def score_runs(
    scorer: Scorer,
    experts: Sequence[Expert],
    runs: Sequence[Run],
    scaling: Scaling,
    max_windows: int,
    *,
    early: bool = False,
) -> list[RunScores]:
    """Score runs as the detector would: window by window, smoothed, held between two windows.

    `early`: also where a coarse scale has none yet, NaN there.
    """
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
        begin = min if early else max
        samples = np.arange(begin(newest[0] for _, newest in outputs.values()), len(run))
        raw = np.empty((len(samples), len(experts)), np.float32)
        for column, expert in enumerate(experts):
            scores, newest = outputs[expert.scale]
            smooth = smoothed(scores[:, expert.output], expert.smoothing)
            at = np.searchsorted(newest, samples, side="right") - 1
            raw[:, column] = np.where(at < 0, np.float32(np.nan), smooth[at])
        results.append(RunScores(run.series, raw))
    return results


def smoothed(scores: NDArray[np.float32], rule: Smoothing) -> NDArray[np.float32]:
    """Causal mean, maximum or median of the last n scores [m] of one run; at its start of fewer."""
    if rule.n == 1 or not len(scores):
        return scores
    padded = np.concatenate([np.full(rule.n - 1, np.nan, np.float32), scores])
    windows = np.lib.stride_tricks.sliding_window_view(padded, rule.n)
    if rule.kind == "median":
        return core.median(windows)
    reduced = np.nanmean(windows, axis=1) if rule.kind == "mean" else np.nanmax(windows, axis=1)
    return np.asarray(reduced, dtype=np.float32)


def calibrate(
    scored: Sequence[RunScores],
    experts: Sequence[Expert],
    series: Sequence[Series],
    scaling: Scaling,
    config: Calibration,
    *,
    fitted: bool = False,
) -> Calibrated:
    """Weights, levels and the series table. Raises DataError without a finite held-out score.

    `fitted`: what is held out was fitted as well, so that its scores count INSIDE times over; there
    is little of it, so that each expert's tail is of all its scores, early ones too.

    Experts are fused as they are and the logarithm is measured from each series' own usual value:
    series whose errors differ by orders of magnitude then share one distribution. With
    `config.tail` their tail excesses are fused instead, which are of one size already.
    """
    held = _by_series(scored)
    by_series = {number: raw[~truth] for number, (raw, truth) in held.items() if not truth.all()}
    if not by_series:
        raise DataError(
            "no held-out window to calibrate with; give longer series, smaller windows.scales, or "
            "smaller split shares"
        )
    if config.tail is None:
        experts = _weighted(experts, by_series)
    else:
        every = [one.raw for one in scored] if fitted else list(by_series.values())
        experts = _tailed(experts, np.concatenate(every), config.tail, config.shape)
    weights = [expert.weight for expert in experts]
    outside = np.float32(INSIDE if fitted else 1.0)
    scores = {
        series[number].name: SeriesScores(
            outside * core.fuse(_excesses(raw, experts), config.fusion, weights), truth
        )
        for number, (raw, truth) in held.items()
    }
    fused = {number: scores[series[number].name].normal for number in by_series}
    middle = float(np.median([np.median(score) for score in fused.values()]))
    transform: Transform = "log"
    if config.tail is not None:
        transform = TRANSFORM[config.shape]
    blank = Levels(
        transform=transform, epsilon=max(1e-6 * middle, 1e-12),
        location=0.0, spread=1.0, anchor=1.0, excess=1.0, rate=1.0,
    )  # fmt: skip
    t = {number: core.transformed(score, blank) for number, score in fused.items()}
    usual = usual_scores(t, len(series))
    levels = replace(blank, **usual.fleet)
    everything = np.concatenate(list(fused.values()))
    names = [one.name for one in series]
    what = f"from {len(everything)} {{}} windows of {len(fused)} series, {{}} of them fitted"
    source = what.format("training", "all") if fitted else what.format("held-out", "none")
    chosen = threshold_of(config, scores, names, source)
    table = SeriesTable(
        row={name: number for number, name in enumerate(names)},
        center=scaling.center,
        scale=scaling.scale,
        score_location=usual.location,
        score_spread=usual.spread,
        score_count=usual.held_out,
        memory=usual.memory,
        score_mean=_each(fused, len(series), np.mean, everything),
        score_std=_each(fused, len(series), np.std, everything),
        interval=np.array([one.interval for one in series]),
        score_threshold=chosen.each,
    )
    return Calibrated(experts, levels, chosen.threshold, table, len(everything))


def _by_series(
    scored: Sequence[RunScores],
) -> dict[int, tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """The finite scores [n, X] of each series, run after run, and which are anomalous [n]."""
    raw: dict[int, list[NDArray[np.float32]]] = {}
    truth: dict[int, list[NDArray[np.bool_]]] = {}
    for one in scored:
        rows = np.isfinite(one.raw).all(axis=1)
        if rows.any():
            known = np.zeros(len(one.raw), np.bool_) if one.truth is None else one.truth
            raw.setdefault(one.series, []).append(one.raw[rows])
            truth.setdefault(one.series, []).append(known[rows])
    return {number: (np.concatenate(raw[number]), np.concatenate(truth[number])) for number in raw}


def _weighted(experts: Sequence[Expert], by_series: dict[int, NDArray[np.float32]]) -> list[Expert]:
    """Weights such that every expert's tail counts alike; the first one's is 1."""
    errors = [float(np.median(raw[:, 0])) or 1.0 for raw in by_series.values()]
    relative = [raw / error for raw, error in zip(by_series.values(), errors, strict=True)]
    reach = np.quantile(np.concatenate(relative), WEIGHT_QUANTILE, axis=0)
    floor = np.array([UNREMARKABLE.get(one.name, 0.0) for one in experts]) / np.median(errors)
    reach = np.maximum(reach, floor)
    reach = np.where(reach > 0, reach, 1.0)
    return [
        replace(one, weight=one.weight or float(reach[0] / reach[column]))
        for column, one in enumerate(experts)
    ]


def _tailed(
    experts: Sequence[Expert], raw: NDArray[np.float32], quantile: float, shape: Shape
) -> list[Expert]:  # raw [n, X]
    """Each expert with its tail: the excess over a quantile, in units of the mean excess.

    A ratio leaves the quantile in: errors that are so many times larger, as of a noisier series,
    then give a score that is so many times larger, and a logarithm that is only shifted.
    """
    result = []
    for one, column in zip(experts, raw.T.astype(np.float64), strict=True):
        scores = column[np.isfinite(column)]
        least = UNREMARKABLE.get(one.name, 0.0)
        at = max(float(np.quantile(scores, quantile)), least, 1e-9)
        above = scores[scores > at]
        excess = float(above.mean()) - at if len(above) >= CLUSTERS else least or at
        excess = max(excess, LEAST_PART * at, 1e-9)
        if shape == "ratio":
            tail = Tail(at=0.0, excess=excess)
        else:
            tail = Tail(shape=shape, at=at, excess=excess)
        result.append(replace(one, tail=tail, weight=one.weight or 1.0))
    return result


def _excesses(raw: NDArray[np.float32], experts: Sequence[Expert]) -> NDArray[np.float32]:
    columns = zip(raw.T, experts, strict=True)
    return np.column_stack([core.excess_of(scores, one.tail) for scores, one in columns])


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
