"""What is done to accepted values before they become windows; the same code trains and detects.

Each transform looks back at its own last inputs, which are part of a series' state. The first
samples of a series have fewer of them: a mean of what there is, a difference of zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.segments import Segments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream_detector.bundle import Transform

LIMIT = 1e150
"""Inputs are cut here, so that no difference or sum of some overflows."""
TINY = 1e-300
"""Logarithms are taken of at least this."""


class Transforms:
    """A chain; stage 0 is what came in, stage j what the j-th transform made of stage j - 1."""

    def __init__(self, rules: Sequence[Transform] = ()) -> None:
        self.rules = tuple(rules)

    @property
    def lookback(self) -> list[int]:
        """Inputs that each transform remembers."""
        return [rule.n - 1 if rule.kind == "trailing_mean" else 1 for rule in self.rules]

    def apply(
        self,
        history: Sequence[
            NDArray[np.float64]
        ],  # each [R, h, F], newest last, NaN: none yet; written
        segments: Segments,
        values: NDArray[np.float64],  # [m, F] without holes
        since: NDArray[np.float32],  # [m] ms since the sample before; 0 for a series' first
    ) -> list[NDArray[np.float64]]:  # stages, each [m, F]
        stages = [values.clip(-LIMIT, LIMIT) if self.rules else values]
        for rule, past, h in zip(self.rules, history, self.lookback, strict=True):
            x = stages[-1]
            flat = segments.flat(past[segments.row], x)
            start = segments.looking_back(h)
            if rule.kind == "trailing_mean":
                stages.append(_mean(flat, start, h))
            else:
                stages.append(_change(rule.kind, flat[start], x, since[:, None]))
            past[segments.row] = flat[start[segments.last][:, None] + 1 + np.arange(h)]
        return stages

    def expected(
        self,
        stages: Sequence[NDArray[np.float64]],  # each [F], of one sample
        since: float,
        expected: NDArray[np.float64],  # [F] in terms of the last stage
    ) -> NDArray[np.float64]:  # [F] in terms of stage 0
        """What would have had to come in for the last stage to be as expected."""
        result = expected
        for at in range(len(self.rules) - 1, -1, -1):
            rule, x, miss = self.rules[at], stages[at], result - stages[at + 1]
            if rule.kind == "log_difference":
                result = x * np.exp(np.minimum(miss, 300.0))  # more would leave the floats
            elif rule.kind == "rate":
                result = x + miss * (since / 1000.0)
            else:
                result = x + miss * rule.n
        return result


def _mean(flat: NDArray[np.float64], start: NDArray[np.int64], h: int) -> NDArray[np.float64]:
    """Mean of the last h + 1 values, of as many as there are; added one by one, oldest first."""
    total = np.zeros((len(start), flat.shape[1]))
    count = np.zeros_like(total)
    for back in range(h + 1):  # a sum's last bits depend on its order
        part = flat[start + back]
        there = ~np.isnan(part)
        np.add(total, part, out=total, where=there)
        count += there
    return total / count


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


def transformed(
    rules: Sequence[Transform],
    values: NDArray[np.float64],  # [n, F] one series, in time
    timestamp: NDArray[np.int64],  # [n] ms
) -> NDArray[np.float64]:  # [n, F]
    """A whole series at once, from its first sample on."""
    chain = Transforms(rules)
    history = [np.full((1, h, values.shape[1]), np.nan) for h in chain.lookback]
    since = np.diff(timestamp, prepend=timestamp[:1]).astype(np.float32)
    return chain.apply(history, Segments(np.zeros(len(values), np.int64)), values, since)[-1]
