"""Files of samples -> columns: CSV, NDJSON, Parquet, npy, npz; gzipped, zipped, or in a folder.

How a file is understood, the same for training, evaluation and replay:

- Time: the column called timestamp, time, datetime, date or ds (any case), or the one named. Text
  is ISO 8601 / RFC 3339, naive = UTC; numbers are since 1970, in the unit that their size tells.
  Without one, sample i of a series is at i * 1000 ms.
- Series: the column called series, or the one named; else the file's stem.
- Features: all other columns that hold numbers (told from the first 1,000 rows), save labels such
  as anomaly or level; or the ones named. A CSV file without a header has `value`, or f0, f1, ...
- npz: the array `values`, or the only one, or the one named, with its times and names beside it.
- An archive is a folder of its members; `x.csv.gz` is `x.csv`.
- Missing: empty, na, n/a, nan, null, none. Text among numbers is an error that names its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.formats.tables.arrays import read_npy, read_npz
from stream_detector.formats.tables.delimited import read_delimited
from stream_detector.formats.tables.errors import TableError
from stream_detector.formats.tables.layout import Wanted
from stream_detector.formats.tables.ndjson import read_ndjson
from stream_detector.formats.tables.parquet import read_parquet
from stream_detector.formats.tables.paths import DELIMITED, NDJSON, data_files
from stream_detector.formats.tables.table import Table, regroup

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Table", "TableError", "read_tables"]

_READERS = {
    **dict.fromkeys(DELIMITED, read_delimited),
    **dict.fromkeys(NDJSON, read_ndjson),
    ".parquet": read_parquet,
    ".npy": read_npy,
    ".npz": read_npz,
}


def read_tables(
    path: Path,
    *,
    series_column: str | None = None,
    timestamp_column: str | None = None,
    features: Sequence[str] | None = None,
    label: str | None = None,
    array: str | None = None,
    chunk_rows: int = 50_000,
) -> Iterator[Table]:
    """Samples of a file or of all files below a folder or in an archive, in order.

    `chunk_rows` at a time, fewer where they are wide. `label` names a column that comes as the last
    feature, `array` the one to read of npz files that hold several. A table never spans two files.
    Memory is bounded by the chunk (Parquet: by a row group). Raises TableError, for a path that
    holds no sample too.
    """
    if chunk_rows < 1:
        raise ValueError("chunk_rows must be at least 1")
    named = None if features is None else tuple(features)
    wanted = Wanted(series_column, timestamp_column, named, label, array)
    empty = True
    for file in data_files(path):
        try:
            for table in regroup(_READERS[file.kind](file, wanted), chunk_rows):
                empty = False
                yield _finite(table)
        except OSError as error:
            raise TableError(file, error.strerror or str(error)) from error
    if empty:
        raise TableError(path, "no rows of samples")


def _finite(table: Table) -> Table:
    infinite = np.isinf(table.values)
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        raise TableError(
            table.source,
            "infinity is not a value; write nothing where it is missing",
            row=table.first_row + int(row),
            column=table.features[int(column)],
        )
    return table
