"""Steps of scale 1, which windows are made of: the samples themselves, or buckets of them.

Where series are resampled a sample completes no step, one, or, with repetitions, several. What is
said of it is what the highest of these says, or else what the newest step of its series said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_detector.core.segments import Segments

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Steps:
    """Sorted by row; columns of s rows, of m accepted samples of a slab."""

    sample: NDArray[np.int64]  # [s] the sample that completed it
    time: NDArray[np.int64]  # [s] ms, of the sample or the end of the bucket
    since: NDArray[np.float32]  # [s] ms since the step before; 0 for a series' first
    segments: Segments  # of s
    nth: NDArray[np.int64]  # [s] steps of the series so far, counting this one
    length: NDArray[np.int64]  # [s] the same of its unbroken run
    stages: list[NDArray[np.float64]]  # each [s, F]: what came in, then each transform
    values: NDArray[np.float32]  # [s, F] the last stage, relative to the anchor
    resampled: bool

    def hold(self, new: NDArray[Any], before: NDArray[Any]) -> NDArray[Any]:
        """[s] floats; NaN takes the value before it in its run, at first `before` [u]."""
        begin = np.arange(len(new)) - (self.length - 1) if self.resampled else None
        return self.segments.forward_fill(new, before, begin)

    def told(self, samples: Segments, height: NDArray[np.float32]) -> Told:
        """Which step speaks for each sample: of several the highest; `height` [s] of each."""
        if not self.resampled:
            return Told(self.sample, None, samples)
        m = len(samples.of)
        mine = Segments(self.sample)  # of one sample each
        high = np.nan_to_num(height, nan=-np.inf)
        highest = np.maximum.reduceat(high, mine.start) if len(mine) else high
        best = np.flatnonzero(high == highest[mine.of])
        step = np.full(m, -1)
        step[self.sample[best][::-1]] = best[::-1]  # the first where several are as high
        newest = np.cumsum(np.bincount(self.sample, minlength=m)) - 1
        first = np.searchsorted(self.sample, samples.start)[samples.of]
        newest = np.where(newest >= first, newest, -1)
        return Told(step, np.where(step >= 0, step, newest), samples)


@dataclass(frozen=True, slots=True)
class Told:
    """What steps say of the samples of a slab; columns of m rows."""

    step: NDArray[np.int64]  # [m] the step that speaks for it; -1: it completed none
    shown: NDArray[np.int64] | None  # [m] that one or the newest before; -1: none of this piece
    samples: Segments  # of m

    def each(self, of_step: NDArray[Any], before: NDArray[Any]) -> NDArray[Any]:
        """[m] what was said [s] of steps; `before` [u] where a sample has none yet."""
        if self.shown is None:
            return of_step
        there = self.shown >= 0
        said = np.array(before[self.samples.of])
        said[there] = of_step[self.shown[there]]
        return said
