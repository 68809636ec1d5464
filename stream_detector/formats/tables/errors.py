"""What goes wrong with files of samples."""

from __future__ import annotations


class TableError(Exception):
    """A file that cannot be read; one line that names file, row, column and remedy."""

    def __init__(
        self,
        source: object,  # a path or a DataFile; its text names it
        problem: str,
        *,
        row: int | None = None,
        column: str | None = None,
    ) -> None:
        self.source = source
        self.row = row  # from 0, as in Table.first_row
        self.column = column
        place = str(source)
        if row is not None:
            place += f", data row {row + 1}"
        if column is not None:
            place += f", column {column!r}"
        super().__init__(f"{place}: {problem}")


class BadCellError(ValueError):
    """A cell of a column that cannot be converted; `index` counts within the cells given."""

    def __init__(self, index: int, problem: str) -> None:
        self.index = index
        super().__init__(problem)
