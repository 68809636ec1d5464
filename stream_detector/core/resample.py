"""Samples at any time -> one step for each bucket of a fixed grid of event time.

The same code trains and detects.

A bucket holds the samples with equal floor(time / every). What it comes to is known when a sample
of a later bucket arrives: then it is one step, whose time is the bucket's end. Empty buckets in
between repeat it, all or none: a hole of more than `fill` of them ends the run of steps, and no
window crosses it. The bucket that is still being filled is no step yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.core.clock import NEVER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.segments import Segments
    from stream_detector.manifest import Transform


class Buckets(NamedTuple):
    """The bucket that each of R series is filling; written in place."""

    number: NDArray[np.int64]  # [R] floor(time / every); NEVER before the first sample
    value: NDArray[np.float64]  # [R, F] the newest, highest or lowest; for a mean the sum
    samples: NDArray[np.int64]  # [R] in it

    @classmethod
    def none(cls, rows: int, features: int) -> Buckets:
        return cls(np.full(rows, NEVER), np.zeros((rows, features)), np.zeros(rows, np.int64))


class Resampled(NamedTuple):
    """Completed buckets and repetitions of them, in the order of the samples; s steps."""

    sample: NDArray[np.int64]  # [s] which sample completed it
    time: NDArray[np.int64]  # [s] ms, end of the bucket
    values: NDArray[np.float64]  # [s, F]
    last: NDArray[np.bool_]  # [s] a hole follows: it ends its run


def resample(
    rule: Transform,
    buckets: Buckets,
    segments: Segments,
    time: NDArray[np.int64],  # [m] ms, rising within a segment
    values: NDArray[np.float64],  # [m, F] without holes
) -> Resampled:
    number = time // rule.every
    before = segments.previous(number, buckets.number[segments.row])
    opens = number != before
    empty = number - before - 1  # [m] buckets in between
    hole = empty > rule.fill
    steps = np.where(opens & (before != NEVER), np.where(hole, 0, empty) + 1, 0)

    # Every segment has a part for the bucket that was being filled and one for each that opens.
    part = segments.of + np.cumsum(opens)
    carried = part[segments.start] - opens[segments.start]
    sums, counts = _reduced(rule.how, buckets, segments.row, carried, part, values)
    last = segments.last
    buckets.number[segments.row] = number[last]
    buckets.value[segments.row] = sums[part[last]]
    buckets.samples[segments.row] = counts[part[last]]

    sample = np.repeat(np.arange(len(time)), steps)
    nth = np.arange(len(sample)) - np.repeat(np.cumsum(steps) - steps, steps)
    done = part[sample] - 1
    result = sums[done] / counts[done, None] if rule.how == "mean" else sums[done]
    return Resampled(sample, (before[sample] + 1 + nth) * rule.every, result, hole[sample])


def _reduced(
    how: str,
    buckets: Buckets,
    row: NDArray[np.int64],  # [u]
    carried: NDArray[np.int64],  # [u] part that goes on from before
    part: NDArray[np.int64],  # [m] of each sample
    values: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[p, F] and the number of samples [p] of each part; sample by sample, wherever it was cut."""
    which = np.concatenate((carried, part))
    given = np.concatenate((buckets.value[row], values))
    size = int(which.max(initial=-1)) + 1
    counts = np.bincount(part, minlength=size)
    counts[carried] += buckets.samples[row]
    if how in {"mean", "sum"}:
        sums = [np.bincount(which, column, size) for column in given.T]
        return np.stack(sums, axis=1), counts
    order = np.argsort(which, kind="stable")
    given = given[order]
    first = np.searchsorted(which[order], np.arange(size))
    if how == "last":
        return given[np.append(first, len(given))[1:] - 1], counts
    return (np.maximum if how == "max" else np.minimum).reduceat(given, first, axis=0), counts


def run_lengths(
    segments: Segments,
    nth: NDArray[np.int64],  # [s] steps of the series so far, counting this one
    begun: NDArray[np.int64],  # [u] steps of each series before its run began
    last: NDArray[np.bool_],  # [s] ends its run
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[s] steps of its run so far, counting itself, and `begun` [u] afterwards."""
    place = np.where(
        segments.previous(last, np.zeros(len(segments), np.bool_)), np.arange(len(nth)), -1
    )
    first = np.maximum.accumulate(place)
    inside = first >= segments.start[segments.of]
    start = np.where(inside, nth[np.maximum(first, 0)] - 1, begun[segments.of])
    end = segments.last
    return nth - start, np.where(last[end], nth[end], start[end])
