"""How long each feature has repeated one value exactly; what a flatline is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.segments import Segments
    from stream_detector.core.slab import Slab

LONGEST = 65535
"""Runs are counted up to here."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of equal values of accepted samples, sorted by row; m samples of u rows, F features."""

    values: NDArray[np.float64]  # [m, F] without holes
    moved: NDArray[np.bool_]  # [m, F] another value than the sample before had
    length: NDArray[np.int64]  # [m, F] samples with this value so far, counting this one
    ended: NDArray[np.int64]  # [m, F] length of the run that a move ended; else 0
    varied: NDArray[np.bool_]  # [u] every value of the row moved, so no run is longer than 1


def advance(
    slab: Slab,
    segments: Segments,  # of m
    values: NDArray[np.float64],  # [m, F] without holes
    held: NDArray[np.bool_] | None,  # [m, F] the value of the sample before stands in: no evidence
) -> Runs:
    """Count on from each row's newest values, which are still those before these samples."""
    rows, of = segments.row, segments.of
    moved = values != segments.previous(values, slab.last[rows])
    before = slab.same[rows].astype(np.int64)  # [u, F]
    if moved.all():
        ended = np.ones(values.shape, np.int64)
        ended[segments.start] = before
        slab.same[rows] = 1
        length = np.broadcast_to(np.int64(1), values.shape)
        return Runs(values, moved, length, ended, np.ones(len(rows), np.bool_))
    counts = ~moved if held is None else ~moved & ~held
    index = np.arange(len(of))[:, None]
    start = segments.start[of][:, None]
    since = np.maximum.accumulate(np.where(moved, index, -1), axis=0)  # newest move
    fresh = since >= start
    counted = np.cumsum(counts, axis=0)
    base = np.where(fresh, since, start)
    repeats = counted - np.take_along_axis(counted, base, axis=0)
    first = counts[segments.start]  # the start itself counts
    length = repeats + np.where(fresh, 1, (before + first)[of])
    length = np.minimum(length, LONGEST)
    varied = np.logical_and.reduceat(moved.all(axis=1), segments.start)
    ended = np.where(moved, segments.previous(length, before), 0)
    slab.same[rows] = length[segments.last]
    return Runs(values, moved, length, ended, varied)
