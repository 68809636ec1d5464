"""Rows of files -> samples as default JSON, one at a time, for whoever replays files as a stream.

A row that cannot be used becomes a sample that the decoder rejects: its text stays in it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from stream_detector.formats.tables.cells import Times, is_infinite, is_missing, is_number, number
from stream_detector.formats.tables.layout import (
    Indices,
    Layout,
    Wanted,
    choose,
    may_be_feature,
    usual_roles,
)
from stream_detector.formats.tables.ndjson import is_json_number, is_sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stream_detector.formats.tables.files import DataFile
    from stream_detector.formats.tables.table import Table

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_INFINITY = msgspec.Raw(b"Infinity")  # not JSON, but the decoder tells what it means


def first_row_layout(
    source: DataFile, names: Sequence[str], row: Sequence[str], wanted: Wanted
) -> Layout:
    """Layout told from one row alone: a column is a feature if its cell is a number or missing."""
    pairs = list(zip(names, row, strict=False))
    numeric = {name for name, cell in pairs if is_number(cell) or is_missing(cell)}
    return choose(source, names, numeric, wanted)


class DelimitedSamples:
    """Rows of one CSV file or pipe -> samples."""

    def __init__(self, stem: str, names: Sequence[str], layout: Layout) -> None:
        self._stem = stem
        self._width = len(names)
        position = {name: index for index, name in enumerate(names)}
        self._features = [(name, position[name]) for name in layout.features]
        self._series = None if layout.series is None else position[layout.series]
        self._timestamp = None if layout.timestamp is None else position[layout.timestamp]
        self._times = Times()
        self._indices = Indices()

    def encode(self, row: list[str]) -> bytes:
        """A row with too few or too many cells comes out as its text, which is not a sample."""
        if len(row) != self._width:
            return ",".join(row).encode()
        series = self._stem if self._series is None else row[self._series]
        return _encode(
            {
                "series": series,
                "timestamp": self._time(row, series),
                "values": {name: _number_or_text(row[at]) for name, at in self._features},
            }
        )

    def _time(self, row: list[str], series: str) -> int | str:
        if self._timestamp is None:
            return self._indices.next_time(series)
        cell = row[self._timestamp]
        try:
            return self._times.one(cell)
        except ValueError:
            return cell


def _number_or_text(cell: str) -> float | str | msgspec.Raw | None:
    try:
        return number(cell)
    except ValueError:
        return _INFINITY if is_infinite(cell) else cell


class JsonSamples:
    """Lines of one NDJSON file or pipe -> samples.

    A line in the contract's form stays as it is, byte for byte; what it lacks (series, timestamp)
    is added. A flat row is brought into that form. Anything else stays as it is.
    """

    def __init__(self, stem: str, wanted: Wanted, numeric: Mapping[str, bool | None]) -> None:
        """`numeric` says of names whether they are features; the first value decides of others."""
        self._stem = stem
        self._wanted = wanted
        self._numeric = {name: known for name, known in numeric.items() if known is not None}
        self._times = Times()
        self._indices = Indices()

    def encode(self, line: bytes) -> bytes:
        try:
            decoded = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return line
        if isinstance(decoded, list):
            items = [self._sample(item) for item in decoded]
            return line if all(map(_same, items, decoded)) else _encode(items)
        sample = self._sample(decoded)
        return line if sample is decoded else _encode(sample)

    def _sample(self, row: Any) -> Any:
        """The very same object where nothing has to change."""
        if not isinstance(row, dict) or not row:
            return row
        series_key, time_key = usual_roles(tuple(row))
        series_key = self._wanted.series_column or series_key
        time_key = self._wanted.timestamp_column or time_key
        complete = (series_key, time_key) == ("series", "timestamp")
        if complete and is_sample(row) and row.keys() >= {"series", "timestamp"}:
            return row
        series = self._stem if series_key is None else row.get(series_key, self._stem)
        stamp = self._time(row, time_key, series)
        if is_sample(row):
            return {**row, "series": series, "timestamp": stamp}
        return {
            "series": series,
            "timestamp": stamp,
            "values": self._values(row, (series_key, time_key)),
        }

    def _time(self, row: dict[str, Any], key: str | None, series: Any) -> Any:
        if key is None:
            return self._indices.next_time(str(series))
        cell = row.get(key)
        if is_sample(row) and key == "timestamp":
            return cell
        try:
            return self._times.one(cell)
        except ValueError:
            return cell

    def _values(self, row: dict[str, Any], taken: tuple[str | None, ...]) -> dict[str, Any]:
        if self._wanted.features is not None:
            return {name: row.get(name) for name in self._wanted.features}
        return {
            name: cell
            for name, cell in row.items()
            if name not in taken and may_be_feature(name) and self._is_feature(name, cell)
        }

    def _is_feature(self, name: str, cell: object) -> bool:
        if cell is None:
            return self._numeric.get(name, False)
        return self._numeric.setdefault(name, is_json_number(cell))


def _same(one: object, other: object) -> bool:
    return one is other


def table_samples(table: Table) -> Iterator[bytes]:
    """Samples of a table."""
    features = table.features
    rows = zip(table.series, table.timestamp.tolist(), table.values.tolist(), strict=True)
    for series, timestamp, values in rows:
        cells = {
            name: _INFINITY if math.isinf(value) else None if math.isnan(value) else value
            for name, value in zip(features, values, strict=True)
        }
        yield _encode({"series": series, "timestamp": timestamp, "values": cells})
