"""Simple detectors beside the product's: what a whole detector must beat.

Each scores every row from itself and earlier rows, with what it learnt from the first `fit` rows;
rows between those and the tested ones are held out and tell what a score means. The one baseline
that runs the product's own path, pca, is not here: it is a recipe like any other.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stream_detector.bundle import WINDOW
from stream_detector.core.policy import DAY
from trainer.benchmarks.cases import Answer
from trainer.metrics.events import merge, stretches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.benchmarks.cases import Case

HELD_OUT = 0.2
"""Share at the end of the training part that nothing is learnt from."""
MEAN = 20
"""Rows of the running mean that `mahalanobis` looks at."""
MEMORY = 1024
"""Training windows that `knn` keeps, drawn at random."""
BLOCK = 4096
TAIL = 0.02
"""Share of the held-out scores from which on the tail counts as exponential."""
SMOOTHED = 50
"""Scores whose mean `knn_centred_smoothed` takes."""
HELD = 20
"""Scores whose maximum the `held` baselines take."""
QUIET = 60
"""Rows: alarms that are less apart are one episode, as the product has it by default."""


class Baseline(Protocol):
    def __call__(
        self,
        x: NDArray[np.float64],  # [n, F] normalised with mean and deviation of the first rows
        fit: int,
        rng: np.random.Generator,
    ) -> NDArray[np.float64]: ...  # [n] larger is worse


def mahalanobis(x: NDArray[np.float64], fit: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Squared distance of the running mean from that of the training rows, by its covariance."""
    del rng
    mean = trailing_mean(x, MEAN)
    seen = mean[:fit]
    covariance = np.cov(seen, rowvar=False).reshape(x.shape[1], -1)
    away = mean - seen.mean(axis=0)
    ridge = 1e-3 * max(float(np.trace(covariance)) / x.shape[1], 1e-9)
    inverse = np.linalg.inv(covariance + ridge * np.eye(x.shape[1]))
    distance: NDArray[np.float64] = np.einsum("nf,fg,ng->n", away, inverse, away)
    return distance


def knn(x: NDArray[np.float64], fit: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Squared distance of the newest window to the nearest one in a memory of training windows."""
    return _nearest(x, fit, rng, centred=False)


def knn_centred(x: NDArray[np.float64], fit: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The same without the windows' own means: of shapes alone."""
    return _nearest(x, fit, rng, centred=True)


def _nearest(
    x: NDArray[np.float64], fit: int, rng: np.random.Generator, *, centred: bool
) -> NDArray[np.float64]:
    if fit < WINDOW:
        return np.zeros(len(x))
    windows = sliding_window_view(x.astype(np.float32), WINDOW, axis=0)  # [n - 59, F, 60]
    seen = fit - WINDOW + 1
    chosen = np.sort(rng.permutation(seen)[:MEMORY])

    def flat(some: NDArray[np.float32]) -> NDArray[np.float32]:  # [k, F, 60] -> [k, 60F]
        away = some - some.mean(axis=2, keepdims=True) if centred else some
        return away.reshape(len(some), -1)

    memory = flat(windows[chosen])
    size = (memory**2).sum(axis=1)
    score = np.zeros(len(x))
    for start in range(0, len(windows), BLOCK):
        block = flat(windows[start : start + BLOCK])
        near = (size - 2 * (block @ memory.T)).min(axis=1) + (block**2).sum(axis=1)
        score[WINDOW - 1 + start : WINDOW - 1 + start + len(block)] = np.maximum(near, 0)
    return score


def random(x: NDArray[np.float64], fit: int, rng: np.random.Generator) -> NDArray[np.float64]:
    del fit
    return rng.random(len(x))


def difference(x: NDArray[np.float64], fit: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Largest change of a feature since the row before."""
    del fit, rng
    change: NDArray[np.float64] = np.abs(np.diff(x, axis=0, prepend=x[:1])).max(axis=1)
    return change


def moving_average(
    x: NDArray[np.float64], fit: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Largest distance of a feature from the mean of its window."""
    del fit, rng
    away: NDArray[np.float64] = np.abs(x - trailing_mean(x, WINDOW)).max(axis=1)
    return away


def beyond_range(x: NDArray[np.float64], fit: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How far a feature lies beyond all that came before, as a share of that range."""
    del fit, rng
    low, high = np.minimum.accumulate(x), np.maximum.accumulate(x)
    span = np.maximum(high[:-1] - low[:-1], 1e-9)
    beyond = np.maximum(x[1:] - high[:-1], low[:-1] - x[1:]).clip(0) / span
    return np.concatenate([[0.0], beyond.max(axis=1)])


def smoothed(of: Baseline) -> Baseline:
    """Mean of the last SMOOTHED scores: what a shape's detector gains by that alone."""

    def baseline(x: NDArray[np.float64], fit: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return trailing_mean(of(x, fit, rng)[:, None], SMOOTHED)[:, 0]

    return baseline


def held(of: Baseline) -> Baseline:
    """Maximum of the last HELD scores: what VUS-PR and events gain by holding an alarm."""

    def baseline(x: NDArray[np.float64], fit: int, rng: np.random.Generator) -> NDArray[np.float64]:
        padded = np.concatenate([np.full(HELD - 1, -np.inf), of(x, fit, rng)])
        largest: NDArray[np.float64] = sliding_window_view(padded, HELD).max(axis=1)
        return largest

    return baseline


BASELINES: dict[str, Baseline] = {
    "mahalanobis": mahalanobis,
    "knn": knn,
    "knn_centred_smoothed": smoothed(knn_centred),
    "random": random,
    "difference": difference,
    "difference_held": held(difference),
    "moving_average": moving_average,
    "moving_average_held": held(moving_average),
    "range": beyond_range,
}


def trailing_mean(x: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """[n, F] mean of the last `count` rows; at the start of fewer."""
    total = np.cumsum(np.concatenate([np.zeros((1, x.shape[1])), x]), axis=0)
    last = np.arange(1, len(x) + 1)
    first = np.maximum(last - count, 0)
    mean: NDArray[np.float64] = (total[last] - total[first]) / (last - first)[:, None]
    return mean


def answer(name: str, case: Case, seed: int, threshold: float | None, quiet: int = QUIET) -> Answer:
    """A baseline's verdicts on a file, at the level that is the product's threshold there.

    None, where the product has none: one false row a day. Alarms less than `quiet` rows apart are
    one episode.
    """
    values = filled(case.values)
    fit = max(round(case.train * (1 - HELD_OUT)), 1)
    center, spread = values[:fit].mean(axis=0), values[:fit].std(axis=0)
    x = (values - center) / np.where(spread > 0, spread, 1.0)
    rng = np.random.default_rng([seed, zlib.crc32(case.name.encode())])
    score = BASELINES[name](x, fit, rng)
    level = level_of(score[case.train :], score[fit : case.train])
    if threshold is None:
        threshold = max(float(np.log10(DAY / max(case.interval, 1.0))), 0.5)
    above = level >= threshold
    episodes = merge(stretches(above), quiet)
    inside = np.zeros(case.tested, np.bool_)
    for first, last in episodes:
        inside[first : last + 1] = True
    return Answer(score[case.train :], level, threshold, above, inside, episodes)


def level_of(
    score: NDArray[np.float64],  # [m]
    held_out: NDArray[np.float64],  # [n]
) -> NDArray[np.float64]:
    """-log10 of the share of held-out scores that are as large; beyond most of them exponential."""
    if not len(held_out):
        return np.zeros(len(score))
    ordered = np.sort(held_out)
    as_large = len(ordered) - np.searchsorted(ordered, score, side="left")
    share = np.maximum(as_large, 1) / len(ordered)
    start = float(np.quantile(ordered, 1 - TAIL))
    excess = float((ordered[ordered >= start] - start).mean())
    scale = max(excess, 1e-9 * max(abs(start), 1.0))
    beyond = -np.log10(TAIL) + (score - start) / (scale * np.log(10))
    level: NDArray[np.float64] = np.where(score > start, beyond, -np.log10(share))
    return level


def filled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n, F] missing values are the last ones before, at the start the first ones behind."""
    missing = ~np.isfinite(values)
    if not missing.any():
        return values
    result = values.copy()
    rows = np.arange(len(values))
    for column, gone in zip(result.T, missing.T, strict=True):
        there = rows[~gone]
        if not len(there):
            column[:] = 0
            continue
        last = np.searchsorted(there, rows, side="right") - 1
        column[:] = column[there[np.maximum(last, 0)]]
    return result
