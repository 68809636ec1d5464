"""The normal store: a Parquet dataset of what the detector saw, beside its verdict.

    URL/group=NAME/date=YYYY-MM-DD/part-TOPIC-PARTITION-FIRSTOFFSET.parquet

The only file that knows pyarrow's side of the store: the writer for the detector (off the hot path)
and the reader that the trainer is given. Names in paths are percent-encoded.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream_detector.config import ConfigError, milliseconds
from stream_detector.ports import Stored
from stream_detector.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from stream_detector.config import Store
    from stream_detector.records import Partition, Verdicts

DAY_MS = 86_400_000
_OWN = ("series", "timestamp", "level", "anomalous", "model_version")
_OFFSET = "__offset"  # names the part, is not written
_METADATA = b"stream_detector.features"  # JSON {feature: column}, in feature order
_LONGEST_WAIT = 60.0  # s between attempts
_NONE = np.zeros(0, np.int64)


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
        folder = self._root / f"group={quote(group, safe='')}"
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


def store_path(config: Store) -> Path:
    """The folder of the store. Raises ConfigError where the URL is not a local one."""
    if config.url is None:
        raise ConfigError("store.url: not set; name the folder of the normal store")
    parts = urlsplit(config.url)
    if parts.scheme == "file" and not parts.netloc:
        return Path(unquote(parts.path))
    if "://" in config.url:
        raise ConfigError(f"store.url: {parts.scheme}:// is not supported; name a local folder")
    return Path(config.url)


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
    metadata = {_METADATA: json.dumps(columns).encode()}
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


class ParquetStoreReader:
    """Implements StoreReader for a folder that ParquetStore wrote."""

    def __init__(self, config: Store) -> None:
        self._root = store_path(config)

    def groups(self) -> list[str]:
        return sorted(unquote(path.name[6:]) for path in self._root.glob("group=*"))

    def newest(self, group: str) -> int | None:
        """End of the newest day that holds samples, ms UTC; None where there are none."""
        days = [path.parent.name[5:] for path in self._parts(group)]
        return (int(np.datetime64(max(days), "D").astype(np.int64)) + 1) * DAY_MS if days else None

    def _parts(self, group: str) -> list[Path]:
        folder = self._root / f"group={quote(group, safe='')}"
        return list(folder.glob("date=*/part-*.parquet"))

    def read(self, group: str, since: int | None = None) -> Stored:
        """Samples of a group from `since` (ms UTC) on, ordered, each once: the last part wins.

        The features are those of the newest part; parts with others, and files that cannot be
        read, are left out and named in `skipped`.
        """
        start = -(2**63) if since is None else since
        first_day = "" if since is None else f"date={np.datetime64(since // DAY_MS, 'D')}"
        paths = [path for path in self._parts(group) if path.parent.name >= first_day]
        paths.sort(key=_written)
        features: tuple[str, ...] | None = None
        pieces: list[_Piece] = []
        skipped: list[str] = []
        codes: dict[str, int] = {}
        for path in reversed(paths):
            try:
                table = pq.ParquetFile(path).read()
                columns = json.loads((table.schema.metadata or {})[_METADATA])
            except (OSError, pa.ArrowException, KeyError, ValueError) as error:
                skipped.append(f"{path}: {error}")
                continue
            if features is None:
                features = tuple(columns)
            if tuple(columns) != features:
                skipped.append(f"{path}: other features: {', '.join(columns)}")
                continue
            pieces.append(_piece(table, columns, codes))
        return _stored(features or (), list(codes), pieces[::-1], skipped, start)


def _written(path: Path) -> tuple[int, str, int]:
    """In order of writing; a file system's clock is coarse, offsets within a partition are not."""
    partition, _, offset = path.stem.rpartition("-")
    return path.stat().st_mtime_ns, partition, int(offset) if offset.isdecimal() else -1


class _Piece(NamedTuple):
    code: NDArray[np.int64]  # [n] number of the series, in order of appearance
    timestamp: NDArray[np.int64]  # [n] ms
    values: NDArray[np.float64]  # [n, F]
    level: NDArray[np.float64]  # [n]
    anomalous: NDArray[np.bool_]  # [n]


def _piece(table: Any, columns: Mapping[str, str], codes: dict[str, int]) -> _Piece:
    series = table["series"].combine_chunks()
    if not isinstance(series, pa.DictionaryArray):
        series = series.dictionary_encode()
    names = series.dictionary.to_pylist()
    lookup = np.array([codes.setdefault(name, len(codes)) for name in names], np.int64)
    return _Piece(
        lookup[series.indices.to_numpy(zero_copy_only=False)],
        table["timestamp"].cast(pa.int64()).to_numpy(),
        np.stack([table[column].to_numpy() for column in columns.values()], axis=1),
        table["level"].to_numpy(),
        table["anomalous"].to_numpy(),
    )


def _stored(
    features: tuple[str, ...],
    names: list[str],
    pieces: list[_Piece],
    skipped: list[str],
    since: int,
) -> Stored:
    """Pieces in the order they were written -> rows by series and time, each once."""
    by_name = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names), np.int64)
    rank[by_name] = np.arange(len(names))
    empty = _Piece(_NONE, _NONE, np.zeros((0, len(features))), np.zeros(0), _NONE.astype(np.bool_))
    rows = _Piece(*(np.concatenate(column) for column in zip(*pieces, empty, strict=True)))
    code = rank[rows.code]
    order = np.lexsort((np.arange(len(code)), rows.timestamp, code))
    differs = (np.diff(code[order]) != 0) | (np.diff(rows.timestamp[order]) != 0)
    last = np.append(differs, np.ones(min(1, len(order)), np.bool_))
    order = order[last & (rows.timestamp[order] >= since)]
    return Stored(
        features=features,
        series=tuple(names[place] for place in by_name),
        code=code[order],
        timestamp=rows.timestamp[order],
        values=rows.values[order],
        level=rows.level[order],
        anomalous=rows.anomalous[order],
        skipped=tuple(reversed(skipped)),
    )
