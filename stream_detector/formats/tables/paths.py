"""Which files a path stands for. Only names are looked at, and the first line of a .txt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.formats.tables.delimited import headless_names, sniff
from stream_detector.formats.tables.table import TableError

if TYPE_CHECKING:
    from pathlib import Path

DELIMITED = frozenset({".csv", ".tsv", ".txt"})
NDJSON = frozenset({".ndjson", ".jsonl"})
KNOWN = DELIMITED | NDJSON | {".parquet", ".npy", ".npz"}
_SHOWN = ", ".join(sorted(KNOWN))


def data_files(path: Path) -> list[Path]:
    """The file itself, or all data files below a folder, sorted by path.

    In a folder, names that begin with a dot or an underscore are skipped, and so are unknown
    endings and .txt files that do not begin with numbers. Raises TableError where nothing is left.
    """
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if _is_data(file, path))
        if not found:
            raise TableError(path, f"no data in this folder; looked for {_SHOWN}")
        return found
    if not path.exists():
        raise TableError(path, "no such file or folder")
    if path.suffix.lower() not in KNOWN:
        raise TableError(path, f"unknown kind of file; known are {_SHOWN}")
    return [path]


def _is_data(file: Path, folder: Path) -> bool:
    if any(part.startswith((".", "_")) for part in file.relative_to(folder).parts):
        return False
    if file.suffix.lower() not in KNOWN or not file.is_file():
        return False
    return file.suffix.lower() != ".txt" or _begins_with_numbers(file)


def _begins_with_numbers(file: Path) -> bool:
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        line = lines.readline(65_536)
    delimiter = sniff([line])
    return headless_names([cell.strip() for cell in line.split(delimiter)]) is not None
