"""What is done to accepted values before they become windows; the same code trains and detects.

Resampling turns samples into fewer steps or, where samples are missing, more of them (resample.py).
Each other transform looks back at its own last inputs, which are part of a series' state. The first
steps of an unbroken run have fewer of them: a mean of what there is, a difference of zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.core.resample import Buckets, Resampled, resample, run_lengths
from stream_detector.core.segments import Segments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream_detector.manifest import Transform

LIMIT = 1e150
"""Inputs are cut here, so that no difference or sum of some overflows."""
TINY = 1e-300
"""Logarithms are taken of at least this."""


MOST_FILL = 59
"""Empty buckets in a row that may be filled: a window of nothing else would say nothing."""


def unfit(rules: Sequence[Transform]) -> str:
    """Why these cannot be a chain, in words; empty where they can."""
    for place, rule in enumerate(rules):
        if rule.n < 1:
            return "a transform's n must be at least 1"
        if rule.kind != "resample":
            continue
        if place:
            return "resample must be the first transform, and there can be only one"
        if rule.every < 1 or not 0 <= rule.fill <= MOST_FILL:
            return f"resample needs `every` above 0 and a `fill` of 0 to {MOST_FILL}"
    return ""


class Transforms:
    """A chain; stage 0 is what came in, stage j what the j-th transform made of stage j - 1.

    Resampling comes before stage 0: `grid` is its rule, and what it makes of samples comes in.
    """

    def __init__(self, rules: Sequence[Transform] = ()) -> None:
        self.rules = tuple(rules)
        self.grid = rules[0] if rules and rules[0].kind == "resample" else None
        self._chain = self.rules if self.grid is None else self.rules[1:]

    @property
    def every(self) -> int:
        """Ms between two steps; 0 where samples are steps."""
        return 0 if self.grid is None else self.grid.every

    @property
    def lookback(self) -> list[int]:
        """Inputs that each transform remembers."""
        return [rule.n - 1 if rule.kind == "trailing_mean" else 1 for rule in self._chain]

    def resample(
        self,
        buckets: Buckets,  # written
        segments: Segments,
        time: NDArray[np.int64],  # [m] ms
        values: NDArray[np.float64],  # [m, F] without holes
    ) -> Resampled:
        """What comes in, where there is a grid."""
        assert self.grid is not None
        return resample(self.grid, buckets, segments, time, values.clip(-LIMIT, LIMIT))

    def apply(
        self,
        history: Sequence[NDArray[np.float64]],  # each [R, h, F], newest last; written
        segments: Segments,
        values: NDArray[np.float64],  # [s, F] without holes
        since: NDArray[np.float32],  # [s] ms since the step before; 0 for a series' first
        length: NDArray[np.int64],  # [s] steps of its run so far, counting itself
    ) -> list[NDArray[np.float64]]:  # stages, each [s, F]
        stages = [values.clip(-LIMIT, LIMIT) if self.rules else values]
        for rule, past, h in zip(self._chain, history, self.lookback, strict=True):
            x = stages[-1]
            flat = segments.flat(past[segments.row], x)
            start = segments.looking_back(h)
            if rule.kind == "trailing_mean":
                stages.append(_mean(flat, start, h, length))
            else:
                before = np.where(length[:, None] > 1, flat[start], np.nan)
                stages.append(_change(rule.kind, before, x, since[:, None]))
            past[segments.row] = flat[start[segments.last][:, None] + 1 + np.arange(h)]
        return stages

    def expected(
        self,
        stages: Sequence[NDArray[np.float64]],  # each [..., F], of one step or several
        since: float | NDArray[np.floating],  # [..., 1] ms
        expected: NDArray[np.float64],  # [..., F] in terms of the last stage
    ) -> NDArray[np.float64]:  # [..., F] in terms of stage 0
        """What would have had to come in for the last stage to be as expected."""
        result = expected
        for at in range(len(self._chain) - 1, -1, -1):
            rule, x, miss = self._chain[at], stages[at], result - stages[at + 1]
            if rule.kind == "log_difference":
                result = x * np.exp(np.minimum(miss, 300.0))  # more would leave the floats
            elif rule.kind == "rate":
                result = x + miss * (since / 1000.0)
            else:
                result = x + miss * rule.n
        return result


def _mean(
    flat: NDArray[np.float64], start: NDArray[np.int64], h: int, length: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean of the last h + 1 values, of as many as there are; added one by one, oldest first."""
    total = np.zeros((len(start), flat.shape[1]))
    for back in range(h + 1):  # a sum's last bits depend on its order
        there = length[:, None] > h - back
        np.add(total, flat[start + back], out=total, where=there)
    return total / np.minimum(length, h + 1)[:, None]


def _change(
    kind: str, before: NDArray[np.float64], x: NDArray[np.float64], since: NDArray[np.float32]
) -> NDArray[np.float64]:
    first = np.isnan(before)
    old = np.where(first, x, before)
    if kind == "difference":
        return x - old
    if kind == "log_difference":
        return np.log(np.maximum(x, TINY)) - np.log(np.maximum(old, TINY))
    grown = np.where(x >= old, x - old, x)  # a counter that fell began anew at zero
    seconds = since.astype(np.float64) / 1000.0
    return np.where(first | (seconds <= 0), 0.0, grown / np.where(seconds > 0, seconds, 1.0))


class Transformed(NamedTuple):
    """A whole series as the windows see it; s steps."""

    values: NDArray[np.float64]  # [s, F]
    timestamp: NDArray[np.int64]  # [s] ms, of the sample or the end of the bucket
    breaks: NDArray[np.int64]  # steps that begin a new run, but for the first


def transformed(
    rules: Sequence[Transform],
    values: NDArray[np.float64],  # [n, F] one series, in time
    timestamp: NDArray[np.int64],  # [n] ms
    breaks: NDArray[np.int64] | None = None,  # samples before which something was cut out
) -> Transformed:
    """A whole series at once, from its first sample on; after each break as from the first."""
    chain = Transforms(rules)
    run = np.zeros(len(values), np.int64)
    if breaks is not None:
        run[breaks] = 1
    segments = Segments(np.cumsum(run))
    rows = int(run.sum()) + 1
    if chain.grid is None:
        length = segments.nth + 1
        before = segments.previous(timestamp, timestamp[segments.start])
        since = (timestamp - before).astype(np.float32)
    else:
        buckets = Buckets.none(rows, values.shape[1])
        sample, timestamp, values, last = chain.resample(buckets, segments, timestamp, values)
        segments = Segments(segments.row[segments.of[sample]])
        begun = np.zeros(len(segments), np.int64)
        length, _ = run_lengths(segments, segments.nth + 1, begun, last)
        since = np.full(len(values), chain.every, np.float32)
    history = [np.full((rows, h, values.shape[1]), np.nan) for h in chain.lookback]
    result = chain.apply(history, segments, values, since, length)[-1]
    return Transformed(result, timestamp, np.flatnonzero(length == 1)[1:])
