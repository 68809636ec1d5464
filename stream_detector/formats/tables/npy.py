"""One array in the npy format, read from a stream block by block. No file is opened here."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from stream_detector.formats.tables.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from stream_detector.formats.tables.files import DataFile


class ArrayStream:
    """Its header is read at once, its rows when they are asked for.

    Columns that lie one after another (Fortran order) are sought for each block; in an archive,
    where going back is slow, such an array is loaded whole.
    """

    def __init__(self, source: DataFile, stream: IO[bytes]) -> None:
        """Raises TableError for what is no array of numbers, times or text."""
        self._source = source
        self._stream = stream
        try:
            first = npy.read_magic(stream) == (1, 0)
            read_header = npy.read_array_header_1_0 if first else npy.read_array_header_2_0
            shape, fortran, dtype = read_header(stream)
        except ValueError as error:
            raise TableError(source, f"not a numpy array of numbers: {error}") from error
        if dtype.hasobject:
            raise TableError(source, "not a numpy array of numbers: it holds Python objects")
        self.shape: tuple[int, ...] = shape
        self.dtype: np.dtype[Any] = dtype
        self._by_column = bool(fortran) and len(shape) == 2

    def blocks(self, rows: int) -> Iterator[NDArray[Any]]:
        """The array [n, ...] in parts of so many rows, fewer at the end."""
        n = self.shape[0]
        cuts = [(start, min(start + rows, n)) for start in range(0, n, rows)]
        if not self._by_column:
            for start, stop in cuts:
                yield self._read((stop - start, *self.shape[1:]))
        elif self._source.packed:
            whole = self._read(self.shape[::-1]).T
            yield from (whole[start:stop] for start, stop in cuts)
        else:
            first = self._stream.tell()
            for start, stop in cuts:
                columns = []
                for column in range(self.shape[1]):
                    self._stream.seek(first + (column * n + start) * self.dtype.itemsize)
                    columns.append(self._read((stop - start,)))
                yield np.stack(columns, axis=1)

    def _read(self, shape: tuple[int, ...]) -> NDArray[Any]:
        count = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        data = self._stream.read(count)
        if len(data) < count:
            raise TableError(self._source, "ends before its last value; copy it anew")
        return np.frombuffer(data, self.dtype).reshape(shape)
