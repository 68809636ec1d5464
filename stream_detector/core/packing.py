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
        self._arrays: dict[tuple[str, str], NDArray[Any]] = {}

    def copy(self, owner: str, name: str, array: NDArray[Any]) -> NDArray[Any]:
        kept = self._arrays.get((owner, name))
        if kept is None or kept.dtype != array.dtype or kept.shape[1:] != array.shape[1:]:
            kept = None
        if kept is None or len(kept) < len(array):
            kept = self._arrays[owner, name] = np.empty_like(array)
        view = kept[: len(array)]
        np.copyto(view, array)
        return view


def copy(slab: Slab, spare: Spare | None = None, owner: str = "") -> Copy:
    """All state of a slab; with `spare` in memory of the owner's last copy, which is lost by it."""
    spare = spare or Spare()
    rows = len(slab.names)
    columns = {name: getattr(slab, name) for name in slab.columns if name != "slot"}
    columns |= {f"past-{place}": past for place, past in enumerate(slab.pasts())}
    arrays = {name: spare.copy(owner, name, column[:rows]) for name, column in columns.items()}
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
    encoded = [(name or "").encode(*_ENCODING) for name in copied.names]
    ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
    episodes = [(row, *_plain(episode)) for row, episode in copied.episodes]
    return copied.arrays | {
        "names": np.frombuffer(b"".join(encoded), np.uint8),
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

    text = arrays["names"].tobytes()
    slab.names = [str(text[start:end], *_ENCODING) for start, end in pairwise((0, *ends))]
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
