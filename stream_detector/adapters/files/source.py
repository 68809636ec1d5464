"""Files, folders and stdin as a source. Reads and waits; formats.tables tells what a row means."""

from __future__ import annotations

import os
import select
import sys
import time
from collections import deque
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stream_detector.formats.tables import TableError
from stream_detector.formats.tables.layout import Wanted
from stream_detector.formats.tables.lines import LineSplitter
from stream_detector.formats.tables.paths import data_files
from stream_detector.formats.tables.stream import PipedSamples, file_samples
from stream_detector.ports import Polled, SourceError
from stream_detector.records import UNKNOWN_TIME, Partition, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from stream_detector.ports import Position

_PIECE = 65_536  # bytes taken from a pipe at once
STDIN_NAME = "stdin"


class FileSource:
    """A file, a folder or archive of files, or stdin (`-`) as a source; a file is a partition.

    Each row is a record in the default JSON form, whatever the file's format; its topic is the
    file's path below the folder (or its name; `stdin`), its offset the number of the row, its key
    the file's stem. Rows without a series get that stem. `unchanged` hands lines of NDJSON on as
    they are, for a decoder that was given other field paths.

    Raises SourceError where nothing can be read.
    """

    def __init__(
        self,
        path: Path | Literal["-"],
        *,
        series_column: str | None = None,
        timestamp_column: str | None = None,
        features: Sequence[str] | None = None,
        array: str | None = None,
        unchanged: bool = False,
        stdin: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`array` is the one to read of npz files that hold several.

        `stdin` is the file descriptor that `-` stands for; None: the process's own.
        """
        named = None if features is None else tuple(features)
        wanted = Wanted(series_column, timestamp_column, named, array=array)
        self._assigned: set[Partition] = set()
        self._acknowledged: dict[Partition, Position] = {}
        self._problem: TableError | None = None
        self._records: _Files | _Pipe
        try:
            if path == "-":
                descriptor = sys.stdin.fileno() if stdin is None else stdin
                samples = PipedSamples(STDIN_NAME, wanted, unchanged=unchanged)
                self._records = _Pipe(descriptor, samples, clock)
            else:
                self._records = _Files(Path(path), wanted, unchanged=unchanged)
        except TableError as error:
            raise SourceError(str(error)) from error

    @property
    def acknowledged(self) -> Mapping[Partition, Position]:
        """The newest position of each file; nothing is committed anywhere."""
        return dict(self._acknowledged)

    def poll(self, timeout: float, max_records: int) -> Polled:
        """At most `max_records`; only a pipe ever waits, and not for more than one line."""
        if self._problem is not None:
            raise SourceError(str(self._problem)) from self._problem
        records: list[Record] = []
        finished = False
        try:
            finished = self._records.read(timeout, max_records, records)
        except TableError as error:
            # What came before it is still good; it is raised by the next poll.
            self._problem = error
            if not records:
                raise SourceError(str(error)) from error
        fresh = {Partition(record.topic, record.partition) for record in records} - self._assigned
        self._assigned |= fresh
        return Polled(records or (), assigned=frozenset(fresh), finished=finished)

    def acknowledge(self, positions: Mapping[Partition, Position]) -> None:
        self._acknowledged.update(positions)

    def unassigned(self) -> frozenset[Partition]:
        return frozenset()

    def lag(self) -> Mapping[Partition, int]:
        """Nothing: how many rows a file has is known at its end."""
        return {}

    def partitions(self) -> Mapping[str, int]:
        return {}

    def drained(self, partitions: Collection[Partition]) -> frozenset[Partition]:  # noqa: ARG002
        """None: time in a file passes with its rows alone."""
        return frozenset()

    def close(self) -> None:
        self._records.close()


class _Files:
    def __init__(self, path: Path, wanted: Wanted, *, unchanged: bool) -> None:
        folder = path if path.is_dir() else path.parent
        self._files = [
            (file, file.place.relative_to(folder).as_posix()) for file in data_files(path)
        ]
        self._rows = self._all(wanted, unchanged=unchanged)

    def _all(self, wanted: Wanted, *, unchanged: bool) -> Iterator[Record]:
        for file, topic in self._files:
            key = file.stem.encode("utf-8", "replace")
            for offset, value in enumerate(file_samples(file, wanted, unchanged=unchanged)):
                yield Record(topic, 0, offset, UNKNOWN_TIME, key, value)

    def read(self, timeout: float, max_records: int, into: list[Record]) -> bool:  # noqa: ARG002  files never wait
        for record in islice(self._rows, max_records):
            into.append(record)  # noqa: PERF402  what was read stays when the next row raises
        return len(into) < max_records

    def close(self) -> None:
        self._rows.close()  # type: ignore[attr-defined]  # a generator: closes the open file


class _Pipe:
    def __init__(self, descriptor: int, samples: PipedSamples, clock: Callable[[], float]) -> None:
        self._descriptor = descriptor
        self._samples = samples
        self._clock = clock
        self._splitter = LineSplitter()
        self._lines: deque[bytes] = deque()
        self._ended = False
        self._offset = 0

    def read(self, timeout: float, max_records: int, into: list[Record]) -> bool:
        deadline = self._clock() + timeout
        self._take(max_records, into)
        while not into and not self._ended:
            left = max(0.0, deadline - self._clock())
            if not select.select([self._descriptor], [], [], left)[0]:
                break
            self._receive()
            self._take(max_records, into)
            if self._clock() >= deadline:
                break
        return self._ended and not self._lines

    def _receive(self) -> None:
        try:
            piece = os.read(self._descriptor, _PIECE)
        except OSError as error:
            raise TableError(STDIN_NAME, error.strerror or str(error)) from error
        if piece:
            self._lines.extend(self._splitter.push(piece))
        else:
            self._ended = True
            self._lines.extend(self._splitter.finish())

    def _take(self, max_records: int, into: list[Record]) -> None:
        while self._lines and len(into) < max_records:
            value = self._samples.encode(self._lines.popleft())
            if value is not None:
                key = STDIN_NAME.encode()
                into.append(Record(STDIN_NAME, 0, self._offset, UNKNOWN_TIME, key, value))
                self._offset += 1

    def close(self) -> None:
        """The descriptor belongs to whoever opened it."""
