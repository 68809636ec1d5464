"""One table on disk, packed or not: its name, its kind, and its bytes as a stream."""

from __future__ import annotations

import gzip
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

from stream_detector.formats.tables.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Iterator

GZIP = ".gz"
ZIP = ".zip"
_ENCRYPTED = 0x1
"""Bit of a zip member's flags."""
_DAMAGED = (BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError)
"""What the unpackers raise for bytes that they cannot read to the end."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of samples, or a member of a zip archive; either may be gzipped."""

    path: Path
    member: str | None = None  # within the archive `path`

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}/{self.member}"

    @property
    def place(self) -> Path:
        """Where it lies, archives taken for folders."""
        return Path(str(self))

    @property
    def kind(self) -> str:
        """The ending that tells the format, in lower case, without that of gzip."""
        return self._unzipped().suffix.lower()

    @property
    def stem(self) -> str:
        """The name of the series, where no column has one."""
        return self._unzipped().stem

    @property
    def packed(self) -> bool:
        """Whether going back in the stream means unpacking from the start again."""
        return self.member is not None or self.place.suffix.lower() == GZIP

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The unpacked bytes, a piece at a time.

        Raises TableError for a damaged or encrypted archive, also while it is read.
        """
        try:
            with ExitStack() as stack:
                stream: IO[bytes]
                if self.member is None:
                    stream = stack.enter_context(self.path.open("rb"))
                else:
                    archive = stack.enter_context(ZipFile(self.path))
                    if archive.getinfo(self.member).flag_bits & _ENCRYPTED:
                        raise TableError(self, "is encrypted; unpack it first")
                    stream = stack.enter_context(archive.open(self.member))
                if self.place.suffix.lower() == GZIP:
                    stream = stack.enter_context(gzip.GzipFile(fileobj=stream))  # type: ignore[arg-type]  # any stream will do
                yield stream
        except _DAMAGED as error:
            raise damaged(self, error) from error

    def _unzipped(self) -> Path:
        place = self.place
        return place.with_suffix("") if place.suffix.lower() == GZIP else place


def members(path: Path) -> list[DataFile]:
    """All files in a zip archive, by name. Raises TableError where it is none."""
    try:
        with ZipFile(path) as archive:
            names = {info.filename for info in archive.infolist() if not info.is_dir()}
    except _DAMAGED as error:
        raise damaged(path, error) from error
    return [DataFile(path, name) for name in sorted(names)]


def damaged(source: DataFile | Path, error: Exception) -> TableError:
    said = f"{error}".rstrip(".")
    return TableError(source, f"damaged, or not what its name says ({said}); copy it anew")
