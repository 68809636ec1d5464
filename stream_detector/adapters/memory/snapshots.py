"""Snapshots in memory, for tests: what was written is there, until it is deleted or damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.ports import SnapshotError
from stream_detector.records import Unusable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector.records import Partition


class MemorySnapshots:
    """ports.SnapshotStore; `failing` refuses everything, as a disk that is full or gone does."""

    def __init__(self) -> None:
        self.files: dict[tuple[Partition, str], bytes] = {}
        self.failing = False

    def write(self, partition: Partition, name: str, parts: Sequence[bytes | memoryview]) -> None:
        self._refuse()
        self.files[partition, name] = b"".join(parts)

    def read(self, partition: Partition, name: str) -> bytes | Unusable:
        if self.failing:
            return Unusable("unreadable", f"{partition} {name}: refused")
        found = self.files.get((partition, name))
        return Unusable("missing", f"{partition} {name}: no such file") if found is None else found

    def names(self, partition: Partition) -> list[str]:
        self._refuse()
        return sorted(name for place, name in list(self.files) if place == partition)

    def delete(self, partition: Partition, name: str) -> None:
        self._refuse()
        self.files.pop((partition, name), None)

    def _refuse(self) -> None:
        if self.failing:
            raise SnapshotError("snapshots in memory: refused")
