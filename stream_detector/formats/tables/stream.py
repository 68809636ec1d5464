"""Files and pipes -> samples as default JSON, in the order of their rows."""

from __future__ import annotations

import csv
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from stream_detector.formats.tables.arrays import read_npy, read_npz
from stream_detector.formats.tables.delimited import (
    headless_names,
    open_delimited,
    sniff,
    split_lines,
)
from stream_detector.formats.tables.errors import TableError
from stream_detector.formats.tables.files import DataFile
from stream_detector.formats.tables.lines import LineSplitter
from stream_detector.formats.tables.ndjson import numeric_names
from stream_detector.formats.tables.parquet import read_parquet
from stream_detector.formats.tables.paths import DELIMITED, NDJSON
from stream_detector.formats.tables.samples import (
    DelimitedSamples,
    JsonSamples,
    first_row_layout,
    table_samples,
)
from stream_detector.formats.tables.table import PEEK_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stream_detector.formats.tables.layout import Wanted

_PIECE = 1 << 18  # bytes read at once
_BOM = b"\xef\xbb\xbf"
_TABLES = {".parquet": read_parquet, ".npy": read_npy, ".npz": read_npz}


def file_samples(file: DataFile, wanted: Wanted, *, unchanged: bool = False) -> Iterator[bytes]:
    """One sample a row. `unchanged` leaves lines of NDJSON as they are, whatever their form.

    Raises TableError where the file as a whole, or a row of a Parquet or numpy file, is unusable.
    """
    try:
        kind = file.kind
        if kind in DELIMITED:
            with open_delimited(file, wanted, errors="replace") as rows:
                if rows.layout is not None:
                    samples = DelimitedSamples(file.stem, rows.names, rows.layout)
                    yield from map(samples.encode, chain.from_iterable(rows.blocks()))
        elif kind in NDJSON:
            lines = _lines(file)
            if unchanged:
                yield from lines
            else:
                peeked = list(islice(lines, PEEK_ROWS))
                encode = JsonSamples(file.stem, wanted, _numeric(peeked)).encode
                yield from map(encode, chain(peeked, lines))
        else:
            for table in _TABLES[kind](file, wanted):
                yield from table_samples(table)
    except OSError as error:
        raise TableError(file, error.strerror or str(error)) from error


def _lines(file: DataFile) -> Iterator[bytes]:
    """Lines that are not blank, without line ends and byte order mark."""
    splitter = LineSplitter()
    with file.open() as stream:
        piece = stream.read(_PIECE).removeprefix(_BOM)
        while piece:
            yield from filter(bytes.strip, splitter.push(piece))
            piece = stream.read(_PIECE)
    yield from filter(bytes.strip, splitter.finish())


def _numeric(lines: Iterable[bytes]) -> dict[str, bool | None]:
    rows = []
    for line in lines:
        try:
            row = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        rows += [part for part in (row if isinstance(row, list) else [row]) if _is_row(part)]
    return numeric_names(rows)


def _is_row(part: object) -> bool:
    return isinstance(part, dict)


class PipedSamples:
    """Lines of a pipe -> samples, each at once: NDJSON where the first begins with { or [, or CSV.

    CSV may have a header or be numbers alone; its features are told from the first row, and a
    quoted cell may not hold a line end.
    """

    def __init__(self, name: str, wanted: Wanted, *, unchanged: bool = False) -> None:
        self._name = name
        self._wanted = wanted
        self._unchanged = unchanged
        self._json: JsonSamples | None = None
        self._header: str | None = None
        self._rows: DelimitedSamples | None = None
        self._delimiter = ","

    def encode(self, line: bytes) -> bytes | None:
        """A sample, or None for a header or a blank line.

        Raises TableError where the first row has no number.
        """
        if not line.strip():
            return None
        if self._json is None and self._rows is None and self._header is None:
            line = line.removeprefix(_BOM)
            if line.lstrip()[:1] in {b"{", b"["}:
                self._json = JsonSamples(self._name, self._wanted, {})
        if self._json is not None:
            return line if self._unchanged else self._json.encode(line)
        text = line.decode("utf-8", "replace")
        if self._rows is None:
            self._rows = self._start(text)
            if self._rows is None:
                return None
        try:
            row = next(split_lines([text], self._delimiter))
        except csv.Error:
            return line
        return self._rows.encode(row)

    def _start(self, text: str) -> DelimitedSamples | None:
        """Decides on delimiter, names and features: with the first row of numbers."""
        first = self._header is None
        self._delimiter = sniff([text] if self._header is None else [self._header, text])
        row = next(split_lines([text], self._delimiter))
        names = headless_names(row) if first else self._names()
        if names is None:
            self._header = text
            return None
        layout = first_row_layout(DataFile(Path(self._name)), names, row, self._wanted)
        return DelimitedSamples(self._name, names, layout)

    def _names(self) -> list[str]:
        header = next(split_lines([self._header or ""], self._delimiter))
        return [cell.strip() for cell in header]
