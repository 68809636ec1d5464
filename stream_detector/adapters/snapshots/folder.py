"""Snapshots in a folder: written beside, synced, renamed."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING
from urllib.parse import quote

from stream_detector.ports import SnapshotError
from stream_detector.records import Unusable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stream_detector.records import Partition

SUFFIX = ".state"


def folder_name(partition: Partition) -> str:
    return f"{quote(partition.topic, safe='')}-{partition.number}"


class FolderSnapshots:
    """ports.SnapshotStore on a local or shared folder, which is made when first written to."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, partition: Partition, name: str, parts: Sequence[bytes | memoryview]) -> None:
        path = self._path(partition, name)
        staging = path.parent / f".{uuid.uuid4().hex}.tmp"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with staging.open("wb") as file:
                    file.writelines(parts)
                    file.flush()
                    os.fsync(file.fileno())
                staging.replace(path)
            finally:
                staging.unlink(missing_ok=True)
            _sync(path.parent)  # the new name is to survive a loss of power as well
        except OSError as error:
            raise SnapshotError(f"{path}: {error.strerror or error}") from error

    def read(self, partition: Partition, name: str) -> bytearray | Unusable:
        path = self._path(partition, name)
        try:
            with path.open("rb") as file:
                data = bytearray(os.fstat(file.fileno()).st_size)
                read = file.readinto(data)
        except FileNotFoundError:
            return Unusable("missing", f"{path}: no such file")
        except OSError as error:
            return Unusable("unreadable", f"{path}: {error.strerror or error}")
        if read != len(data):
            return Unusable("unreadable", f"{path}: it became shorter while it was read")
        return data

    def names(self, partition: Partition) -> list[str]:
        folder = self._root / folder_name(partition)
        try:
            found = [path.name for path in folder.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SnapshotError(f"{folder}: {error.strerror or error}") from error
        return sorted(name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX))

    def delete(self, partition: Partition, name: str) -> None:
        path = self._path(partition, name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise SnapshotError(f"{path}: {error.strerror or error}") from error

    def _path(self, partition: Partition, name: str) -> Path:
        return self._root / folder_name(partition) / f"{name}{SUFFIX}"


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
