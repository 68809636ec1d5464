"""Which files a path stands for. Only names are looked at, and the first line of a .txt."""

from __future__ import annotations

import csv
from pathlib import PurePath
from typing import TYPE_CHECKING

from stream_detector.formats.tables.delimited import headless_names, sniff, split_lines
from stream_detector.formats.tables.errors import TableError
from stream_detector.formats.tables.files import ZIP, DataFile, members

if TYPE_CHECKING:
    from pathlib import Path

DELIMITED = frozenset({".csv", ".tsv", ".txt"})
NDJSON = frozenset({".ndjson", ".jsonl"})
KNOWN = DELIMITED | NDJSON | {".parquet", ".npy", ".npz"}
_SHOWN = f"{', '.join(sorted(KNOWN))}, each also with .gz or in a {ZIP}"


def data_files(path: Path) -> list[DataFile]:
    """The file itself, or all data files below a folder or in a zip archive, sorted by path.

    In a folder or archive, names that begin with a dot or an underscore are skipped, and so are
    unknown endings and .txt files that do not begin with numbers. Raises TableError where nothing
    is left, and for an archive that is none.
    """
    if path.is_dir():
        found = [file for each in sorted(path.rglob("*")) for file in _below(each, path)]
        if not found:
            raise TableError(path, f"no data in this folder; looked for {_SHOWN}")
        return found
    if not path.exists():
        raise TableError(path, "no such file or folder")
    if path.suffix.lower() == ZIP:
        found = _members(path)
        if not found:
            raise TableError(path, f"no data in this archive; looked for {_SHOWN}")
        return found
    file = DataFile(path)
    if file.kind not in KNOWN:
        raise TableError(path, f"unknown kind of file; known are {_SHOWN}")
    return [file]


def _below(path: Path, folder: Path) -> list[DataFile]:
    if _hidden(path.relative_to(folder)) or not path.is_file():
        return []
    if path.suffix.lower() == ZIP:
        return _members(path)
    return [file for file in [DataFile(path)] if _is_data(file)]


def _members(path: Path) -> list[DataFile]:
    return [f for f in members(path) if not _hidden(PurePath(f.member or "")) and _is_data(f)]


def _hidden(path: PurePath) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _is_data(file: DataFile) -> bool:
    return file.kind in KNOWN and (file.kind != ".txt" or _begins_with_numbers(file))


def _begins_with_numbers(file: DataFile) -> bool:
    with file.open() as stream:
        lines = stream.readline(65_536).decode("utf-8-sig", "replace").splitlines()[:1]
    try:
        cells = next(split_lines(lines, sniff(lines)), [])
    except csv.Error:
        return False
    return headless_names([cell.strip() for cell in cells]) is not None
