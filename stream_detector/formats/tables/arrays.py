"""numpy files: npy with [n] or [n, F]; npz with one such array or several, and what goes with it.

What goes with `values` is called timestamp [n], series [n], features [F] and, where a label is
asked for, by its name [n]; what goes with another array X is called X_timestamp and so on, or the
same as for `values`.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import repeat
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import numpy as np

from stream_detector.formats.tables.cells import Times
from stream_detector.formats.tables.errors import BadCellError, TableError
from stream_detector.formats.tables.layout import Builder, Wanted, choose
from stream_detector.formats.tables.npy import ArrayStream
from stream_detector.formats.tables.table import BLOCK_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from stream_detector.formats.tables.files import DataFile
    from stream_detector.formats.tables.table import Table

VALUES = "values"
_NUMBERS = "fiub"


def read_npy(source: DataFile, wanted: Wanted) -> Iterator[Table]:
    """[n] or [n, F]; read block by block."""
    with source.open() as stream:
        yield from _tables(source, {VALUES: ArrayStream(source, stream)}, wanted)


def read_npz(source: DataFile, wanted: Wanted) -> Iterator[Table]:
    """Every array from a stream of its own, so that each of them is only ever read forwards."""
    with source.open() as stream, ZipFile(stream) as archive:
        names = archive.namelist()
    held = [name.removesuffix(".npy") for name in names if name.endswith(".npy")]
    name = _chosen(source, held, wanted)
    with ExitStack() as stack:

        def opened(key: str) -> ArrayStream:
            archive = ZipFile(stack.enter_context(source.open()))
            stack.enter_context(archive)
            return ArrayStream(source, stack.enter_context(archive.open(f"{key}.npy")))

        arrays = {VALUES: opened(name)}
        for role in ("timestamp", "series", "features", *filter(None, [wanted.label])):
            key = next((key for key in (f"{name}_{role}", role) if key in held), None)
            if key is not None and key != name:
                arrays[role] = opened(key)
        yield from _tables(source, arrays, wanted)


def _chosen(source: DataFile, held: list[str], wanted: Wanted) -> str:
    """The array to read: the one asked for, `values`, or the only one."""
    if wanted.array is not None and wanted.array in held:
        return wanted.array
    if wanted.array is None and VALUES in held:
        return VALUES
    if wanted.array is None and len(held) == 1:
        return held[0]
    lacks = "none is called values" if wanted.array is None else f"none is called {wanted.array}"
    raise TableError(
        source,
        f"holds the arrays {', '.join(held) or '(none)'}, {lacks}; say which one to read: "
        "data.array in trainer.yaml, or --array",
    )


def _tables(source: DataFile, arrays: dict[str, ArrayStream], wanted: Wanted) -> Iterator[Table]:
    values = arrays[VALUES]
    if len(values.shape) not in {1, 2} or values.dtype.kind not in _NUMBERS:
        shape = list(values.shape)
        raise TableError(source, f"{values.dtype} {shape}; needs numbers, [n] or [n, F]")
    names = _names(source, arrays, 1 if len(values.shape) == 1 else values.shape[1])
    label = wanted.label if wanted.label in arrays and wanted.label not in names else None
    beside = [] if label is None else [label]
    layout = choose(source, [*names, *beside], names, wanted)
    columns = [names.index(name) for name in layout.features if name in names]
    for name in ("timestamp", "series", *beside):
        if name in arrays and arrays[name].shape != values.shape[:1]:
            length = values.shape[0]
            raise TableError(source, f"`{name}` must have the length of the values, {length}")
    if label is not None and arrays[label].dtype.kind not in _NUMBERS:
        raise TableError(source, f"`{label}` is {arrays[label].dtype}; needs numbers")
    times = Times()
    builder = Builder(source, layout.features)
    streams = (
        arrays[name].blocks(BLOCK_ROWS) if name in arrays else repeat(None)
        for name in (VALUES, "timestamp", "series", label or "")
    )
    for numbers, stamps, series, flags in zip(*streams, strict=False):
        assert numbers is not None
        block = np.asarray(numbers, np.float64).reshape(len(numbers), len(names))
        timestamp = None
        if stamps is not None:
            timestamp = _times(source, stamps, times, builder.row)
        elif layout.timestamp is not None:
            timestamp = _times(source, block[:, names.index(layout.timestamp)], times, builder.row)
        chosen = block[:, columns]
        if flags is not None:
            chosen = np.column_stack([chosen, flags.astype(np.float64)])
        named = None if series is None else series.astype(str).tolist()
        yield builder.table(named, timestamp, np.ascontiguousarray(chosen))


def _names(source: DataFile, arrays: dict[str, ArrayStream], count: int) -> list[str]:
    if "features" in arrays:
        names = [str(name) for block in arrays["features"].blocks(BLOCK_ROWS) for name in block]
        if len(names) != count:
            raise TableError(source, f"`features` names {len(names)} of {count} columns")
        return names
    return ["value"] if count == 1 else [f"f{index}" for index in range(count)]


def _times(source: DataFile, cells: NDArray[Any], times: Times, start: int) -> NDArray[np.int64]:
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
