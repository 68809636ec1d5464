"""State of the series of one group in one partition: arrays, one row per series.

Values are kept relative to a float64 anchor of the series, so that large counters keep their
resolution as float32. Open episodes are few and lie in a small table beside the arrays.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_detector.core.calibration import MEMORY, prior
from stream_detector.core.clock import FOREVER, NEVER, PartitionClock
from stream_detector.core.resample import Buckets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray

    from stream_detector.core.episode import Episode
    from stream_detector.core.transforms import Transforms
    from stream_detector.records import Kind

WINDOW = 60
LEARN = 120
NOT_LEARNING = -1

LEARNING, LEARNT, KNOWN = 0, 1, 2
"""States of a row: centre and scale unknown, from its own first samples, from the bundle."""


class Slab:
    """Rows of all arrays belong together; `index` finds the row of a series.

    F features, S scales, C scales above 1, X experts; `smoothing` holds the look-back (n - 1) of
    each expert.
    """

    anchor: NDArray[np.float64]  # [R, F]; NaN before the first sample
    last: NDArray[np.float64]  # [R, F] newest values, as sent; NaN before the first sample
    held: NDArray[np.uint8]  # [R, F] samples in a row that a value was held for
    ring: NDArray[np.float32]  # [R, S, 60, F] step i of a scale lies at i % 60
    sums: NDArray[np.float64]  # [R, C, F] of the samples of the unfinished step
    center: NDArray[np.float32]  # [R, F] relative to the anchor
    spread: NDArray[np.float32]  # [R, F]
    state: NDArray[np.uint8]  # [R]
    slot: NDArray[np.int32]  # [R] place in the learning pool
    seen: NDArray[np.int64]  # [R] steps of scale 1: accepted samples, or buckets of them
    last_time: NDArray[np.int64]  # [R] ms
    heard: NDArray[np.int64]  # [R] elapsed clock of the partition at the newest accepted sample, ms
    late: NDArray[np.uint8]  # [R] late samples in a row
    interval: NDArray[np.float32]  # [R] ms between steps
    excess: NDArray[np.float32]  # [R, X] newest tail excess of each expert; NaN before the first
    location: NDArray[np.float64]  # [R] of the transformed score
    deviation: NDArray[np.float64]  # [R]
    scored: NDArray[np.int32]  # [R] scores so far
    whole: NDArray[np.int32]  # [R] from so many on nothing is left of a restore in part only
    memory: NDArray[np.void]  # [R] what they have taught
    promised: NDArray[np.float32]  # [R] alarms a score that are accepted; NaN where none is told
    wanted: NDArray[np.float32]  # [R] level that raises an alarm; NaN where none is told
    bound: NDArray[np.float32]  # [R] score that raises an alarm; infinite where none is told
    threshold: NDArray[np.float32]  # [R] level that raised one last; infinite before the first
    level: NDArray[np.float32]  # [R] newest; NaN before the first
    score: NDArray[np.float32]  # [R] newest
    above: NDArray[np.uint16]  # [R] samples in a row above the threshold, outside episodes
    withheld: NDArray[np.bool_]  # [R] a filter holds this very anomaly back
    tainted: NDArray[np.int64]  # [R] newest step whose windows may hold an anomaly that is over
    peak: NDArray[np.float64]  # [R] of an anomaly that ended by it, and its step
    peaked: NDArray[np.int64]  # [R]
    busy: NDArray[np.bool_]  # [R] there are open episodes
    silent: NDArray[np.bool_]  # [R] its deadline has passed; nothing came since
    same: NDArray[np.uint16]  # [R, F] samples in a row with the newest value
    longest: NDArray[np.uint16]  # [R, F] of such runs, as far as they are normal
    moves: NDArray[np.uint8]  # [R, F] samples that brought another value, while this was learnt
    rests: NDArray[np.bool_]  # [R, F] it was zero at times, while this was learnt
    watched: NDArray[np.uint8]  # [R] samples that this was learnt from

    # Only where there are several features:
    blame: NDArray[np.float32]  # [R, S, F] each one's usual part of the score
    blame_known: NDArray[np.uint16]  # [R, S] calm windows that this rests on, up to a bound
    blame_sum: NDArray[np.float64]  # [R, S, F] of those of the unfinished block
    blame_count: NDArray[np.uint16]  # [R, S]

    # Only where samples are resampled:
    bucket: NDArray[np.int64]  # [R] number of the bucket that is being filled; NEVER before it
    bucket_value: NDArray[np.float64]  # [R, F]
    bucket_count: NDArray[np.int64]  # [R]
    begun: NDArray[np.int64]  # [R] steps before the unbroken run of steps

    def __init__(
        self,
        features: int,
        scales: Sequence[int],
        smoothing: Sequence[int],
        transforms: Transforms,
    ) -> None:
        self.transforms = transforms
        self.features = features
        self.scales = tuple(scales)
        self.smoothing = tuple(smoothing)
        self.coarse = tuple(k for k in self.scales if k > 1)
        self.index: dict[str, int] = {}
        self.names: list[str | None] = []
        self.free: list[int] = []
        self.open: dict[int, dict[Kind, Episode]] = {}  # one of a kind
        self.clock = PartitionClock()
        self.next_eviction = FOREVER  # no series is due before this time
        self.next_census = NEVER  # when those are counted that share the total alarm budget
        self.fleet = 0  # series at the last census
        self.suspect_until = NEVER  # on the elapsed clock: who comes anew may have been lost
        self.next_silence = NEVER  # no series that still sends has a deadline before this time
        self.columns = self._layout()
        for name, (dtype, shape, _) in self.columns.items():
            setattr(self, name, np.empty((0, *shape), dtype))
        self.history = [np.empty((0, n), np.float32) for n in self.smoothing]  # [R, n - 1] each
        self.inputs = [np.empty((0, h, features)) for h in transforms.lookback]  # [R, h, F] each
        self.pool = LearningPool(features)

    def _layout(self) -> dict[str, tuple[DTypeLike, tuple[int, ...], Any]]:
        f, s, c, x = self.features, len(self.scales), len(self.coarse), len(self.smoothing)
        resampled: dict[str, tuple[DTypeLike, tuple[int, ...], Any]] = {
            "bucket": (np.int64, (), NEVER),
            "bucket_value": (np.float64, (f,), 0),
            "bucket_count": (np.int64, (), 0),
            "begun": (np.int64, (), 0),
        }
        blamed: dict[str, tuple[DTypeLike, tuple[int, ...], Any]] = {
            "blame": (np.float32, (s, f), 0),
            "blame_known": (np.uint16, (s,), 0),
            "blame_sum": (np.float64, (s, f), 0),
            "blame_count": (np.uint16, (s,), 0),
        }
        return {
            "anchor": (np.float64, (f,), np.nan),
            "last": (np.float64, (f,), np.nan),
            "held": (np.uint8, (f,), 0),
            "ring": (np.float32, (s, WINDOW, f), 0),
            "sums": (np.float64, (c, f), 0),
            "center": (np.float32, (f,), 0),
            "spread": (np.float32, (f,), 1),
            "state": (np.uint8, (), LEARNING),
            "slot": (np.int32, (), NOT_LEARNING),
            "seen": (np.int64, (), 0),
            "last_time": (np.int64, (), NEVER),
            "heard": (np.int64, (), NEVER),
            "late": (np.uint8, (), 0),
            "interval": (np.float32, (), self.transforms.every),
            "excess": (np.float32, (x,), np.nan),
            "location": (np.float64, (), 0),
            "deviation": (np.float64, (), 1),
            "scored": (np.int32, (), 0),
            "whole": (np.int32, (), 0),
            "memory": (MEMORY, (), prior(1.0, 1.0, 1.0)[0]),
            "promised": (np.float32, (), np.nan),
            "wanted": (np.float32, (), np.nan),
            "bound": (np.float32, (), np.inf),
            "threshold": (np.float32, (), np.inf),
            "level": (np.float32, (), np.nan),
            "score": (np.float32, (), np.nan),
            "above": (np.uint16, (), 0),
            "withheld": (np.bool_, (), 0),
            "tainted": (np.int64, (), 0),
            "peak": (np.float64, (), 0),
            "peaked": (np.int64, (), 0),
            "busy": (np.bool_, (), 0),
            "silent": (np.bool_, (), 0),
            "same": (np.uint16, (f,), 0),
            "longest": (np.uint16, (f,), 0),
            "moves": (np.uint8, (f,), 0),
            "rests": (np.bool_, (f,), 0),
            "watched": (np.uint8, (), 0),
            **(blamed if f > 1 else {}),
            **(resampled if self.transforms.grid else {}),
        }

    def __len__(self) -> int:
        return len(self.index)

    def pasts(self) -> list[NDArray[Any]]:
        return [*self.history, *self.inputs]

    @property
    def buckets(self) -> Buckets:
        """The arrays of resampling, where there is some."""
        return Buckets(self.bucket, self.bucket_value, self.bucket_count)

    @property
    def capacity(self) -> int:
        return len(self.seen)

    @property
    def bytes_per_row(self) -> int:
        """Memory of one series, less its name."""
        columns = sum(
            np.dtype(dtype).itemsize * int(np.prod(shape))
            for dtype, shape, _ in self.columns.values()
        )
        inputs = 8 * self.features * sum(self.transforms.lookback)
        return columns + 4 * sum(self.smoothing) + inputs

    def add(self, series: str) -> int:
        """A fresh row for a series that has none."""
        if self.free:
            row = self.free.pop()
        else:
            row = len(self.names)
            if row == self.capacity:
                self._grow(max(64, row + row // 2))
            self.names.append(None)
            self.slot[row] = NOT_LEARNING
        self.names[row] = series
        self.index[series] = row
        self.clear(row)
        return row

    def clear(self, row: int) -> None:
        """Forget all but the name of a row and its open episodes."""
        self.forget_learning(row)
        for name, (_, _, fill) in self.columns.items():
            getattr(self, name)[row] = fill
        for past in self.pasts():
            past[row] = np.nan
        self.busy[row] = row in self.open

    def doubt(self, rows: NDArray[np.int64]) -> None:
        """What is known of these may be a part only, until their windows are filled anew."""
        self.whole[rows] = self.scored[rows] + WINDOW * self.scales[-1]

    def episodes(self, row: int) -> list[Episode]:
        """The open episodes of a row, by kind."""
        return [episode for _, episode in sorted(self.open.get(row, {}).items())]

    def find(self, row: int, kind: Kind) -> Episode | None:
        return self.open.get(row, {}).get(kind)

    def begin(self, row: int, episode: Episode) -> None:
        self.open.setdefault(row, {})[episode.kind] = episode
        self.busy[row] = True

    def end(self, row: int, kind: Kind) -> Episode:
        """Take an open episode out. Raises KeyError where there is none."""
        kinds = self.open[row]
        episode = kinds.pop(kind)
        if not kinds:
            del self.open[row]
            self.busy[row] = False
        return episode

    def forget_learning(self, row: int) -> None:
        if self.slot.item(row) != NOT_LEARNING:
            self.pool.release(self.slot.item(row))
            self.slot[row] = NOT_LEARNING

    def remove(self, row: int) -> None:
        self.clear(row)
        name = self.names[row]
        if name is not None:
            del self.index[name]
        self.names[row] = None
        self.free.append(row)

    def _grow(self, capacity: int) -> None:
        for name in self.columns:
            old: NDArray[Any] = getattr(self, name)
            setattr(self, name, _grown(old, capacity))
        self.history = [_grown(old, capacity) for old in self.history]
        self.inputs = [_grown(old, capacity) for old in self.inputs]

    def rows_in_use(self) -> NDArray[np.int64]:
        rows = np.ones(len(self.names), np.bool_)
        rows[self.free] = False
        return np.flatnonzero(rows)

    def rows(self) -> NDArray[np.int64]:
        """Rows in use, by series name: an order that history does not change."""
        return np.array([self.index[name] for name in sorted(self.index)], np.int64)

    def digest(self) -> str:
        """Hash of the whole state; equal states give equal hashes whatever their row numbers."""
        rows = self.rows()
        result = hashlib.blake2b(digest_size=16)
        result.update(
            repr((self.clock, self.scales, self.smoothing, self.fleet, self.suspect_until)).encode()
        )
        for name in sorted(self.index):
            result.update(name.encode("utf-8", "surrogatepass") + b"\0")
        for name in self.columns:
            if name != "slot":
                result.update(np.ascontiguousarray(getattr(self, name)[rows]).tobytes())
        for past in self.pasts():
            result.update(np.ascontiguousarray(past[rows]).tobytes())
        for row in rows[self.slot[rows] != NOT_LEARNING]:
            slot = self.slot.item(row)
            seen = min(self.seen.item(row), LEARN)
            result.update(self.pool.values[slot, :seen].tobytes())
            result.update(self.pool.steps[slot, :seen].tobytes())
        for row in rows:
            result.update(repr(self.episodes(row)).encode() if self.busy[row] else b"")
        return result.hexdigest()


def _grown(old: NDArray[Any], capacity: int) -> NDArray[Any]:
    # np.zeros takes untouched pages from the system, so unused capacity costs no memory.
    new = np.zeros((capacity, *old.shape[1:]), old.dtype)
    new[: len(old)] = old
    return new


class LearningPool:
    """The first samples of series that have no centre and scale yet; empty most of the time."""

    def __init__(self, features: int) -> None:
        self.features = features
        self.values = np.empty((0, LEARN, features), np.float32)  # relative to the anchor
        self.steps = np.empty((0, LEARN), np.float32)  # ms since the step before
        self.free: list[int] = []

    def take(self) -> int:
        if not self.free:
            old = len(self.values)
            new = max(64, old + old // 2)
            values = np.zeros((new, LEARN, self.features), np.float32)
            steps = np.zeros((new, LEARN), np.float32)
            values[:old] = self.values
            steps[:old] = self.steps
            self.values, self.steps = values, steps
            self.free = list(range(new - 1, old - 1, -1))
        return self.free.pop()

    def release(self, slot: int) -> None:
        self.free.append(slot)
        if len(self.free) == len(self.values):
            self.__init__(self.features)  # type: ignore[misc]  # give the memory back
