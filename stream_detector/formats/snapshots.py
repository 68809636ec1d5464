"""State of one partition as bytes: one uncompressed npz file, named by its content.

`OFFSET-DIGEST`: the offset that the state goes on at, and the first half of the file's SHA-256. The
name stands in the commit's metadata, so a file that was changed or exchanged is found out.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from stream_detector.records import Unusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

VERSION = 1
_NAME = re.compile(r"([0-9]{1,19})-([0-9a-f]{32})")


class GroupState(NamedTuple):
    """What one group holds of the partition."""

    version: str  # of the model that served
    layout: str  # what the arrays mean (see core.packing)
    arrays: Mapping[str, NDArray[Any]]


class Snapshot(NamedTuple):
    cfg: str  # digest of the configuration that shapes state
    groups: Mapping[str, GroupState]


class _Group(msgspec.Struct, frozen=True):
    name: str
    version: str
    layout: str
    arrays: list[str]


class _Header(msgspec.Struct, frozen=True):
    v: int
    cfg: str
    groups: list[_Group]


def offset_of(name: str) -> int | None:
    """The offset that a snapshot goes on at; None where the name is not one of a snapshot."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def encode(snapshot: Snapshot, offset: int) -> tuple[str, list[bytes | memoryview]]:
    """Name and content of the file, in parts: views of the arrays, which must stay as they are.

    Nothing here keeps the interpreter for long: other threads go on meanwhile.
    """
    groups = [
        _Group(name, group.version, group.layout, list(group.arrays))
        for name, group in snapshot.groups.items()
    ]
    header = msgspec.json.encode(_Header(VERSION, snapshot.cfg, groups))
    members = {"header": np.frombuffer(header, np.uint8)}
    for place, group in enumerate(snapshot.groups.values()):
        members |= {f"{place}-{name}": array for name, array in group.arrays.items()}
    parts = _Parts()
    # What numpy.savez would write, but without a copy of every array, and of all of them together.
    with zipfile.ZipFile(parts, "w") as file:  # type: ignore[call-overload]  # see _Parts
        for name, array in members.items():
            with file.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                whole = np.ascontiguousarray(array)
                said = np.lib.format.header_data_from_array_1_0(whole)
                np.lib.format.write_array_header_1_0(member, said)
                member.write(whole.reshape(-1).view(np.uint8).data)
    return f"{offset}-{_digest(parts.found)}", parts.found


class _Parts:
    """A file that can only be written, and keeps what it is given as it is."""

    def __init__(self) -> None:
        self.found: list[bytes | memoryview] = []

    def write(self, data: bytes | memoryview) -> int:
        self.found.append(data)
        return len(data)

    def flush(self) -> None: ...


def decode(name: str, data: bytes) -> Snapshot | Unusable:
    match = _NAME.fullmatch(name)
    if match is None:
        return Unusable("foreign", "its name is not that of a snapshot")
    if _digest([data]) != match[2]:
        return Unusable("corrupt", "its content is not what was written")
    buffer = io.BytesIO(data)
    if not zipfile.is_zipfile(buffer):
        return Unusable("foreign", "it is no npz file")
    try:
        with np.load(buffer, allow_pickle=False) as file:
            header = msgspec.json.decode(file["header"].tobytes(), type=_Header)
            if header.v != VERSION:
                return Unusable("foreign", f"its format is {header.v}, not {VERSION}")
            groups = {
                group.name: GroupState(
                    group.version,
                    group.layout,
                    {each: file[f"{place}-{each}"] for each in group.arrays},
                )
                for place, group in enumerate(header.groups)
            }
    except (ValueError, KeyError, OSError, zipfile.BadZipFile, msgspec.MsgspecError) as error:
        return Unusable("foreign", str(error))
    return Snapshot(header.cfg, groups)


def _digest(parts: Iterable[bytes | memoryview]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:32]
