"""Samples of a series wherever they lie: what training asks of them, in memory or on disk.

Training reads in pieces of bounded size, so that how many samples there are is a matter of disk.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

PIECE_VALUES = 1 << 22
"""Values that are read at once, about: 32 MiB."""


@dataclass(frozen=True, slots=True)
class Lazy:
    """Rows that are not read before `read` is called; a slice of them is as lazy."""

    fetch: Callable[[int, int], NDArray[Any]]  # first row and the one behind the last -> [n, ...]
    start: int
    stop: int
    width: int  # F

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.width

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, rows: slice) -> Lazy:
        first, last, step = rows.indices(len(self))
        assert step == 1
        return replace(self, start=self.start + first, stop=self.start + max(first, last))

    def read(self) -> NDArray[Any]:
        return self.fetch(self.start, self.stop)


Rows = Lazy | np.ndarray[Any, Any]
"""[n, F] float64 values, or [n] int64 ms, of consecutive samples."""


class Series(Protocol):
    """One series in time order, complete: every value is finite and no time comes twice."""

    @property
    def name(self) -> str: ...
    @property
    def timestamp(self) -> Rows: ...  # [n] ms UTC, ascending
    @property
    def values(self) -> Rows: ...  # [n, F]
    @property
    def breaks(self) -> NDArray[np.int64]:
        """Rows that begin a new run, after something was cut out; no window crosses them."""

    @property
    def interval(self) -> float:
        """Median ms between samples; 0 where there is only one."""

    def __len__(self) -> int: ...


class SeriesSet(Protocol):
    """What can be learnt from."""

    @property
    def features(self) -> list[str]: ...
    @property
    def series(self) -> Sequence[Series]: ...  # by name


def read(rows: Rows) -> NDArray[Any]:
    """The rows in memory."""
    return rows.read() if isinstance(rows, Lazy) else rows


def joined(parts: Sequence[Rows]) -> Rows:
    """One after another; in memory where all of them are."""
    if len(parts) == 1:
        return parts[0]
    if not any(isinstance(part, Lazy) for part in parts):
        return np.concatenate([read(part) for part in parts])
    ends = list(accumulate(map(len, parts)))

    def fetch(start: int, stop: int) -> NDArray[Any]:
        found = []
        first = min(bisect_right(ends, start), len(parts) - 1)
        for part, end in zip(parts[first:], ends[first:], strict=True):
            begin = end - len(part)
            found.append(read(part[max(start - begin, 0) : max(stop - begin, 0)]))
            if end >= stop:
                break
        return np.concatenate(found)

    return Lazy(fetch, 0, ends[-1], parts[0].shape[1])


def pieces(rows: Rows, multiple: int = 1) -> Iterator[NDArray[Any]]:
    """All rows in pieces of about PIECE_VALUES, of a multiple of so many rows but for the last."""
    width = rows.shape[1] if len(rows.shape) > 1 else 1
    step = max(PIECE_VALUES // max(width, 1) // multiple, 1) * multiple
    for start in range(0, len(rows), step):
        yield read(rows[start : start + step])
