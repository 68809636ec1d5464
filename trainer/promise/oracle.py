"""The best that one static threshold can do: what a detector that adapts is held beside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.promise.counts import REACH, Opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trainer.promise.anomalies import Injected

UNUSUAL = 0.05
"""The threshold lies within this share of the largest scores; below, episodes run together."""


def openings(
    score: NDArray[np.float32],  # [n, S], NaN where there is none
    threshold: float,
    quiet: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # series and step of each
    """Where an episode opens: a score at the threshold or above, none in `quiet` steps before."""
    series, step = np.nonzero(score.T >= threshold)
    first = np.ones(len(step), np.bool_)
    first[1:] = (np.diff(series) != 0) | (np.diff(step) > quiet)
    return series[first], step[first]


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
        enough = len(openings(clean, float(unusual[middle]), quiet)[0]) >= wanted * len(usable)
        low, high = (low, middle) if enough else (middle + 1, high)
    return float(unusual[low])


def opened(
    score: NDArray[np.float32], at: float, start: int, quiet: int
) -> list[Opened]:  # fmt: skip
    """Episodes of that threshold; steps count from day 0, `start` is that of the first score."""
    series, step = openings(score, at, quiet)
    pairs = zip(series.tolist(), step.tolist(), strict=True)
    return [Opened(number, place + start, "oracle") for number, place in pairs]
