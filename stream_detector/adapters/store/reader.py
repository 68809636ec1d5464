"""Reads a normal store for the trainer: each sample once, damaged and foreign parts named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream_detector.adapters.store.layout import (
    DAY_MS,
    METADATA,
    group_folder,
    group_of,
    store_path,
)
from stream_detector.ports import Stored

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from stream_detector.config import Store

_NONE = np.zeros(0, np.int64)


class ParquetStoreReader:
    """Implements StoreReader for a folder that ParquetStore wrote."""

    def __init__(self, config: Store) -> None:
        self._root = store_path(config)

    def groups(self) -> list[str]:
        return sorted(group_of(path) for path in self._root.glob("group=*"))

    def newest(self, group: str) -> int | None:
        """End of the newest day that holds samples, ms UTC; None where there are none."""
        days = [path.parent.name[5:] for path in self._parts(group)]
        return (int(np.datetime64(max(days), "D").astype(np.int64)) + 1) * DAY_MS if days else None

    def _parts(self, group: str) -> list[Path]:
        return list(group_folder(self._root, group).glob("date=*/part-*.parquet"))

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
                columns = json.loads((table.schema.metadata or {})[METADATA])
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
