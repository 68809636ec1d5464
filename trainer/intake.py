"""Samples as they are read -> each series in time order, in bounded memory.

parts --memory is enough--> kept as they came
      --it is not---------> sorted runs in temporary files --merge--> pieces in time order
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainer.data import together
from trainer.rows import PIECE_VALUES
from trainer.spool import RowFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from trainer.data import Part

PART_BYTES = 400
"""What a part costs beside its numbers, about."""


class _Extent(NamedTuple):
    start: int  # row in the files
    stop: int


@dataclass(slots=True)
class _Run:
    """Extents of one series that are in time order one after another."""

    extents: list[_Extent]
    first: int  # ms
    last: int


class Intake:
    """Takes parts; hands out whole series where they fit into `memory` bytes, else pieces.

    Of equal times, the sample that was added first comes first.
    """

    def __init__(self, memory: int, width: int) -> None:
        """`width`: features and what else is kept of each sample."""
        self._memory = memory
        self._width = width
        self._held: dict[str, list[Part]] = {}
        self._bytes = 0
        self._runs: dict[str, list[_Run]] = {}
        self._times: RowFile | None = None
        self._values: RowFile | None = None

    @property
    def spilled(self) -> bool:
        """Whether samples were written to files."""
        return self._times is not None

    @property
    def names(self) -> list[str]:
        return sorted(self._held.keys() | self._runs.keys())

    def add(self, part: Part) -> None:
        """Raises DataError where the disk is full."""
        self._held.setdefault(part.name, []).append(part)
        self._bytes += part.timestamp.nbytes + part.values.nbytes + PART_BYTES
        if self._bytes > self._memory:
            self._spill()

    def take(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Times [n] and values [n, F] of a whole series as they came, once."""
        return together(self._held.pop(name))

    def sorted_pieces(
        self, name: str
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:  # [m] ms, [m, F]
        """The series in time order; no time comes twice. Everything must have been added."""
        if self._held:
            self._spill()
        latest: int | None = None
        for timestamp, values in self._merged(self._runs.get(name, [])):
            fresh = np.diff(timestamp, prepend=timestamp[0] - 1) != 0
            if latest is not None:
                fresh &= timestamp != latest
            latest = int(timestamp[-1])
            if fresh.any():
                yield timestamp[fresh], values[fresh]

    def close(self) -> None:
        for file in (self._times, self._values):
            if file is not None:
                file.close()

    def _spill(self) -> None:
        if self._times is None or self._values is None:
            self._times, self._values = RowFile(np.int64), RowFile(np.float64, (self._width,))
        for name in list(self._held):
            group: list[Part] = []
            size = 0
            for part in self._held.pop(name):
                group.append(part)
                size += part.values.size
                if size >= PIECE_VALUES:
                    self._write(name, group)
                    group, size = [], 0
            if group:
                self._write(name, group)
        self._bytes = 0

    def _write(self, name: str, parts: Sequence[Part]) -> None:
        assert self._times is not None
        assert self._values is not None
        timestamp, values = together(parts)
        if (np.diff(timestamp) < 0).any():
            order = np.argsort(timestamp, kind="stable")
            timestamp, values = timestamp[order], values[order]
        extent = _Extent(len(self._times), len(self._times) + len(timestamp))
        self._times.append(timestamp)
        self._values.append(values)
        runs = self._runs.setdefault(name, [])
        first, last = int(timestamp[0]), int(timestamp[-1])
        if runs and runs[-1].last <= first:
            runs[-1].extents.append(extent)
            runs[-1].last = last
        else:
            runs.append(_Run([extent], first, last))

    def _merged(
        self, runs: Sequence[_Run]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """k-way merge by pieces: all up to the time to which every open run has been read."""
        assert self._times is not None
        assert self._values is not None
        rows = max(PIECE_VALUES // self._width // max(len(runs), 1), 1)
        order = sorted(range(len(runs)), key=lambda number: runs[number].first)
        waiting = deque(order)
        open_runs: dict[int, _Reader] = {}
        while waiting or open_runs:
            if not open_runs:
                self._open(waiting, runs, rows, open_runs)
            limit = min(reader.certain for reader in open_runs.values())
            while waiting and runs[waiting[0]].first <= limit:
                limit = min(limit, self._open(waiting, runs, rows, open_runs))
            taken = [open_runs[number].take(limit) for number in sorted(open_runs)]
            timestamp = np.concatenate([times for times, _ in taken])
            values = np.concatenate([part for _, part in taken])
            if len(taken) > 1:
                by_time = np.argsort(timestamp, kind="stable")
                timestamp, values = timestamp[by_time], values[by_time]
            yield timestamp, values
            open_runs = {number: one for number, one in open_runs.items() if not one.exhausted}

    def _open(
        self, waiting: deque[int], runs: Sequence[_Run], rows: int, into: dict[int, _Reader]
    ) -> int:
        """Start on the next run; returns the time up to which it has been read."""
        assert self._times is not None
        assert self._values is not None
        number = waiting.popleft()
        into[number] = _Reader(self._times, self._values, runs[number].extents, rows)
        return into[number].certain


END_OF_TIME = 2**63 - 1


class _Reader:
    """One run, read so many rows at a time."""

    def __init__(
        self, times: RowFile, values: RowFile, extents: Sequence[_Extent], rows: int
    ) -> None:
        self._times, self._values = times, values
        self._spans = deque(
            (start, min(start + rows, extent.stop))
            for extent in extents
            for start in range(extent.start, extent.stop, rows)
        )
        self._timestamp, self._part = self._next()

    @property
    def certain(self) -> int:
        """No later piece has an earlier time."""
        return int(self._timestamp[-1]) if self._spans else END_OF_TIME

    @property
    def exhausted(self) -> bool:
        return not self._spans and not len(self._timestamp)

    def take(self, limit: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """What has been read up to that time; reads on where that was all."""
        count = int(np.searchsorted(self._timestamp, limit, side="right"))
        found = self._timestamp[:count], self._part[:count]
        self._timestamp, self._part = self._timestamp[count:], self._part[count:]
        if not len(self._timestamp) and self._spans:
            self._timestamp, self._part = self._next()
        return found

    def _next(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        span = self._spans.popleft()
        return self._times.read(*span), self._values.read(*span)
