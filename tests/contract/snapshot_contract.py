"""What every store of snapshots must do; test modules subclass the suite."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from stream_detector.records import Partition, Unusable

if TYPE_CHECKING:
    from stream_detector.ports import SnapshotStore

P0, P1 = Partition("plant/a b", 0), Partition("plant/a b", 1)


class SnapshotContract:
    def test_what_was_written_is_read_back(self, snapshots: SnapshotStore) -> None:
        data = bytes(range(256)) * 5000
        snapshots.write(
            P0, "7-ab", [data[:1000], memoryview(data)[1000:1000], memoryview(data)[1000:]]
        )
        snapshots.write(P0, "8-cd", [])
        assert snapshots.read(P0, "7-ab") == data
        assert snapshots.read(P0, "8-cd") == b""

    def test_each_partition_has_files_of_its_own(self, snapshots: SnapshotStore) -> None:
        other = Partition("plant", 0)
        for place, partition in enumerate((P0, P1, other)):
            snapshots.write(partition, "7-ab", [b"%d" % place])
        snapshots.delete(P1, "7-ab")
        assert snapshots.read(P0, "7-ab") == b"0"
        assert snapshots.read(other, "7-ab") == b"2"
        assert [snapshots.names(p) for p in (P0, P1, other)] == [["7-ab"], [], ["7-ab"]]

    def test_what_is_not_there_is_a_value(self, snapshots: SnapshotStore) -> None:
        assert snapshots.names(P0) == []
        found = snapshots.read(P0, "7-ab")
        assert isinstance(found, Unusable)
        assert found.reason == "missing"
        snapshots.delete(P0, "7-ab")
        snapshots.write(P0, "8-ab", [b"x"])
        snapshots.delete(P0, "7-ab")
        assert snapshots.names(P0) == ["8-ab"]

    def test_names_come_in_order(self, snapshots: SnapshotStore) -> None:
        for name in ("9-b", "10-a", "7-c"):
            snapshots.write(P0, name, [b"x"])
        assert snapshots.names(P0) == ["10-a", "7-c", "9-b"]

    def test_the_same_file_may_be_written_twice_and_from_several_threads(
        self, snapshots: SnapshotStore
    ) -> None:
        data = b"0123456789" * 1000

        def write(place: int) -> None:
            snapshots.write(P0, "7-ab", [data])
            snapshots.write(P1, f"{place}-ab", [data])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(16)))
        assert snapshots.read(P0, "7-ab") == data
        assert snapshots.names(P0) == ["7-ab"]
        assert len(snapshots.names(P1)) == 16
