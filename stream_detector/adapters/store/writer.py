"""Writes the normal store off the hot path: a queue, a thread, whole files, bounded memory."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream_detector.adapters.store.layout import DAY_MS, METADATA, group_folder, store_path
from stream_detector.config import milliseconds
from stream_detector.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stream_detector.config import Store
    from stream_detector.records import Partition, Verdicts

_OWN = ("series", "timestamp", "level", "anomalous", "model_version")
_OFFSET = "__offset"  # names the part, is not written
_LONGEST_WAIT = 60.0  # s between attempts


class StoreStats(NamedTuple):
    written_rows: int
    parts: int
    dropped_rows: int
    failures: int  # attempts to write a part that failed
    pending_rows: int
    last_error: str  # empty where the last attempt succeeded


class ParquetStore:
    """Implements NormalStore: `record` queues, a thread writes.

    At most `max_pending_rows` rows wait in memory, so a store that is down costs bounded memory:
    what comes while they are full is dropped and counted, the oldest are written when it is back.
    Rows that were not written when the process dies are lost: the store is a sample of normal data,
    not a log. `features` may be filled later; samples of a group that it lacks are dropped.
    """

    def __init__(
        self,
        config: Store,
        features: Mapping[str, Sequence[str]],
        *,
        max_pending_rows: int = 1_000_000,
        clock: Callable[[], float] = time.monotonic,
        look_every: float = 0.25,
    ) -> None:
        self._root = store_path(config)
        self._features = features
        self._part_rows = config.part_rows
        self._part_every = milliseconds(config.part_every) / 1000
        self._max_pending = max_pending_rows
        self._clock = clock
        self._look_every = look_every
        self._lock = threading.Lock()  # held for a few assignments, never while writing
        self._inbox: deque[Verdicts] = deque()
        self._pending = 0
        self._written = self._parts = self._dropped = self._failures = 0
        self._last_error = ""
        self._open: dict[tuple[str, Partition], _Open] = {}
        self._ready: deque[_Part] = deque()
        self._retry_at = self._wait = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="normal-store", daemon=True)
        self._thread.start()

    def record(self, verdicts: Verdicts) -> None:
        """Queue the accepted samples; the arrays must not be changed afterwards."""
        rows = int(np.count_nonzero(verdicts.outcome == Outcome.ACCEPTED))
        if rows == 0:
            return
        with self._lock:
            if self._pending + rows > self._max_pending or self._stop.is_set():
                self._dropped += rows
                return
            self._pending += rows
            self._inbox.append(verdicts)

    def stats(self) -> StoreStats:
        with self._lock:
            return StoreStats(
                self._written,
                self._parts,
                self._dropped,
                self._failures,
                self._pending,
                self._last_error,
            )

    def close(self, timeout: float = 30.0) -> None:
        """Write what is buffered; what cannot be written now is dropped and counted."""
        self._stop.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stop.wait(self._look_every):
            self._turn(everything=False)
        self._turn(everything=True)
        while self._ready:
            self._settle(self._ready.popleft().table.num_rows, written=False)

    def _turn(self, *, everything: bool) -> None:
        now = self._clock()
        while self._inbox:
            with self._lock:
                verdicts = self._inbox.popleft()
            self._take(verdicts, now)
        crowded = sum(part.rows for part in self._open.values()) * 2 >= self._max_pending
        for key, part in list(self._open.items()):
            if everything or crowded or now - part.since >= self._part_every:
                self._cut(key)
        if self._ready and (everything or now >= self._retry_at):
            self._write_ready(now)

    def _take(self, verdicts: Verdicts, now: float) -> None:
        """Add a batch to the open part of its group and partition."""
        batch = verdicts.batch
        keep = np.flatnonzero(verdicts.outcome == Outcome.ACCEPTED)
        features = self._features.get(batch.group)
        if features is None:
            error = f"the features of group {batch.group!r} are not known"
            self._settle(len(keep), written=False, error=error)
            return
        try:
            rows = _record_batch(verdicts, keep, features)
        except (pa.ArrowException, ValueError, TypeError) as problem:
            self._settle(len(keep), written=False, error=str(problem))
            return
        first, last = int(batch.offset[keep[0]]), int(batch.offset[keep[-1]])
        key = (batch.group, batch.partition)
        part = self._open.get(key)
        # An offset that comes again (a restart within this process) starts a part of its own, which
        # then replaces the one of the same name.
        if part is not None and (
            first <= part.last
            or part.rows + len(keep) > self._part_rows
            or part.features != features
        ):
            self._cut(key)
            part = None
        if part is None:
            part = self._open[key] = _Open(now, features)
        part.batches.append(rows)
        part.rows += len(keep)
        part.last = last
        if part.rows >= self._part_rows:
            self._cut(key)

    def _cut(self, key: tuple[str, Partition]) -> None:
        """Turn an open part into files, one a day of its samples, `part_rows` at most in each."""
        group, partition = key
        table = pa.Table.from_batches(self._open.pop(key).batches).unify_dictionaries()
        days = table["timestamp"].cast(pa.int64()).to_numpy() // DAY_MS
        folder = group_folder(self._root, group)
        topic = quote(partition.topic, safe="")
        for day in np.unique(days):
            of_day = table.filter(pa.array(days == day))
            offsets = of_day[_OFFSET].to_numpy()
            of_day = of_day.drop_columns([_OFFSET])
            for start, stop in _pieces(offsets, self._part_rows):
                name = f"part-{topic}-{partition.number}-{offsets[start]}.parquet"
                path = folder / f"date={np.datetime64(int(day), 'D')}" / name
                self._ready.append(_Part(path, of_day.slice(start, stop - start)))

    def _write_ready(self, now: float) -> None:
        """Write until all is written or one fails; that one goes to the end of the queue."""
        for _ in range(len(self._ready)):
            part = self._ready.popleft()
            try:
                _write(part)
            except OSError as error:  # disk full, no permission, share gone: may pass
                self._ready.append(part)
                self._wait = min(max(1.0, self._wait * 2), _LONGEST_WAIT)
                self._retry_at = now + self._wait
                with self._lock:
                    self._failures += 1
                    self._last_error = f"{part.path}: {error.strerror or error}"
                return
            except (pa.ArrowException, ValueError) as error:  # will fail again
                self._settle(part.table.num_rows, written=False, error=f"{part.path}: {error}")
                continue
            self._wait = self._retry_at = 0.0
            self._settle(part.table.num_rows, written=True)

    def _settle(self, rows: int, *, written: bool, error: str = "") -> None:
        with self._lock:
            self._pending -= rows
            if written:
                self._written += rows
                self._parts += 1
                self._last_error = ""
            else:
                self._dropped += rows
            if error:
                self._failures += 1
                self._last_error = error


@dataclass(slots=True)
class _Open:
    """Rows of one group and partition that have no file yet."""

    since: float
    features: Sequence[str]
    batches: list[Any] = field(default_factory=list)
    rows: int = 0
    last: int = -1


class _Part(NamedTuple):
    path: Path
    table: Any


def _columns(features: Sequence[str]) -> dict[str, str]:
    """Feature -> column: its own name, with underscores where that is taken."""
    taken = set(_OWN) | {_OFFSET} | set(features)
    columns = {}
    for feature in features:
        column = feature
        if feature in _OWN or feature == _OFFSET:
            while column in taken:
                column += "_"
        taken.add(column)
        columns[feature] = column
    return columns


def _record_batch(verdicts: Verdicts, keep: NDArray[np.intp], features: Sequence[str]) -> Any:
    batch = verdicts.batch
    names = [batch.series[i] for i in keep.tolist()]
    try:
        series = pa.array(names, pa.string())
    except UnicodeEncodeError:  # half a surrogate pair: legal in JSON, not in UTF-8
        series = pa.array([name.encode("utf-8", "replace").decode() for name in names], pa.string())
    columns = _columns(features)
    values = batch.values[keep].T
    model = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(len(keep), np.int32)), pa.array([verdicts.model_version], pa.string())
    )
    arrays = {
        "series": series.dictionary_encode(),
        "timestamp": pa.array(batch.timestamp[keep], pa.timestamp("ms", "UTC")),
        **{
            columns[feature]: pa.array(np.ascontiguousarray(column))
            for feature, column in zip(features, values, strict=True)
        },
        "level": pa.array(verdicts.level[keep].astype(np.float64)),
        "anomalous": pa.array(verdicts.anomalous[keep]),
        "model_version": model,
        _OFFSET: pa.array(batch.offset[keep]),
    }
    metadata = {METADATA: json.dumps(columns).encode()}
    return pa.RecordBatch.from_arrays(
        list(arrays.values()),
        schema=pa.schema([(name, array.type) for name, array in arrays.items()], metadata),
    )


def _pieces(offsets: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Cut rows into pieces of `most`, only where a record ends: two parts share no offset."""
    ends = np.append(np.flatnonzero(np.diff(offsets)) + 1, len(offsets))
    start = 0
    while start < len(offsets):
        fitting = ends[(ends > start) & (ends <= start + most)]
        stop = int(fitting[-1] if len(fitting) else ends[ends > start][0])
        yield start, stop
        start = stop


def _write(part: _Part) -> None:
    """The file appears whole: it is written under another name in the same folder, then renamed."""
    part.path.parent.mkdir(parents=True, exist_ok=True)
    staging = part.path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        with staging.open("wb") as file:
            pq.write_table(part.table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        staging.replace(part.path)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise
