"""Keeps state over restarts: restores what is assigned, takes snapshots, words the commits.

Everything happens between two polls of the loop, piece by piece; only making bytes of a copy and
writing them is left to another thread.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import defaultdict, deque
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from stream_detector.core.cadence import Cadence
from stream_detector.core.packing import Spare, pack
from stream_detector.formats import checkpoint, snapshots
from stream_detector.formats.snapshots import GroupState, Snapshot
from stream_detector.ports import Position, Restored, Saved, SnapshotError
from stream_detector.records import Partition
from stream_detector.restore import Restorer, Track
from stream_detector.ticking import MANY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from concurrent.futures import Executor, Future

    from stream_detector.core.engine import Engine
    from stream_detector.core.groups import Groups
    from stream_detector.core.packing import Copy
    from stream_detector.ports import Clock, ModelLibrary, Polled, Rewindable, SnapshotStore
    from stream_detector.records import Record
    from stream_detector.restore import Decoder, Replay
    from stream_detector.ticking import Ticks

_log = logging.getLogger(__name__)

LEAVE_S = 5.0
"""For last snapshots, of the time that a service is given to stop."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a loop needs to keep its state over restarts."""

    source: Rewindable
    cfg: str = ""  # digest of the configuration that shapes state
    parts: Mapping[str, int] = field(default_factory=dict)  # input topic -> partitions
    max_replay: int = 100_000  # records of a partition, where no snapshot can be used
    library: ModelLibrary | None = None
    store: SnapshotStore | None = None
    writer: Executor | None = None  # writes snapshots; none are taken without
    every: float = 300.0  # s between two snapshots of a partition
    keep: int = 2  # generations
    target: float = 10.0  # s of replay at most; then snapshots are taken more often


@dataclass(slots=True)
class News:
    """What happened since the last turn."""

    replayed: int = 0
    restored: list[Restored] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)


class _Written(NamedTuple):
    name: str | None  # None: not written
    size: int
    detail: str


class _UnderWay(NamedTuple):
    track: Track
    partition: Partition
    offset: int
    began: float
    future: Future[_Written] | Future[None]  # None: there is room for the copy now


class Keeper:
    """All calls come from the loop's thread."""

    def __init__(  # what it shares with the loop
        self,
        keeping: Keeping,
        engine: Engine,
        decoder: Decoder,
        groups: Groups,
        ticks: Ticks,
        clock: Clock,
    ) -> None:
        self._ticks = ticks
        self._keeping = keeping
        self._source = keeping.source
        self._engine = engine
        self._clock = clock
        self._restorer = Restorer(
            source=keeping.source,
            engine=engine,
            decoder=decoder,
            groups=groups,
            clock=clock,
            cfg=keeping.cfg,
            max_replay=keeping.max_replay,
            store=keeping.store,
            library=keeping.library,
        )
        self._waiting: deque[Partition] = deque()
        self._replays: dict[Partition, Replay] = {}
        self._tracks: dict[Partition, Track] = {}
        self._changed: set[Partition] = set()
        self._under_way: _UnderWay | None = None
        self._cadence = Cadence(keeping.target)
        self._spare = Spare()
        self._news = News()
        self.busy = False
        """Records were, or may have been, set aside at the last turn: there are more to read."""

    @property
    def restoring(self) -> int:
        """Partitions whose state is not in place yet."""
        return len(self._waiting) + len(self._replays)

    def take(self, polled: Polled) -> Sequence[Record]:
        """Go on restoring; the records that are to be dealt with now."""
        for partition in (*polled.revoked, *polled.assigned):
            self._forget(partition)
        self._waiting += sorted(polled.assigned)
        self.busy = self.restoring > 0
        if not self.busy:
            return polled.records
        live: list[Record] = []
        below: defaultdict[Partition, list[Record]] = defaultdict(list)
        for place, run in groupby(polled.records, key=itemgetter(0, 1)):
            partition, records = Partition(*place), list(run)
            replay = self._replays.get(partition)
            if replay is not None:
                ends = bisect_left(records, replay.until, key=itemgetter(2))  # by their offsets
                below[partition] += records[:ends]
                live += records[ends:]
            elif partition in self._tracks:
                live += records  # others come again, when their partition is rewound
        for partition, replay in list(self._replays.items()):
            self._restorer.feed(replay, below[partition])
            self._news.replayed += len(below[partition])
            self._finish_if_done(replay)
        self._begin_next()
        if not self.restoring:
            self._restorer.rest()
        return live

    def swapped(self, group: str, version: str) -> None:
        """Another model serves the group from the next record on."""
        for partition, track in self._tracks.items():
            track.models.setdefault(group, []).append((track.at, version))
            self._reword(partition)

    def ticked(self, partitions: Iterable[Partition]) -> None:
        """These had a tick before their next record."""
        for partition in partitions:
            self._reword(partition)

    def position(self, partition: Partition, offset: int) -> Position:
        """What to commit when everything below the offset is dealt with."""
        track = self._tracks[partition]
        if not track.metadata:
            said = checkpoint.Checkpoint(
                replay_from=track.replay_from,
                snapshots=track.snapshots,
                cfg=self._keeping.cfg,
                parts=self._keeping.parts.get(partition.topic, 0),
                models=track.models,
                doubted=track.doubted,
                ticks=[(tick.offset, tick.time) for tick in self._ticks.of(partition)],
            )
            track.metadata = checkpoint.encode(said)
        return Position(offset, track.metadata)

    def advanced(self, offsets: Iterable[tuple[Partition, int]]) -> dict[Partition, int]:
        """Everything below these offsets is processed; what to acknowledge for another reason."""
        for partition, offset in offsets:
            self._tracks[partition].at = offset
        changed, self._changed = self._changed, set()
        return {partition: self._tracks[partition].at for partition in changed}

    def worked(self, records: int, seconds: float) -> None:
        """So many records took this long from their bytes to their verdicts."""
        self._cadence.worked(records, seconds)

    def save(self) -> None:
        """Take the next snapshot that is due, and see to the one that is being written."""
        if self._keeping.store is None or self._keeping.writer is None:
            return
        if self._under_way is not None and self._under_way.future.done():
            self._go_on(self._under_way)
        if self._under_way is None:
            self._prune()
            self._begin_snapshot()

    def leave(self) -> None:
        """Take last snapshots, those first that spare the longest replay, while there is time.

        Whoever takes over then has nothing to read again.
        """
        if self._keeping.store is None or self._keeping.writer is None:
            return
        deadline = self._clock.monotonic() + LEAVE_S
        behind = {p: track.at - track.replay_from for p, track in self._tracks.items()}
        for partition in [None, *sorted(self._tracks, key=lambda p: behind[p], reverse=True)]:
            if partition is not None and self._worth(partition):
                self._copy(partition)
            while self._under_way is not None:
                left = deadline - self._clock.monotonic()
                try:
                    self._under_way.future.exception(max(0.0, left))
                except TimeoutError:
                    _log.warning("stopping without a last snapshot of every partition")
                    return
                self._go_on(self._under_way)

    def news(self) -> News:
        news, self._news = self._news, News()
        return news

    def _forget(self, partition: Partition) -> None:
        self._tracks.pop(partition, None)
        self._replays.pop(partition, None)
        self._changed.discard(partition)
        if partition in self._waiting:
            self._waiting.remove(partition)

    def _begin_next(self) -> None:
        """Begin with waiting partitions, up to one that takes its time."""
        for _ in range(len(self._waiting)):
            partition = self._waiting.popleft()
            start = self._source.start(partition)
            replay = None if start is None else self._restorer.begin(partition, start)
            if replay is None:
                self._waiting.append(partition)
                return
            self._replays[partition] = replay
            self._finish_if_done(replay)
            if replay.track.snapshots:
                return

    def _finish_if_done(self, replay: Replay) -> None:
        if not self._restorer.done(replay):
            return
        partition = replay.partition
        del self._replays[partition]
        self._news.restored.append(self._restorer.finish(replay))
        now = self._clock.monotonic()
        self._ticks.resume(partition, replay.until, replay.ticks, now)
        track = self._tracks[partition] = replay.track
        track.prunable = True
        # Staggered: partitions that came together are not all due at once.
        share = (partition.number % 16 + 1) / 16
        track.due = now + self._keeping.every * share
        self._reword(partition)

    def _reword(self, partition: Partition) -> None:
        track = self._tracks[partition]
        track.metadata = ""
        self._changed.add(partition)
        position = self.position(partition, track.at)
        if len(position.metadata) > checkpoint.CROWDED or len(self._ticks.of(partition)) > MANY:
            track.due = 0.0

    def _begin_snapshot(self) -> None:
        """Of the partition whose turn it is, if any; room for its copy comes first."""
        now = self._clock.monotonic()
        due = [
            (track.due, partition)
            for partition, track in self._tracks.items()
            if track.due <= now and self._worth(partition)
        ]
        behind = {p: track.at - track.replay_from for p, track in self._tracks.items()}
        chosen = min(due)[1] if due else self._cadence.due(behind, now)
        if chosen is None:
            return
        size = self._engine.size(chosen)
        if self._spare.has(size):
            self._copy(chosen)
            return
        track = self._tracks[chosen]
        track.due = now + self._keeping.every
        assert self._keeping.writer is not None  # else nothing is saved
        future = self._keeping.writer.submit(self._spare.make, size)
        self._under_way = _UnderWay(track, chosen, track.at, now, future)
        if future.done():  # there is little to copy
            self._go_on(self._under_way)

    def _worth(self, partition: Partition) -> bool:
        """Whether a snapshot would spare anybody a replay, or be the first."""
        track = self._tracks[partition]
        return track.at > track.replay_from or not track.snapshots

    def _copy(self, partition: Partition) -> None:
        track, now = self._tracks[partition], self._clock.monotonic()
        track.due = now + self._keeping.every
        copies = {
            group: (self._engine.version(group), self._engine.layout(group), copied)
            for group, copied in self._engine.copy(partition, self._spare).items()
        }
        assert self._keeping.writer is not None  # else nothing is saved
        future = self._keeping.writer.submit(self._write, partition, track.at, copies)
        self._under_way = _UnderWay(track, partition, track.at, now, future)

    def _write(
        self, partition: Partition, offset: int, copies: dict[str, tuple[str, str, Copy]]
    ) -> _Written:
        """On the writer's thread."""
        assert self._keeping.store is not None  # else nothing is saved
        groups = {
            group: GroupState(version, layout, pack(copied))
            for group, (version, layout, copied) in copies.items()
        }
        try:
            name, parts = snapshots.encode(Snapshot(self._keeping.cfg, groups), offset)
            self._keeping.store.write(partition, name, parts)
        except (SnapshotError, MemoryError) as error:
            return _Written(None, 0, str(error) or "not enough memory")
        return _Written(name, sum(map(len, parts)), "")

    def _go_on(self, under_way: _UnderWay) -> None:
        """With a snapshot of which another thread has done its part."""
        self._under_way = None
        problem = under_way.future.exception()
        if problem is not None:
            self._written(under_way, _Written(None, 0, repr(problem)))
        elif (found := under_way.future.result()) is not None:
            self._written(under_way, found)
        elif self._tracks.get(under_way.partition) is under_way.track:
            self._copy(under_way.partition)

    def _written(self, under_way: _UnderWay, found: _Written) -> None:
        track, partition, offset, began, _ = under_way
        now = self._clock.monotonic()
        self._cadence.wrote(began, now)
        seconds = now - began
        self._news.saved.append(Saved("written" if found.name else "failed", seconds, found.size))
        if found.name is None:
            _log.error("no snapshot of %s[%d]: %s", *partition, found.detail)
            return
        if self._tracks.get(partition) is not track:
            return  # it has moved away meanwhile; its new owner does without
        others = [name for name in track.snapshots if name != found.name]
        track.snapshots = [found.name, *others][: self._keeping.keep]
        track.replay_from = offset
        oldest = snapshots.offset_of(track.snapshots[-1]) or 0
        for group, served in track.models.items():
            before = [entry for entry in served if entry[0] <= oldest][-1:]
            track.models[group] = before + [entry for entry in served if entry[0] > oldest]
        if track.doubted is not None and track.doubted <= oldest:
            track.doubted = None
        self._ticks.forget(partition, oldest)
        track.prunable = True
        self._reword(partition)

    def _prune(self) -> None:
        """Delete what no commit names any more, once it is known that none does."""
        committed = self._source.committed()
        for partition, track in self._tracks.items():
            at = committed.get(partition)
            if not track.prunable or not track.snapshots or at is None:
                continue
            if at.metadata != track.metadata:
                continue
            track.prunable = False
            assert self._keeping.writer is not None  # else nothing is saved
            self._keeping.writer.submit(self._delete_older, partition, track.snapshots[-1])

    def _delete_older(self, partition: Partition, oldest: str) -> None:
        """On the writer's thread. Newer files stay: another owner may have written them."""
        assert self._keeping.store is not None  # else nothing is saved
        limit = snapshots.offset_of(oldest) or 0
        try:
            for name in self._keeping.store.names(partition):
                offset = snapshots.offset_of(name)
                if offset is not None and offset < limit:
                    self._keeping.store.delete(partition, name)
        except SnapshotError as error:
            _log.warning("older snapshots of %s[%d] stay: %s", *partition, error)
