"""Grouping a batch's samples by row, so that all rows advance at once, however often each occurs.

A batch is sorted by row, stably: the samples of a row form a segment in arrival order. A quantity
that looks back h values is computed on `flat`: for every segment its h newest old values and then
its new ones. Nothing depends on where the stream was cut into batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def heads(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[n] whether each is the first of its like, of rows one after another."""
    first = np.empty(len(rows), np.bool_)
    first[:1] = True
    np.not_equal(rows[1:], rows[:-1], out=first[1:])
    return first


class Segments:
    """`rows` ascending [n] as u segments."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        n = len(rows)
        first = heads(rows)
        self.start = np.flatnonzero(first)  # [u]
        self.count = np.diff(self.start, append=n)  # [u]
        self.row = rows[self.start]  # [u]
        self.of = np.cumsum(first) - 1  # [n] segment of each element
        self.nth = np.arange(n) - self.start[self.of]  # [n] place within the segment

    def __len__(self) -> int:
        return len(self.row)

    @property
    def last(self) -> NDArray[np.int64]:
        """[u] position of each segment's last element."""
        return self.start + self.count - 1

    def previous(self, values: NDArray[Any], before: NDArray[Any]) -> NDArray[Any]:
        """[n] the value before each element; `before` [u] for the first of each segment."""
        result = np.empty_like(values)
        result[1:] = values[:-1]
        result[self.start] = before
        return result

    def flat(self, history: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
        """history [u, h, ...] and new [n, ...] -> [u * h + n, ...], segment by segment.

        The h + 1 values that end with new element j begin at `looking_back(h)[j]`.
        """
        h = history.shape[1]
        result = np.empty((len(self) * h + len(new), *new.shape[1:]), new.dtype)
        at = (np.arange(len(self)) * h + self.start)[:, None] + np.arange(h)
        result[at] = history
        result[np.arange(len(new)) + h * (self.of + 1)] = new
        return result

    def looking_back(self, h: int) -> NDArray[np.int64]:
        return np.arange(len(self.of)) + h * self.of

    def forward_fill(
        self, values: NDArray[Any], before: NDArray[Any], begin: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """[n] floats; NaN takes the value before it in its segment, at the start `before` [u].

        Nothing is taken from before `begin` [n]; places below a segment's start lie before it.
        """
        place = np.where(np.isnan(values), -1, np.arange(len(values)))
        seen = np.maximum.accumulate(place)
        start, old = self.start[self.of], before[self.of]
        if begin is not None:
            old = np.where(begin < start, old, np.nan)
            start = np.maximum(start, begin)
        return np.where(seen >= start, values[np.maximum(seen, 0)], old)
