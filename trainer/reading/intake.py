"""Samples as they are read -> each series in time order, in bounded memory.

parts --memory is enough--> kept as they came
      --it is not---------> sorted runs in temporary files --merged--> pieces in time order
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.data import together
from trainer.reading.merging import SortedRun, merged
from trainer.reading.rows import PIECE_VALUES
from trainer.reading.spool import SampleFiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.data import Part
    from trainer.reading.spool import Piece

PART_BYTES = 400
"""What a part costs beside its numbers, about."""


class Intake:
    """Takes parts; hands out whole series where they fit into `memory` bytes, else pieces.

    Of equal times, the sample that was added first is kept.
    """

    def __init__(self, memory: int, width: int) -> None:
        """`width`: features and what else is kept of each sample."""
        self._memory = memory
        self._width = width
        self._held: dict[str, list[Part]] = {}
        self._bytes = 0
        self._runs: dict[str, list[SortedRun]] = {}
        self._files: SampleFiles | None = None

    @property
    def spilled(self) -> bool:
        """Whether samples were written to files."""
        return self._files is not None

    @property
    def names(self) -> list[str]:
        return sorted(self._held.keys() | self._runs.keys())

    def add(self, part: Part) -> None:
        """Raises DataError where the disk is full."""
        self._held.setdefault(part.name, []).append(part)
        self._bytes += part.timestamp.nbytes + part.values.nbytes + PART_BYTES
        if self._bytes > self._memory:
            self._spill()

    def take(self, name: str) -> Piece:
        """A whole series as it came, once; only where nothing was written to files."""
        return together(self._held.pop(name))

    def sorted_pieces(self, name: str) -> Iterator[Piece]:
        """A series in time order; no time comes twice. Everything must have been added."""
        files = self._spill()
        latest: int | None = None
        for timestamp, values in merged(files, self._runs.get(name, []), self._width):
            fresh = np.diff(timestamp, prepend=timestamp[0] - 1) != 0
            if latest is not None:
                fresh &= timestamp != latest
            latest = int(timestamp[-1])
            if fresh.any():
                yield timestamp[fresh], values[fresh]

    def _spill(self) -> SampleFiles:
        """Write what is held; of each series in groups, so that sorting needs little memory."""
        if self._files is None:
            self._files = SampleFiles.of(self._width)
        for name in list(self._held):
            group: list[Part] = []
            size = 0
            for part in self._held.pop(name):
                group.append(part)
                size += part.values.size
                if size >= PIECE_VALUES:
                    self._write(self._files, name, group)
                    group, size = [], 0
            if group:
                self._write(self._files, name, group)
        self._bytes = 0
        return self._files

    def _write(self, files: SampleFiles, name: str, parts: Sequence[Part]) -> None:
        timestamp, values = together(parts)
        if (timestamp[1:] < timestamp[:-1]).any():
            order = np.argsort(timestamp, kind="stable")
            timestamp, values = timestamp[order], values[order]
        start = len(files.times)
        files.append(timestamp, values)
        span, first, last = (start, len(files.times)), int(timestamp[0]), int(timestamp[-1])
        runs = self._runs.setdefault(name, [])
        if runs and runs[-1].last <= first:
            runs[-1].spans.append(span)
            runs[-1].last = last
        else:
            runs.append(SortedRun([span], first, last))
