"""Temporary files of rows: written once from start to end, then read in pieces, anywhere.

Read with explicit calls rather than mapped: pages of a mapping that were touched would count as
memory of the process.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trainer.data import DataError
from trainer.reading.rows import Lazy

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    Piece = tuple[NDArray[np.int64], NDArray[np.float64]]
    """Times [m] in ms, values [m, F]."""


class RowFile:
    """Rows of one width and type; the file has no name and is gone with the last of its rows."""

    def __init__(self, dtype: DTypeLike, shape: tuple[int, ...] = ()) -> None:
        """`shape` is that of one row: (F,), or () for rows of one number."""
        self._dtype = np.dtype(dtype)
        self._shape = shape
        self._row_bytes = self._dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # the next line does
        weakref.finalize(self, self._file.close)
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    @property
    def width(self) -> int:
        return self._shape[0] if self._shape else 1

    def append(self, rows: NDArray[Any]) -> None:
        """Raises DataError where the disk is full."""
        data = np.ascontiguousarray(rows, self._dtype).reshape(-1).view(np.uint8).data
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise DataError(
                f"temporary file of samples in {tempfile.gettempdir()}: {error.strerror}; let "
                "TMPDIR name a folder with room for all samples twice, at 8 bytes a value"
            ) from error
        self._rows += len(rows)

    def rows(self, start: int, stop: int) -> Lazy:
        """Some of the rows, to be read later."""
        return Lazy(self.read, start, stop, self.width)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        found = np.empty((stop - start, *self._shape), self._dtype)
        into = found.reshape(-1).view(np.uint8).data
        at = start * self._row_bytes
        while into:
            count = os.preadv(self._file.fileno(), [into], at)
            if not count:
                raise DataError("a temporary file of samples was cut short; run the command again")
            into, at = into[count:], at + count
        return found


class SampleFiles(NamedTuple):
    """Two files with the same rows."""

    times: RowFile  # ms
    values: RowFile  # [F]

    @classmethod
    def of(cls, width: int) -> SampleFiles:
        return cls(RowFile(np.int64), RowFile(np.float64, (width,)))

    def append(self, timestamp: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        self.times.append(timestamp)
        self.values.append(values)

    def read(self, start: int, stop: int) -> Piece:
        return self.times.read(start, stop), self.values.read(start, stop)
