"""NDJSON: flat rows, or samples in the contract's form; one JSON object (or array of them) a line.

`{"timestamp": ..., "temp": 81.2}` is flat. A row with `values` or `value` is a sample: its numeric
`timestamp` is in milliseconds, as on a topic; that of a flat row is told by its size, as in CSV.
"""

from __future__ import annotations

import math
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from stream_detector.formats.tables.cells import Times
from stream_detector.formats.tables.errors import TableError
from stream_detector.formats.tables.layout import (
    Builder,
    Indices,
    Wanted,
    choose,
    usual_roles,
)
from stream_detector.formats.tables.table import BLOCK_ROWS, PEEK_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from stream_detector.formats.tables.files import DataFile
    from stream_detector.formats.tables.table import Table

Row = dict[str, Any]

_decode = msgspec.json.Decoder().decode


def is_sample(row: Row) -> bool:
    """Whether a row has the contract's form."""
    return "values" in row or "value" in row


def values_of(row: Row) -> Row:
    """Feature -> cell, of a sample or of a flat row (time and series included)."""
    values = row.get("values")
    if isinstance(values, dict):
        return values
    if isinstance(values, list):
        return {f"f{index}": cell for index, cell in enumerate(values)}
    return {"value": row["value"]} if "value" in row else row


def is_json_number(cell: object) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def numeric_names(rows: Iterable[Row]) -> dict[str, bool | None]:
    """Every name in order of appearance, and whether it holds numbers; None: it is always null.

    As in CSV, it does where no more cells are text.
    """
    counts: dict[str, list[int]] = {}
    for row in rows:
        for name, cell in values_of(row).items():
            count = counts.setdefault(name, [0, 0])
            if cell is not None:
                count[is_json_number(cell)] += 1
    return {
        name: numbers >= others if numbers + others else None
        for name, (others, numbers) in counts.items()
    }


def read_ndjson(source: DataFile, wanted: Wanted) -> Iterator[Table]:
    with source.open() as file:
        rows = _rows(source, file)
        peeked = list(islice(rows, PEEK_ROWS))
        if not peeked:
            return
        reader = _Blocks(source, [row for _, row in peeked], wanted)
        rows = chain(peeked, rows)
        while block := list(islice(rows, BLOCK_ROWS)):
            yield reader.table(block)


def _rows(source: DataFile, lines: Iterable[bytes]) -> Iterator[tuple[int, Row]]:
    """(number of the line, sample); empty lines are skipped and not counted."""
    number = -1
    for line in lines:
        text = line.removeprefix(b"\xef\xbb\xbf") if number < 0 else line
        if not text.strip():
            continue
        number += 1
        try:
            decoded = _decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TableError(source, f"not JSON: {error}", row=number) from error
        for row in decoded if isinstance(decoded, list) else [decoded]:
            if not isinstance(row, dict):
                raise TableError(source, "not a JSON object; one sample a line", row=number)
            yield number, row


class _Blocks:
    def __init__(self, source: DataFile, peeked: Sequence[Row], wanted: Wanted) -> None:
        self._source = source
        kinds = numeric_names(peeked)
        outer = dict.fromkeys(name for row in peeked for name in row)
        names = list(dict.fromkeys([*outer, *kinds, *(wanted.features or ())]))
        numeric = {name for name, is_numeric in kinds.items() if is_numeric}
        positional = (wanted.features or None) if any(_is_list(row) for row in peeked) else None
        if positional is None and wanted.features is not None:
            names = list(dict.fromkeys([*outer, *kinds]))
        self._layout = choose(source, names, numeric, wanted)
        self._positional = positional
        self._wanted = wanted
        self._guessed, self._given = Times(), Times("ms")
        self._indices = Indices()
        self._builder = Builder(source, self._layout.features)

    def table(self, block: list[tuple[int, Row]]) -> Table:
        values = np.empty((len(block), len(self._layout.features)))
        series, stamps = [], []
        for index, (line, row) in enumerate(block):
            series_key, time_key = usual_roles(tuple(row))
            series.append(self._series(line, row, self._wanted.series_column or series_key))
            time_key = self._wanted.timestamp_column or time_key
            stamps.append(self._time(line, row, time_key, series[-1]))
            values[index] = self._values(line, row)
        return self._builder.table(series, np.array(stamps, np.int64), values)

    def _series(self, line: int, row: Row, name: str | None) -> str:
        if name is None or name not in row:
            return self._source.stem
        if not isinstance(row[name], str) or not row[name]:
            raise TableError(self._source, "not a series name", row=line, column=name)
        return str(row[name])

    def _time(self, line: int, row: Row, name: str | None, series: str) -> int:
        if self._layout.timestamp is None:
            return self._indices.next_time(series)
        if name is None or name not in row:
            raise TableError(self._source, "no time; give every row one, or none", row=line)
        times = self._given if is_sample(row) and name == "timestamp" else self._guessed
        try:
            return times.one(row[name])
        except ValueError as error:
            raise TableError(self._source, str(error), row=line, column=name) from None

    def _values(self, line: int, row: Row) -> list[float]:
        cells = values_of(row)
        if self._positional is not None and _is_list(row):
            if len(self._positional) != len(cells):
                problem = f"{len(cells)} values for {len(self._positional)} features"
                raise TableError(self._source, problem, row=line)
            cells = dict(zip(self._positional, cells.values(), strict=True))
        label = self._wanted.label
        if label is not None and label not in cells:  # beside the values of a sample
            cells = {**cells, label: row.get(label)}
        return [self._number(line, name, cells.get(name)) for name in self._layout.features]

    def _number(self, line: int, name: str, cell: object) -> float:
        if cell is None:
            return math.nan
        if isinstance(cell, int | float):  # true and false too, where they were asked for
            try:
                return float(cell)
            except OverflowError:
                pass
        raise TableError(
            self._source,
            f"{str(cell)[:40]!r} is not a number; write null where the value is missing",
            row=line,
            column=name,
        )


def _is_list(row: Row) -> bool:
    return isinstance(row.get("values"), list)
