"""Snapshots in an object store: one PUT each, which appears whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import fs

from stream_detector.adapters.snapshots.folder import SUFFIX, folder_name
from stream_detector.ports import SnapshotError
from stream_detector.records import Unusable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector.records import Partition


class RemoteSnapshots:
    """ports.SnapshotStore on a file system of pyarrow: s3://, gs://, abfs://, hdfs://."""

    def __init__(self, system: Any, root: str) -> None:
        self._system = system
        self._root = root.rstrip("/")

    @classmethod
    def at(cls, url: str, below: str) -> RemoteSnapshots:
        try:
            system, root = fs.FileSystem.from_uri(url)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise SnapshotError(f"snapshots.url: {url}: {error}") from error
        return cls(system, f"{root.rstrip('/')}/{below}")

    def write(self, partition: Partition, name: str, parts: Sequence[bytes | memoryview]) -> None:
        path = self._path(partition, name)
        try:
            self._system.create_dir(path.rpartition("/")[0], recursive=True)
            with self._system.open_output_stream(path) as stream:
                for part in parts:
                    stream.write(part)
        except (pa.ArrowException, OSError) as error:
            raise SnapshotError(f"{path}: {error}") from error

    def read(self, partition: Partition, name: str) -> bytes | Unusable:
        path = self._path(partition, name)
        try:
            with self._system.open_input_file(path) as stream:
                data: bytes = stream.read()
        except FileNotFoundError:
            return Unusable("missing", f"{path}: no such file")
        except (pa.ArrowException, OSError) as error:
            return Unusable("unreadable", f"{path}: {error}")
        return data

    def names(self, partition: Partition) -> list[str]:
        folder = f"{self._root}/{folder_name(partition)}"
        selector = fs.FileSelector(folder, allow_not_found=True)
        try:
            found = [info.base_name for info in self._system.get_file_info(selector)]
        except (pa.ArrowException, OSError) as error:
            raise SnapshotError(f"{folder}: {error}") from error
        return sorted(name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX))

    def delete(self, partition: Partition, name: str) -> None:
        path = self._path(partition, name)
        try:
            self._system.delete_file(path)
        except FileNotFoundError:
            return
        except (pa.ArrowException, OSError) as error:
            raise SnapshotError(f"{path}: {error}") from error

    def _path(self, partition: Partition, name: str) -> str:
        return f"{self._root}/{folder_name(partition)}/{name}{SUFFIX}"
