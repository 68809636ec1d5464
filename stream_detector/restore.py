"""State of a partition that was just assigned: commit -> snapshot -> silent replay -> live.

An engine of its own takes up the snapshot and the records below the commit, under the models that
served them, and hands the state over when it has reached the commit. Nothing of it is published.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from stream_detector.formats import checkpoint, snapshots
from stream_detector.ports import Restored
from stream_detector.records import Unusable
from stream_detector.ticking import Tick

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stream_detector.core.engine import Engine
    from stream_detector.core.groups import Groups
    from stream_detector.formats.checkpoint import Checkpoint
    from stream_detector.formats.snapshots import GroupState, Snapshot
    from stream_detector.ports import Clock, Model, ModelLibrary, Rewindable, SnapshotStore, Start
    from stream_detector.records import Partition, Record, Rejected, Sample

_log = logging.getLogger(__name__)

Served = list[tuple[int, str]]
"""The versions that served a group, each from an offset on."""


class Decoder(Protocol):
    def decode(self, records: Sequence[Record]) -> tuple[list[Sample], list[Rejected]]: ...


@dataclass(slots=True)
class Track:
    """How the state of one partition can be had again; what its commits say."""

    replay_from: int
    at: int  # next offset to be processed
    snapshots: list[str] = field(default_factory=list)  # names, newest first
    models: dict[str, Served] = field(default_factory=dict)
    due: float = 0.0  # s of the monotonic clock: when to take the next snapshot
    prunable: bool = False  # older files may lie about
    metadata: str = ""  # cached
    doubted: int | None = None  # offset at which the state was had in part only


DEGRADED = frozenset({"partial", "bounded"})
"""Outcomes after which series are `recovering`."""


def last(served: Served, offset: int) -> str | None:
    """The version that served the record at an offset."""
    return next((version for start, version in reversed(served) if start <= offset), None)


class _Ground(NamedTuple):
    """What a replay begins with."""

    outcome: str
    offset: int
    groups: Mapping[str, GroupState]
    snapshots: list[str]
    models: Mapping[str, Served]
    doubted: int | None = None
    ticks: list[Tick] = []  # noqa: RUF012  # never changed


class Replay:
    """The records of one partition from R to its commit, on their way into an engine of its own."""

    def __init__(
        self, partition: Partition, until: int, engine: Engine, track: Track, outcome: str
    ) -> None:
        self.partition = partition
        self.until = until
        self.engine = engine
        self.track = track
        self.outcome = outcome
        self.records = 0
        self.began = 0.0  # s of the monotonic clock
        self.switches: list[tuple[int, str, str]] = []  # offset, group, version; ascending
        self.doubt_at: int | None = None
        self.ticks: list[Tick] = []  # that the partition had since R, ascending
        self.ticked = 0  # how many of them were given again

    @property
    def next_stop(self) -> int:
        """Where something else than a record comes next."""
        stops = [at for at, _, _ in self.switches[:1]]
        stops += [tick.offset for tick in self.ticks[self.ticked : self.ticked + 1]]
        if self.doubt_at is not None:
            stops.append(self.doubt_at)
        return min(stops, default=self.until)


class Restorer:
    """Begins, feeds and ends replays. Called from the loop's thread."""

    def __init__(
        self,
        *,
        source: Rewindable,
        engine: Engine,
        decoder: Decoder,
        groups: Groups,
        clock: Clock,
        cfg: str,
        max_replay: int,
        store: SnapshotStore | None,
        library: ModelLibrary | None,
    ) -> None:
        self._source = source
        self._engine = engine
        self._decoder = decoder
        self._groups = groups
        self._clock = clock
        self._cfg = cfg
        self._max_replay = max_replay
        self._store = store
        self._library = library
        self._models: dict[tuple[str, str], Model | None] = {}

    def begin(self, partition: Partition, start: Start) -> Replay | None:
        """Read the snapshot and rewind; None where the source must be asked again later."""
        began = self._clock.monotonic()
        if start.metadata is None:
            ground = _Ground("new", start.offset, {}, [], {})
        else:
            ground = self._ground(partition, start.offset, checkpoint.decode(start.metadata))
        offset = self._source.rewind(partition, ground.offset)
        if offset is None:
            return None
        track = Track(offset, start.offset, ground.snapshots, doubted=ground.doubted)
        replay = Replay(partition, start.offset, self._engine.blank(), track, ground.outcome)
        replay.began = began
        if offset > ground.offset and ground.outcome != "bounded":
            self._declare(replay, f"the records from {ground.offset} to {offset} are deleted")
            track.replay_from = ground.offset if ground.snapshots else offset
        for group in self._engine.groups():
            self._prepare(replay, group, ground, offset)
        replay.switches.sort()
        for group, state in ground.groups.items():
            self._take_up(replay, group, state)
        if ground.doubted is not None and (ground.offset < ground.doubted or not ground.groups):
            replay.doubt_at = ground.doubted
        replay.ticks = [tick for tick in ground.ticks if tick.offset >= offset]
        if ground.outcome not in {"new", "exact"}:
            _log.warning(
                "%s: state is %s, from offset %d", _name(partition), ground.outcome, offset
            )
        return replay

    def feed(self, replay: Replay, records: Sequence[Record]) -> None:
        """Records of the partition below its commit, in order."""
        rest = list(records)
        replay.records += len(rest)
        while rest:
            self._pass(replay, rest[0].offset)
            end = replay.next_stop
            part = [record for record in rest if record.offset < end]
            rest = rest[len(part) :]
            samples, _ = self._decoder.decode(part)
            replay.engine.process(self._groups.assemble(samples).batches)

    def done(self, replay: Replay) -> bool:
        return self._source.at(replay.partition) >= replay.until

    def finish(self, replay: Replay) -> Restored:
        """Hand the state over to the engine that goes on with it."""
        self._pass(replay, replay.until)
        for group in self._engine.groups():
            version = self._engine.version(group)
            if replay.engine.version(group) != version:
                replay.track.models[group].append((replay.until, version))
        self._engine.adopt(replay.engine, replay.partition)
        if replay.outcome in DEGRADED:
            self._engine.doubt(replay.partition)
            replay.track.doubted = replay.until
        seconds = self._clock.monotonic() - replay.began
        _log.info(
            "%s: state in place (%s): %d records replayed in %.1f s",
            _name(replay.partition),
            replay.outcome,
            replay.records,
            seconds,
        )
        return Restored(replay.outcome, replay.records, seconds)

    def _ground(self, partition: Partition, until: int, saved: Checkpoint | None) -> _Ground:
        """The newest of what can be used: a snapshot, no state at R, or none before max_replay."""
        earliest = max(0, until - self._max_replay)
        if saved is None or saved.cfg != self._cfg:
            why = "the commit says nothing of state" if saved is None else "the configuration"
            _log.warning("%s: no state to be had, because of %s", _name(partition), why)
            return _Ground("bounded", earliest, {}, [], {})
        ticks = [Tick(*tick) for tick in saved.ticks]
        for place, name in enumerate(saved.snapshots):
            found = self._read(partition, name)
            if isinstance(found, Unusable):
                _log.error(
                    "%s: snapshot %s is %s: %s", _name(partition), name, found.reason, found.detail
                )
                continue
            offset = snapshots.offset_of(name) or 0
            outcome = "older" if place else "exact"
            kept = saved.snapshots[place:]
            return _Ground(outcome, offset, found.groups, kept, saved.models, saved.doubted, ticks)
        if not saved.snapshots and saved.replay_from >= earliest:
            start = saved.replay_from
            return _Ground("exact", start, {}, [], saved.models, saved.doubted, ticks)
        return _Ground("bounded", earliest, {}, [], saved.models, ticks=ticks)

    def _read(self, partition: Partition, name: str) -> Snapshot | Unusable:
        if self._store is None:
            return Unusable("missing", "snapshots.url is not set any more")
        data = self._store.read(partition, name)
        if isinstance(data, Unusable):
            return data
        found = snapshots.decode(name, data)
        if isinstance(found, Unusable):
            return found
        if found.cfg != self._cfg:
            return Unusable("foreign", "it was made under another configuration")
        return found

    def _prepare(self, replay: Replay, group: str, ground: _Ground, offset: int) -> None:
        """Let the version serve that served at R, and note when others did."""
        served = list(ground.models.get(group, ()))
        version = last(served, offset)
        kept = [entry for entry in served if entry[0] <= offset]
        if version is not None:
            self._serve(replay, group, version)
        if version != replay.engine.version(group):
            kept.append((offset, replay.engine.version(group)))
        replay.track.models[group] = kept
        replay.switches += [
            (at, group, version) for at, version in served if offset < at <= replay.until
        ]

    def _pass(self, replay: Replay, offset: int) -> None:
        """What came before the record at this offset: swaps of models, doubts, ticks."""
        while replay.switches and replay.switches[0][0] <= offset:
            at, group, version = replay.switches.pop(0)
            before = replay.engine.version(group)
            self._serve(replay, group, version)
            if replay.engine.version(group) != before:
                replay.track.models[group].append((at, replay.engine.version(group)))
        if replay.doubt_at is not None and replay.doubt_at <= offset:
            replay.doubt_at = None
            replay.engine.doubt(replay.partition)
        while replay.ticked < len(replay.ticks) and replay.ticks[replay.ticked].offset <= offset:
            replay.engine.tick(replay.partition, replay.ticks[replay.ticked].time)
            replay.ticked += 1

    def _serve(self, replay: Replay, group: str, version: str) -> None:
        if version == replay.engine.version(group):
            return
        if version == self._engine.version(group):
            outcome = replay.engine.serve_as(group, self._engine)
        else:
            model = self._load(group, version)
            if model is None:
                why = f"bundle {version} of group {group} is gone, another stands in"
                self._declare(replay, why)
                return
            outcome = replay.engine.serve(group, model)
        if outcome == "incompatible":
            self._declare(replay, f"bundle {version} of group {group} has another layout")

    def _load(self, group: str, version: str) -> Model | None:
        """Each version once, however many partitions it served; they are restored together."""
        key = (group, version)
        if key not in self._models:
            found = self._library.load(group, version) if self._library is not None else None
            self._models[key] = found
        return self._models[key]

    def rest(self) -> None:
        """Everything is restored: models that served before are not needed any more."""
        self._models.clear()

    def _take_up(self, replay: Replay, group: str, state: GroupState) -> None:
        if group not in self._engine.groups():
            return
        if state.layout != self._engine.layout(group):
            self._declare(replay, f"the state of group {group} has another layout")
            return
        try:
            replay.engine.restore(group, replay.partition, state.version, state.arrays)
        except (KeyError, ValueError) as error:
            self._declare(replay, f"the state of group {group} cannot be read: {error}")

    @staticmethod
    def _declare(replay: Replay, why: str) -> None:
        _log.error("%s: restored in part only: %s", _name(replay.partition), why)
        replay.outcome = "partial" if replay.outcome != "bounded" else "bounded"


def _name(partition: Partition) -> str:
    return f"{partition.topic}[{partition.number}]"
