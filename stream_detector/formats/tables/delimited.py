"""CSV and its relatives: delimiter and header found by looking, columns converted by block."""

from __future__ import annotations

import csv
import io
from collections import Counter
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.formats.tables.cells import Times, floats, is_missing, is_number
from stream_detector.formats.tables.errors import BadCellError, TableError
from stream_detector.formats.tables.layout import Builder, Layout, Wanted, choose
from stream_detector.formats.tables.table import BLOCK_ROWS, PEEK_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from stream_detector.formats.tables.files import DataFile
    from stream_detector.formats.tables.table import Table

DELIMITERS = ",;\t|"
SPACES = " "
"""Any number of spaces and tabs; taken where no other delimiter is there."""
_SNIFFED_LINES = 20
_TRUTH = {"true": "1", "false": "0"}
"""Words that labels are written in, beside numbers."""


def sniff(lines: Sequence[str]) -> str:
    """The delimiter that cuts all lines into the same number of cells, the more the better."""
    best, best_rank = ",", (False, 1)
    for delimiter in DELIMITERS:
        try:
            counts = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:
            continue
        if counts and counts[0] > 1:
            rank = (len(set(counts)) == 1, counts[0])
            if rank > best_rank:
                best, best_rank = delimiter, rank
    spaced = {len(line.split()) for line in lines if line.strip()}
    if best_rank[1] == 1 and len(spaced) == 1 and spaced != {1}:
        return SPACES
    return best


def split_lines(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """Lines -> cells. Raises csv.Error."""
    if delimiter == SPACES:
        return (line.split() for line in lines)
    return csv.reader(lines, delimiter=delimiter)


def headless_names(first: Sequence[str]) -> list[str] | None:
    """Names for a first row that is data already; None where it is a header.

    Data is a row of numbers, with a time in text before them or without.
    """
    rest = list(first)
    names = []
    if len(first) > 1 and not is_number(first[0]) and _is_time(first[0]):
        names, rest = ["timestamp"], rest[1:]
    if not any(map(is_number, rest)) or not all(is_number(c) or is_missing(c) for c in rest):
        return None
    return [*names, *(["value"] if len(rest) == 1 else [f"f{i}" for i in range(len(rest))])]


def _is_time(cell: str) -> bool:
    try:
        Times().one(cell)
    except ValueError:
        return False
    return True


def numeric_columns(names: Sequence[str], rows: Iterable[Sequence[str]]) -> set[str]:
    """Columns that hold numbers, and text in no more cells than those (a mistake, not a name)."""
    numbers: Counter[str] = Counter()
    texts: Counter[str] = Counter()
    for row in rows:
        for name, cell in zip(names, row, strict=False):
            if not is_missing(cell):
                (numbers if is_number(cell) else texts)[name] += 1
    return {name for name, count in numbers.items() if count >= texts[name]}


class DelimitedRows:
    """Rows of one delimited file: names and layout are known at once, rows come by block."""

    def __init__(self, source: DataFile, lines: Iterator[str], wanted: Wanted) -> None:
        """Reads the first rows. Raises TableError, StopIteration never."""
        self.source = source
        head = list(islice(lines, _SNIFFED_LINES))
        rows = split_lines(chain(head, lines), sniff(head))
        self._rows: Iterator[list[str]] = (row for row in rows if row)
        peeked = self._take(PEEK_ROWS + 1)
        self.names: list[str] = []
        self.layout: Layout | None = None  # None: no row at all
        if peeked:
            names = headless_names(peeked[0])
            if names is None:
                names = [cell.strip() for cell in peeked.pop(0)]
            twice = [name for name in names if name and names.count(name) > 1]
            if twice:
                raise TableError(source, f"two columns are called {twice[0]!r}; rename one")
            self.names = names
            self._rows = chain(peeked, self._rows)
            if peeked:
                self.layout = choose(source, names, numeric_columns(names, peeked), wanted)

    def blocks(self) -> Iterator[list[list[str]]]:
        """Rows as they are: some may have too few or too many cells."""
        while block := self._take(BLOCK_ROWS):
            yield block

    def _take(self, count: int) -> list[list[str]]:
        try:
            return list(islice(self._rows, count))
        except csv.Error as error:
            raise TableError(self.source, f"not CSV: {error}") from error
        except UnicodeDecodeError as error:
            raise TableError(self.source, "not UTF-8 text; save it as UTF-8") from error


@contextmanager
def open_delimited(
    source: DataFile, wanted: Wanted, errors: str = "strict"
) -> Iterator[DelimitedRows]:
    """`errors` is what to do with bytes that are not UTF-8, as in open()."""
    with (
        source.open() as stream,
        io.TextIOWrapper(stream, "utf-8-sig", errors=errors, newline="") as file,
    ):
        try:
            rows = DelimitedRows(source, file, wanted)
        except UnicodeDecodeError as error:
            raise TableError(source, "not UTF-8 text; save it as UTF-8") from error
        yield rows


def read_delimited(source: DataFile, wanted: Wanted) -> Iterator[Table]:
    with open_delimited(source, wanted) as rows:
        if rows.layout is None:
            return
        reader = _Columns(source, rows.names, rows.layout, wanted.label)
        for block in rows.blocks():
            yield reader.table(block)


class _Columns:
    def __init__(
        self, source: DataFile, names: list[str], layout: Layout, label: str | None
    ) -> None:
        self._source = source
        self._names = names
        self._label = label
        self._layout = layout
        self._times = Times()
        self._builder = Builder(source, layout.features)
        self._position = {name: index for index, name in enumerate(names)}

    def table(self, rows: list[list[str]]) -> Table:
        columns = self._columns(rows)
        values = np.empty((len(rows), len(self._layout.features)))
        for index, name in enumerate(self._layout.features):
            cells: Sequence[str] = columns[self._position[name]]
            if name == self._label:
                cells = [_TRUTH.get(cell.lower(), cell) for cell in cells]
            try:
                values[:, index] = floats(cells)
            except BadCellError as error:
                raise self._at(
                    error,
                    name,
                    "correct it, leave it empty where the value is missing, or name the features",
                ) from None
        timestamp = None
        if self._layout.timestamp is not None:
            try:
                timestamp = self._times.column(columns[self._position[self._layout.timestamp]])
            except BadCellError as error:
                raise self._at(
                    error,
                    self._layout.timestamp,
                    "write RFC 3339 or the time since 1970, or name another timestamp column",
                ) from None
        series = None
        if self._layout.series is not None:
            series = list(columns[self._position[self._layout.series]])
            if "" in series:
                empty = BadCellError(series.index(""), "no series")
                raise self._at(empty, self._layout.series, "give the row a series, or remove it")
        return self._builder.table(series, timestamp, values)

    def _columns(self, rows: list[list[str]]) -> list[tuple[str, ...]]:
        if any(len(row) != len(self._names) for row in rows):
            bad = next(i for i, row in enumerate(rows) if len(row) != len(self._names))
            raise TableError(
                self._source,
                f"{len(rows[bad])} cells where there are {len(self._names)} columns; "
                "correct or remove the line",
                row=self._builder.row + bad,
            )
        return list(zip(*rows, strict=True))

    def _at(self, error: BadCellError, column: str, remedy: str) -> TableError:
        return TableError(
            self._source, f"{error}; {remedy}", row=self._builder.row + error.index, column=column
        )
