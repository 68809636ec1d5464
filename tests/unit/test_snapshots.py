"""Snapshots as files: every store keeps the contract, and what is damaged is a value."""

from __future__ import annotations

import errno
import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pyarrow import fs

from stream_detector.adapters.memory import MemorySnapshots
from stream_detector.adapters.snapshots import FolderSnapshots, folder, local_folder, open_snapshots
from stream_detector.adapters.snapshots.remote import RemoteSnapshots
from stream_detector.formats.snapshots import (
    ALIGNED,
    GroupState,
    Snapshot,
    decode,
    encode,
    offset_of,
)
from stream_detector.ports import SnapshotError
from stream_detector.records import Unusable
from tests.contract.snapshot_contract import P0, SnapshotContract

if TYPE_CHECKING:
    from pathlib import Path

    from stream_detector.ports import SnapshotStore


class TestInMemory(SnapshotContract):
    @pytest.fixture
    def snapshots(self) -> SnapshotStore:
        return MemorySnapshots()


class TestInAFolder(SnapshotContract):
    @pytest.fixture
    def snapshots(self, tmp_path: Path) -> SnapshotStore:
        return FolderSnapshots(tmp_path / "not" / "there yet")


class TestInAFileSystemOfPyarrow(SnapshotContract):
    @pytest.fixture
    def snapshots(self, tmp_path: Path) -> SnapshotStore:
        return RemoteSnapshots(fs.LocalFileSystem(), str(tmp_path))


class TestInAFileSystemBelowAnotherOne(SnapshotContract):
    @pytest.fixture
    def snapshots(self, tmp_path: Path) -> SnapshotStore:
        return RemoteSnapshots(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "bucket/")


def test_a_url_is_a_folder_or_a_file_system_of_pyarrow(tmp_path: Path) -> None:
    for url in (str(tmp_path / "a b"), (tmp_path / "a b").as_uri()):
        assert local_folder(url) == tmp_path / "a b"
        open_snapshots(url, "team/detector").write(P0, "7-ab", [b"x"])
    assert (tmp_path / "a b" / "team%2Fdetector" / "plant%2Fa%20b-0" / "7-ab.state").exists()
    assert local_folder("s3://bucket/x") is None
    with pytest.raises(SnapshotError, match=r"snapshots\.url: nosuch://x"):
        open_snapshots("nosuch://x", "g")


def test_groups_that_share_a_folder_do_not_see_each_other(tmp_path: Path) -> None:
    one, other = (open_snapshots(str(tmp_path), owner) for owner in ("one", "other"))
    one.write(P0, "7-ab", [b"x"])
    assert other.names(P0) == []


def test_a_disk_that_is_full_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    snapshots = FolderSnapshots(tmp_path)
    snapshots.write(P0, "7-ab", [b"before"])
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SnapshotError, match=r"8-ab\.state: No space left"):
        snapshots.write(P0, "8-ab", [b"x"])
    assert [path.name for path in tmp_path.rglob("*.*")] == ["7-ab.state"]


@pytest.mark.parametrize("kind", [FolderSnapshots, RemoteSnapshots])
def test_a_folder_in_the_place_of_a_file_is_unreadable(kind: type, tmp_path: Path) -> None:
    (tmp_path / folder.folder_name(P0) / "7-ab.state").mkdir(parents=True)
    if kind is FolderSnapshots:
        store: SnapshotStore = FolderSnapshots(tmp_path)
    else:
        store = RemoteSnapshots(fs.LocalFileSystem(), str(tmp_path))
    found = store.read(P0, "7-ab")
    assert isinstance(found, Unusable)
    assert found.reason == "unreadable"


SNAPSHOT = Snapshot(
    "cfg",
    {
        "a/*": GroupState("v1", "l1", {"x": np.arange(5), "none": np.zeros((0, 3), np.float32)}),
        "header": GroupState("v2", "l2", {"x": np.array([(1, 2.5)], [("i", "i4"), ("f", "f8")])}),
    },
)


def encoded(offset: int = 41) -> tuple[str, bytes]:
    name, parts = encode(SNAPSHOT, offset)
    return name, b"".join(parts)


def test_a_snapshot_comes_back_as_it_was() -> None:
    name, data = encoded()
    assert offset_of(name) == 41
    found = decode(name, data)
    assert isinstance(found, Snapshot)
    assert found.cfg == "cfg"
    assert list(found.groups) == list(SNAPSHOT.groups)
    for group, expected in SNAPSHOT.groups.items():
        state = found.groups[group]
        assert (state.version, state.layout) == (expected.version, expected.layout)
        assert list(state.arrays) == list(expected.arrays)
        for each, array in expected.arrays.items():
            assert state.arrays[each].dtype == array.dtype
            np.testing.assert_array_equal(state.arrays[each], array)
    assert encoded() == (name, data)


def test_arrays_are_used_where_they_lie_in_what_was_read() -> None:
    numbers = np.arange(5.0)
    parts = {"odd": np.arange(3, dtype=np.uint8), "x": numbers, "none": np.zeros((0, 2), np.int64)}
    name, found = encode(Snapshot("cfg", {"g": GroupState("v", "l", parts)}), 1)
    data = bytearray(b"".join(found))
    assert all(sum(map(len, found[:at])) % ALIGNED == 0 for at in range(0, len(found), 3))
    state = decode(name, data)
    assert isinstance(state, Snapshot)
    arrays = state.groups["g"].arrays
    assert all(array.flags.writeable and array.flags.aligned for array in arrays.values())
    data[data.index(numbers.tobytes()) + 7] ^= 0x80
    assert np.signbit(arrays["x"][0])


def test_a_large_array_is_not_copied_on_its_way_to_the_file() -> None:
    array = np.zeros(1_000_000)
    _, parts = encode(Snapshot("cfg", {"g": GroupState("v", "l", {"x": array[::1]})}), 1)
    array[:] = 7
    assert np.frombuffer(max(parts, key=len), np.float64)[-1] == 7


def test_any_flipped_bit_and_any_cut_is_found_out() -> None:
    name, data = encoded()
    damaged = [data[:at] for at in range(0, len(data), 97)] + [b""]
    for at in range(0, len(data), 97):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        damaged.append(bytes(changed))
    found = [decode(name, each) for each in damaged]
    assert {each.reason for each in found if isinstance(each, Unusable)} == {"corrupt"}
    assert all(isinstance(each, Unusable) for each in found)


def test_what_is_no_snapshot_is_foreign() -> None:
    for data in (b"", b"PK\x03\x04", b"\x93NUMPY", encoded()[1][:-70]):
        found = decode(f"1-{hashlib.sha256(data).hexdigest()[:32]}", data)
        assert isinstance(found, Unusable)
        assert found.reason == "foreign"
    assert decode("../x", b"") == Unusable("foreign", "its name is not that of a snapshot")
    assert offset_of("x") is None
