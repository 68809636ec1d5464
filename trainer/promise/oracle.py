"""The best that one static threshold can do: what a detector that adapts is held beside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.promise.counts import REACH, Episode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trainer.promise.anomalies import Injected

UNUSUAL = 0.05
"""The threshold lies within this share of the largest scores; below, episodes run together."""


def runs(
    score: NDArray[np.float32],  # [n, S], NaN where there is none
    at: float,
    quiet: int,
) -> NDArray[np.int64]:  # [3, e] series, first and last step of each
    """A score of `at` or above opens an episode, `quiet` steps without one end it."""
    series, step = np.nonzero(np.greater_equal(score.T, at))
    new = np.ones(len(step) + 1, np.bool_)
    new[1:-1] = (np.diff(series) != 0) | (np.diff(step) > quiet)
    first, last = new[:-1], new[1:]
    return np.stack([series[first], step[first], step[last]])


def threshold(
    score: NDArray[np.float32],  # [n, S]
    injected: Sequence[Injected],
    start: int,  # step of the first score
    wanted: float,  # episodes a step and series
    quiet: int,
) -> float:
    """The highest score that opens the wanted rate of episodes where nothing is wrong."""
    clean = score.copy()
    for one in injected:
        clean[max(one.first - start, 0) : one.last + REACH + 1 - start, one.series] = np.nan
    usable = clean[np.isfinite(clean)]
    number = int(len(usable) * UNUSUAL)
    unusual = np.sort(np.partition(usable, len(usable) - number)[-number:])[::-1]
    low, high = 0, number - 1  # ranks
    while low < high:
        middle = (low + high) // 2
        enough = runs(clean, float(unusual[middle]), quiet).shape[1] >= wanted * len(usable)
        low, high = (low, middle) if enough else (middle + 1, high)
    return float(unusual[low])


def episodes(
    score: NDArray[np.float32], at: float, start: int, quiet: int
) -> list[Episode]:  # fmt: skip
    """Those of one threshold; `start` is the step of the first score."""
    found = runs(score, at, quiet)
    found[1:] += start
    return [Episode(series, first, last, "static") for series, first, last in found.T.tolist()]
