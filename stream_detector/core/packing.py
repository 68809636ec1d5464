"""A slab as arrays and back: what a snapshot holds of one group in one partition.

Copying is short and belongs to the loop; making arrays of names and episodes can be left to another
thread. Rows keep their numbers.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stream_detector.core.clock import PartitionClock
from stream_detector.core.episode import Episode, Now, Window
from stream_detector.core.slab import NOT_LEARNING
from stream_detector.records import Kind, digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from stream_detector.core.slab import Slab

FORMAT = 1
"""Changes with the meaning of what is packed; layouts of another are foreign."""
_MARKS = ("next_eviction", "next_census", "next_silence", "fleet", "suspect_until")
_ENCODING = ("utf-8", "surrogatepass")


class Copy(NamedTuple):
    """A slab as it was at one moment; shares nothing with it that changes. R rows, free or not."""

    arrays: dict[str, NDArray[Any]]  # [R, ...] each, but for the learning pool's
    names: list[str | None]  # [R]
    episodes: list[tuple[int, Episode]]  # row, episode
    marks: dict[str, Any]


def layout(slab: Slab, features: Sequence[str]) -> str:
    """What arrays mean: equal where, and only where, a slab can take up what another packed."""
    columns = {name: (np.dtype(t).descr, shape) for name, (t, shape, _) in slab.columns.items()}
    rules = slab.transforms.rules
    return digest(FORMAT, tuple(features), slab.scales, slab.smoothing, rules, columns)


class Spare:
    """Memory for copies, used again: most of a copy's time is that of the system's fresh pages."""

    def __init__(self) -> None:
        self._room = np.empty(0, np.uint8)
        self._used = 0

    def has(self, size: int) -> bool:
        return len(self._room) >= size

    def make(self, size: int) -> None:
        """Room for copies of so many bytes and some growth, its pages touched. Takes its time.

        No copy may be in use. Raises MemoryError.
        """
        self._room = np.empty(0, np.uint8)  # both at once would be too much
        room = np.empty(size + size // 8, np.uint8)
        room.fill(0)
        self._room = room

    def empty(self) -> None:
        """The copies made here are not needed any more."""
        self._used = 0

    def copy(self, array: NDArray[Any]) -> NDArray[Any]:
        """Elsewhere where there is no room left."""
        start, self._used = self._used, self._used + _aligned(array.nbytes)
        if self._used > len(self._room):
            return array.copy()
        found = self._room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        np.copyto(found, array)
        return found


def _aligned(size: int) -> int:
    return -(-size // 64) * 64


def size(slab: Slab) -> int:
    """Bytes of room that a copy takes."""
    rows = len(slab.names)
    return sum(_aligned(column[:rows].nbytes) for column in _columns(slab).values())


def _columns(slab: Slab) -> dict[str, NDArray[Any]]:
    columns = {name: getattr(slab, name) for name in slab.columns if name != "slot"}
    return columns | {f"past-{place}": past for place, past in enumerate(slab.pasts())}


def copies(slabs: Mapping[str, Slab], spare: Spare | None = None) -> dict[str, Copy]:
    """Each slab as it is now, in the room of `spare`, where those before are lost."""
    room = spare or Spare()
    room.empty()
    return {name: _copy(slab, room) for name, slab in slabs.items()}


def _copy(slab: Slab, room: Spare) -> Copy:
    rows = len(slab.names)
    arrays = {name: room.copy(column[:rows]) for name, column in _columns(slab).items()}
    learning = np.flatnonzero(slab.slot[:rows] != NOT_LEARNING)
    arrays["learning"] = learning
    arrays["learning-values"] = slab.pool.values[slab.slot[learning]]
    arrays["learning-steps"] = slab.pool.steps[slab.slot[learning]]
    arrays["free"] = np.array(slab.free, np.int64)
    episodes = [
        (row, replace(episode)) for row, kinds in slab.open.items() for episode in kinds.values()
    ]
    marks = {name: getattr(slab, name) for name in _MARKS} | {"clock": tuple(slab.clock)}
    return Copy(arrays, slab.names.copy(), episodes, marks)


def pack(copied: Copy) -> dict[str, NDArray[Any]]:
    """A copy as arrays alone: names as one text of bytes with their ends, the rest as JSON."""
    names = [name or "" for name in copied.names]
    text = "".join(names).encode(*_ENCODING)
    ends = np.cumsum([len(name) for name in names], dtype=np.int64)
    if names and ends[-1] != len(text):  # some letters take several bytes
        ends = np.cumsum([len(name.encode(*_ENCODING)) for name in names], dtype=np.int64)
    episodes = [(row, *_plain(episode)) for row, episode in copied.episodes]
    return copied.arrays | {
        "names": np.frombuffer(text, np.uint8),
        "names-end": ends,
        "marks": _bytes(copied.marks),
        "episodes": _bytes(episodes),
    }


def unpack(slab: Slab, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Fill an empty slab of the same layout; it may keep the arrays and write into them.

    Raises KeyError or ValueError where these are not what `pack` made of such a slab.
    """
    ends = arrays["names-end"].tolist()
    rows = len(ends)
    for name, (dtype, shape, _) in slab.columns.items():
        if name != "slot":
            setattr(slab, name, _checked(arrays[name], dtype, (rows, *shape)))
    slab.slot = np.full(rows, NOT_LEARNING, np.int32)
    pasts = [
        _checked(arrays[f"past-{place}"], past.dtype, (rows, *past.shape[1:]))
        for place, past in enumerate(slab.pasts())
    ]
    slab.history, slab.inputs = pasts[: len(slab.history)], pasts[len(slab.history) :]
    values, steps = arrays["learning-values"], arrays["learning-steps"]
    for row, learnt, step in zip(arrays["learning"].tolist(), values, steps, strict=True):
        slot = slab.slot[row] = slab.pool.take()
        slab.pool.values[slot], slab.pool.steps[slot] = learnt, step

    slab.names = _cut(arrays["names"].tobytes(), ends)
    slab.free = arrays["free"].tolist()
    for row in slab.free:
        slab.names[row] = None
    slab.index = {name: row for row, name in enumerate(slab.names) if name is not None}
    if len(slab.index) != rows - len(slab.free):
        raise ValueError("two rows have the same name")

    marks = json.loads(arrays["marks"].tobytes())
    for name in _MARKS:
        setattr(slab, name, marks[name])
    elapsed, reached, ahead = marks["clock"]
    slab.clock = PartitionClock(elapsed, reached, ahead and (ahead[0], ahead[1]))
    for row, kind, window, now, rest in json.loads(arrays["episodes"].tobytes()):
        slab.begin(row, Episode(Kind(kind), window=Window(*window), now=Now(*now), **rest))


def _cut(text: bytes, ends: Sequence[int]) -> list[str | None]:
    if text.isascii():  # twice as quick
        letters = text.decode()
        return [letters[start:end] for start, end in pairwise((0, *ends))]
    return [str(text[start:end], *_ENCODING) for start, end in pairwise((0, *ends))]


def _plain(episode: Episode) -> tuple[str, Window, Now, dict[str, Any]]:
    given = {"kind", "window", "now"}
    rest = {
        name: getattr(episode, name) for name in Episode.__dataclass_fields__ if name not in given
    }
    return episode.kind.value, episode.window, episode.now, rest


def _bytes(value: object) -> NDArray[np.uint8]:
    # Floats come back to the bit, and NaN and infinity as the names that this very module reads.
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _checked(array: NDArray[Any], dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        raise ValueError(f"{array.dtype}{array.shape} in the place of {np.dtype(dtype)}{shape}")
    return array if array.flags.writeable else array.copy()
