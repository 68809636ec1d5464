"""Sorted runs of one series in temporary files -> the series in time order, piece by piece.

A k-way merge: each round hands out all up to the time to which every open run has been read.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainer.reading.rows import PIECE_VALUES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.reading.spool import Piece, SampleFiles

END_OF_TIME = 2**63 - 1


@dataclass(slots=True)
class SortedRun:
    """Stretches of rows that are in time order one after another."""

    spans: list[tuple[int, int]]  # first row and the one behind the last
    first: int  # ms
    last: int


def merged(files: SampleFiles, runs: Sequence[SortedRun], width: int) -> Iterator[Piece]:
    """All samples in time order. Of equal times, those of the run that is named first come first.

    Holds about PIECE_VALUES values, however many runs overlap.
    """
    rows = max(PIECE_VALUES // width // max(len(runs), 1), 1)
    waiting = deque(sorted(range(len(runs)), key=lambda number: runs[number].first))
    reading: dict[int, _Reader] = {}
    while waiting or reading:
        limit = min((one.certain for one in reading.values()), default=END_OF_TIME)
        while waiting and (not reading or runs[waiting[0]].first <= limit):
            number = waiting.popleft()
            reading[number] = _Reader(files, runs[number].spans, rows)
            limit = min(limit, reading[number].certain)
        taken = [reading[number].take(limit) for number in sorted(reading)]
        timestamp = np.concatenate([times for times, _ in taken])
        values = np.concatenate([part for _, part in taken])
        if len(taken) > 1:
            order = np.argsort(timestamp, kind="stable")
            timestamp, values = timestamp[order], values[order]
        yield timestamp, values
        reading = {number: one for number, one in reading.items() if not one.exhausted}


class _Reader:
    """One run, read so many rows at a time."""

    def __init__(self, files: SampleFiles, spans: Sequence[tuple[int, int]], rows: int) -> None:
        self._files = files
        self._ahead = deque(
            (at, min(at + rows, stop)) for start, stop in spans for at in range(start, stop, rows)
        )
        self._timestamp, self._values = files.read(*self._ahead.popleft())

    @property
    def certain(self) -> int:
        """No later piece has an earlier time."""
        return int(self._timestamp[-1]) if self._ahead else END_OF_TIME

    @property
    def exhausted(self) -> bool:
        return not self._ahead and not len(self._timestamp)

    def take(self, limit: int) -> Piece:
        """What has been read up to that time; reads on where that was all."""
        count = int(np.searchsorted(self._timestamp, limit, side="right"))
        found = self._timestamp[:count], self._values[:count]
        self._timestamp, self._values = self._timestamp[count:], self._values[count:]
        if not len(self._timestamp) and self._ahead:
            self._timestamp, self._values = self._files.read(*self._ahead.popleft())
        return found
