"""numpy files: npy with [n] or [n, F]; npz with `values` and, where wanted, the other columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from stream_detector.formats.tables.cells import Times
from stream_detector.formats.tables.layout import Builder, Wanted, choose
from stream_detector.formats.tables.table import BLOCK_ROWS, BadCellError, TableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from stream_detector.formats.tables.table import Table


def read_npy(source: Path, wanted: Wanted) -> Iterator[Table]:
    """[n] or [n, F]; the file is mapped, not loaded."""
    try:
        array = np.load(source, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise TableError(source, f"not a numpy array of numbers: {error}") from error
    yield from _tables(source, {"values": array}, wanted)


def read_npz(source: Path, wanted: Wanted) -> Iterator[Table]:
    """`values` [n] or [n, F], and optionally `timestamp` [n], `series` [n], `features` [F]."""
    try:
        with np.load(source, allow_pickle=False) as archive:
            if "values" not in archive.files:
                held = ", ".join(archive.files)
                raise TableError(source, f"holds {held}; an npz file needs an array `values`")
            known = ("values", "timestamp", "series", "features")
            arrays = {name: archive[name] for name in known if name in archive.files}
    except (ValueError, EOFError, BadZipFile) as error:
        raise TableError(source, f"not numpy arrays: {error}") from error
    yield from _tables(source, arrays, wanted)


def _tables(source: Path, arrays: dict[str, NDArray[Any]], wanted: Wanted) -> Iterator[Table]:
    values = arrays["values"]
    if values.ndim not in {1, 2} or values.dtype.kind not in "fiub":
        shape = list(values.shape)
        raise TableError(source, f"{values.dtype} {shape}; needs numbers, [n] or [n, F]")
    if values.ndim == 1:
        values = values[:, np.newaxis]
    names = _names(source, arrays, values.shape[1])
    layout = choose(source, names, names, wanted)
    columns = [names.index(name) for name in layout.features]
    for name in ("timestamp", "series"):
        if name in arrays and arrays[name].shape != values.shape[:1]:
            raise TableError(source, f"`{name}` must have the length of `values`, {len(values)}")
    times = Times()
    builder = Builder(source, layout.features)
    for start in range(0, len(values), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        block = np.asarray(values[rows], np.float64)
        series = [str(name) for name in arrays["series"][rows]] if "series" in arrays else None
        timestamp = None
        if "timestamp" in arrays:
            timestamp = _times(source, arrays["timestamp"][rows], times, start)
        elif layout.timestamp is not None:
            at = names.index(layout.timestamp)
            timestamp = _times(source, block[:, at], times, start)
        yield builder.table(series, timestamp, np.ascontiguousarray(block[:, columns]))


def _names(source: Path, arrays: dict[str, NDArray[Any]], count: int) -> list[str]:
    if "features" in arrays:
        names = [str(name) for name in arrays["features"]]
        if len(names) != count:
            raise TableError(source, f"`features` names {len(names)} of {count} columns")
        return names
    return ["value"] if count == 1 else [f"f{index}" for index in range(count)]


def _times(source: Path, cells: NDArray[Any], times: Times, start: int) -> NDArray[np.int64]:
    if cells.dtype.kind == "M":
        if np.isnat(cells).any():
            row = start + int(np.argmax(np.isnat(cells)))
            raise TableError(source, "no time; remove the row", row=row, column="timestamp")
        return cells.astype("datetime64[ms]").astype(np.int64)
    try:
        if cells.dtype.kind in "iu":
            return times.integers(cells)
        return times.column(cells.tolist())
    except BadCellError as error:
        row = start + error.index
        raise TableError(source, str(error), row=row, column="timestamp") from None
