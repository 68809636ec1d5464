"""State of one partition as bytes: arrays as numpy writes them, one after another.

The first holds JSON, which says what the others are. Each begins at a multiple of ALIGNED, so that
arrays can be used where they lie in the file's bytes.

`OFFSET-DIGEST`: the offset that the state goes on at, and the first half of the file's SHA-256. The
name stands in the commit's metadata, so a file that was changed or exchanged is found out.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from stream_detector.records import Unusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

VERSION = 2
ALIGNED = 64  # bytes, as in numpy's own files
_LONGEST_HEAD = 1 << 16
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
    arrays = [np.frombuffer(header, np.uint8)]
    arrays += [array for group in snapshot.groups.values() for array in group.arrays.values()]
    parts = [part for array in arrays for part in _parts(np.ascontiguousarray(array))]
    return f"{offset}-{_digest(parts)}", parts


def decode(name: str, data: bytes | bytearray) -> Snapshot | Unusable:
    """The arrays are views of `data`: they can be written to where that can."""
    match = _NAME.fullmatch(name)
    if match is None:
        return Unusable("foreign", "its name is not that of a snapshot")
    if _digest([data]) != match[2]:
        return Unusable("corrupt", "its content is not what was written")
    try:
        first, *rest = _arrays(data)
        header = msgspec.json.decode(first.tobytes(), type=_Header)
        if header.v != VERSION:
            return Unusable("foreign", f"its format is {header.v}, not {VERSION}")
        names = [(group.name, name) for group in header.groups for name in group.arrays]
        found = dict(zip(names, rest, strict=True))
    except (ValueError, msgspec.MsgspecError) as error:
        return Unusable("foreign", str(error))
    groups = {
        group.name: GroupState(
            group.version, group.layout, {name: found[group.name, name] for name in group.arrays}
        )
        for group in header.groups
    }
    return Snapshot(header.cfg, groups)


def _parts(array: NDArray[Any]) -> list[bytes | memoryview]:
    """One array of the file: what it is, its bytes, what is missing to a multiple of ALIGNED."""
    head = io.BytesIO()
    said = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(head, said)  # its size is such a multiple
    data = array.reshape(-1).view(np.uint8).data
    return [head.getvalue(), data, bytes(-len(data) % ALIGNED)]


def _arrays(data: bytes | bytearray) -> list[NDArray[Any]]:
    """Raises ValueError where the data, whose bytes were checked, are no arrays."""
    found = []
    at = 0
    while at < len(data):
        head = io.BytesIO(data[at : at + _LONGEST_HEAD])
        if np.lib.format.read_magic(head) != (1, 0):
            raise ValueError("an array is written in another way")
        shape, _, dtype = np.lib.format.read_array_header_1_0(head)
        flat = np.frombuffer(data, dtype, math.prod(shape), at + head.tell())
        at += head.tell() + flat.nbytes + -flat.nbytes % ALIGNED
        found.append(flat.reshape(shape))
    return found


def _digest(parts: Iterable[bytes | bytearray | memoryview]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:32]
