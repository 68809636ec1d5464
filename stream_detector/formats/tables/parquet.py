"""Parquet, read by record batch; tables of our own, whole. pyarrow is imported here alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stream_detector.formats.tables.cells import Times
from stream_detector.formats.tables.errors import BadCellError, TableError
from stream_detector.formats.tables.layout import Builder, Layout, Wanted, choose
from stream_detector.formats.tables.table import BLOCK_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from stream_detector.formats.tables.files import DataFile
    from stream_detector.formats.tables.table import Table


def read_parquet(source: DataFile, wanted: Wanted) -> Iterator[Table]:
    pa, pq = _arrow(source)
    try:
        with (
            source.open() as stream,
            pq.ParquetFile(source.path if not source.packed else stream) as file,
        ):
            schema = file.schema_arrow
            layout = choose(source, schema.names, _numeric(pa, schema), wanted)
            columns = [name for name in (layout.series, layout.timestamp) if name is not None]
            columns += layout.features
            reader = _Batches(source, layout, pa)
            for group in range(file.num_row_groups):  # asked for all, it holds all of them
                for batch in file.iter_batches(BLOCK_ROWS, row_groups=[group], columns=columns):
                    if batch.num_rows:
                        yield reader.table(batch)
    except pa.ArrowException as error:
        raise TableError(source, f"not readable as Parquet: {error}") from error


def write_columns(path: Path, columns: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """A file with these columns, arrays or lists of equal length, and texts about them."""
    pa, pq = _arrow(path)
    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    pq.write_table(table.replace_schema_metadata(dict(metadata)), path)


def read_columns(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """All columns of a file and the texts about them. Raises TableError for another format."""
    pa, pq = _arrow(path)
    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise TableError(path, f"not readable as Parquet: {error}") from error
    about = {key.decode(): text.decode() for key, text in (table.schema.metadata or {}).items()}
    return {name: table[name].to_numpy() for name in table.column_names}, about


def _arrow(path: DataFile | Path) -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415  an extra: only who needs Parquet needs it
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise TableError(path, 'Parquet needs pyarrow: pip install "stream-detector[store]"') from (
            error
        )
    return pa, pq


def _numeric(pa: Any, schema: Any) -> set[str]:
    types = pa.types
    return {
        field.name
        for field in schema
        if types.is_integer(field.type)
        or types.is_floating(field.type)
        or types.is_decimal(field.type)
    }


class _Batches:
    def __init__(self, source: DataFile, layout: Layout, pa: Any) -> None:
        self._source = source
        self._layout = layout
        self._pa = pa
        self._times = Times()
        self._builder = Builder(source, layout.features)

    def table(self, batch: Any) -> Table:
        values = np.empty((batch.num_rows, len(self._layout.features)))
        for index, name in enumerate(self._layout.features):
            values[:, index] = self._floats(batch.column(name), name)
        timestamp = series = None
        if self._layout.timestamp is not None:
            timestamp = self._timestamps(batch.column(self._layout.timestamp))
        if self._layout.series is not None:
            cells = batch.column(self._layout.series).to_pylist()
            if None in cells:
                raise self._error("no series", cells.index(None), self._layout.series)
            series = [str(cell) for cell in cells]
        return self._builder.table(series, timestamp, values)

    def _floats(self, column: Any, name: str) -> NDArray[np.float64]:
        pa = self._pa
        if pa.types.is_boolean(column.type):  # has no direct way to floats
            column = column.cast(pa.int8())
        try:
            # safe=False: integers beyond 2**53 lose digits, as they do in every other format.
            numbers = column.cast(pa.float64(), safe=False)
        except pa.ArrowException as error:
            raise TableError(self._source, f"not numbers: {error}", column=name) from error
        result: NDArray[np.float64] = numbers.to_numpy(zero_copy_only=False)
        return result

    def _timestamps(self, column: Any) -> NDArray[np.int64]:
        pa = self._pa
        name = self._layout.timestamp or ""
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise self._error("no time; remove the row", row, name)
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            moments = column.to_numpy(zero_copy_only=False)  # naive = UTC
            result: NDArray[np.int64] = moments.astype("datetime64[ms]").astype(np.int64)
            return result
        try:
            if pa.types.is_integer(column.type):
                return self._times.integers(column.to_numpy(zero_copy_only=False))
            return self._times.column(column.to_pylist())
        except BadCellError as error:
            raise self._error(str(error), error.index, name) from None

    def _error(self, problem: str, index: int, column: str) -> TableError:
        return TableError(self._source, problem, row=self._builder.row + index, column=column)
