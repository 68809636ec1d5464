"""How long a restart takes, and how long snapshots hold up the loop: `bench --suite restore`.

The parts are those of `run`, with the log in memory and snapshots in a folder: what Kafka's client
costs is not in it. Series are copies of some that went through the engine; each is as large and as
ripe as if it had done so itself.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from stream_detector.adapters.memory import MemoryBroker, MemorySource
from stream_detector.commands import wiring
from stream_detector.commands.keeping import keeping, shaping
from stream_detector.config import DetectorConfig
from stream_detector.core.engine import Engine
from stream_detector.core.packing import Copy, pack
from stream_detector.formats import checkpoint, snapshots
from stream_detector.formats.snapshots import GroupState, Snapshot
from stream_detector.ports import Position
from stream_detector.records import Batch, Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stream_detector.app import Loop
    from stream_detector.ports import Ended, Model, Progress
    from stream_detector.records import Message

TOPIC, GROUP, OWNER = "samples", "g", "bench"
BORN = 64  # series that go through the engine
RIPE = 300  # minutes of each
MINUTE = 60_000
LIVE = 4000  # records a turn while the loop is watched
T0 = 1_764_201_600_000
ROUNDS = 2  # snapshots of each partition while the loop is watched


class Size(NamedTuple):
    series: int
    partitions: int


@dataclass(frozen=True)
class Measured:
    name: str
    value: float
    unit: str
    goal: float | None = None


class _Watch(wiring.NoTelemetry):
    """What the loop says of each turn."""

    def __init__(self) -> None:
        self.turns: list[Progress] = []

    def turn(self, progress: object) -> None:
        self.turns.append(progress)  # type: ignore[arg-type]  # it is one


class _NoSink:
    """ports.Sink that keeps nothing; the log of events is not what is measured."""

    unseen = False

    def ended(self) -> Sequence[Ended]:
        return ()

    def send(self, message: Message) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


def restore(
    model: Callable[[], Model], size: Size, every: str, say: Callable[[str], None]
) -> Iterator[Measured]:
    """`model` loads it, which is part of a start; `every`: another cadence than the default."""
    began = time.monotonic()
    loaded = model()
    load = time.monotonic() - began
    with tempfile.TemporaryDirectory(prefix="stream-detector-bench-") as folder:
        config = _config(Path(folder), every)
        say(f"{size.series} series in {size.partitions} partitions: making their snapshots")
        ground = _Ground(config, loaded, size)
        yield Measured("state a series", ground.written / size.series, "bytes")
        broker = ground.committed()
        say("samples come in until every partition has had a snapshot; then a sudden end")
        with wiring.settled():
            yield from _live(ground, broker)
        with wiring.settled(), ExitStack() as stack:
            began, busy = time.monotonic(), time.process_time()
            loop, watch, _ = ground.start(broker, stack)
            while not (watch.turns and not watch.turns[-1].restoring):
                loop.turn()
            took, busy = time.monotonic() - began, time.process_time() - busy
        outcomes = {each.outcome for turn in watch.turns for each in turn.restored}
        assert outcomes == {"exact"}, outcomes
        replayed = sum(turn.replayed for turn in watch.turns)
        assert replayed > 0
        yield Measured("load of the model", load, "s")
        yield Measured("replayed", replayed, "samples")
        yield Measured("restart", load + took, "s", 20.0)
        yield Measured("restart, CPU", busy, "s")


def _live(ground: _Ground, broker: MemoryBroker) -> Iterator[Measured]:
    """The longest that a snapshot held up the loop, and turns with one under way and without."""
    ends: list[float] = []
    with ExitStack() as stack:
        loop, watch, source = ground.start(broker, stack)
        saved = dealt = 0
        while saved < ROUNDS * ground.size.partitions:
            ground.append(LIVE // ground.size.partitions)
            loop.turn()
            ends.append(time.monotonic())
            saved += len(watch.turns[-1].saved)
            dealt += sum(watch.turns[-1].outcomes.values())
        source.crash()
    failed = [each for turn in watch.turns for each in turn.saved if each.outcome != "written"]
    assert not failed, failed
    copies = [turn.stages.get("snapshot", 0.0) for turn in watch.turns]
    turns = list(zip(ends, watch.turns, strict=True))
    spans = [(end - saved.seconds, end) for end, turn in turns for saved in turn.saved]
    beside, alone = [0.0], [0.0]  # ms of turns that dealt with samples
    for end, turn in turns:
        if turn.outcomes and not turn.restored and not turn.restoring:
            took = sum(turn.stages.values())
            overlaps = any(end - took <= last and first <= end for first, last in spans)
            (beside if overlaps else alone).append(1000 * took)
    yield Measured("samples between two snapshots of a partition", dealt / ROUNDS, "samples")
    yield Measured("longest stall by a snapshot", 1000 * max(copies), "ms", 200.0)
    yield Measured("longest turn beside a snapshot", max(beside), "ms")
    yield Measured("longest turn without one", max(alone), "ms")
    yield Measured("usual turn beside a snapshot", float(np.median(beside[1:] or [0])), "ms")
    yield Measured("usual turn without one", float(np.median(alone[1:] or [0])), "ms")


class _Ground:
    """Snapshots of all partitions, and records that came after them."""

    def __init__(self, config: DetectorConfig, model: Model, size: Size) -> None:
        self.config, self.model, self.size = config, model, size
        self.plan = wiring.plan(config)
        self.born = _born(self.plan, model)
        self.each = size.series // size.partitions
        self.broker = MemoryBroker(size.partitions)
        self.sent = 0  # samples of each partition
        self.written = 0
        with ExitStack() as stack:
            store = keeping(config, _source(self.broker), {}, _NoLibrary(), stack).store
        assert store is not None
        self.names: list[str] = []
        copied, layout = self.born
        for number in range(size.partitions):
            packed = pack(_many(copied, self.each, f"{number}-"))
            state = GroupState(model.bundle.version, layout, packed)
            name, parts = snapshots.encode(Snapshot(shaping(config), {GROUP: state}), 0)
            store.write(Partition(TOPIC, number), name, parts)
            self.names.append(name)
            self.written += sum(map(len, parts))

    def append(self, count: int) -> None:
        """The next samples of each partition: of each series in turn, once a minute."""
        columns = [self._records(number, count) for number in range(self.size.partitions)]
        self.sent += count
        # Without keys the broker takes the partitions in turn.
        self.broker.append_many(
            TOPIC, (entry for row in zip(*columns, strict=True) for entry in row)
        )

    def _records(self, number: int, count: int) -> list[tuple[None, bytes, int]]:
        values = np.random.default_rng((number, self.sent)).normal(0, 1, count)
        found = []
        for place, value in enumerate(values.tolist(), self.sent):
            minute, row = divmod(place, self.each)
            at = T0 + (RIPE + minute) * MINUTE
            body = b'{"series":"%d-%d","timestamp":%d,"value":%.4f}' % (number, row, at, value)
            found.append((None, body, at))
        return found

    def committed(self) -> MemoryBroker:
        """The log, as if all state had come from records below its first."""
        source = _source(self.broker)
        source.poll(0.0, 1)
        said = {
            Partition(TOPIC, number): Position(
                0,
                checkpoint.encode(
                    checkpoint.Checkpoint(
                        replay_from=0,
                        snapshots=[name],
                        cfg=shaping(self.config),
                        parts=self.size.partitions,
                        models={GROUP: [(0, self.model.bundle.version)]},
                    )
                ),
            )
            for number, name in enumerate(self.names)
        }
        source.acknowledge(said)
        source.close()
        return self.broker

    def start(self, broker: MemoryBroker, stack: ExitStack) -> tuple[Loop, _Watch, MemorySource]:
        watch = _Watch()
        source = _source(broker)
        kept = keeping(self.config, source, {TOPIC: self.size.partitions}, _NoLibrary(), stack)
        loop = wiring.loop(
            self.plan, {GROUP: self.model}, source, _NoSink(), telemetry=watch, keeping=kept
        )
        return loop, watch, source


class _NoLibrary:
    """ports.ModelLibrary of a service that has always had the same model."""

    def load(self, group: str, version: str) -> Model | None:
        raise AssertionError(f"{group} was served by {version}?")


def _config(folder: Path, every: str) -> DetectorConfig:
    settings = {
        "kafka": {"bootstrap_servers": ["none"], "group_id": OWNER},
        "input": {"topics": [TOPIC], "start": "earliest"},
        "output": {"topic": "events", "dead_letter_topic": "letters"},
        "model": {"registry": "none", "name": GROUP},
        "snapshots": {"url": str(folder)} | ({"every": every} if every else {}),
        "time": {"tick_every": None},
    }
    return msgspec.convert(settings, DetectorConfig)


def _source(broker: MemoryBroker) -> MemorySource:
    return broker.source([TOPIC], OWNER, start="earliest")


def _born(plan: wiring.Plan, model: Model) -> tuple[Copy, str]:
    """State of a few series that were alive for a while, and its layout."""
    engine = Engine(plan.source, plan.policy)
    engine.serve(GROUP, model)
    partition = Partition(TOPIC, 0)
    values = np.random.default_rng(0).normal(0, 1, (RIPE, BORN))
    for minute, row in enumerate(values):
        batch = Batch(
            group=GROUP,
            partition=partition,
            series=[str(n) for n in range(BORN)],
            timestamp=np.full(BORN, T0 + minute * MINUTE),
            values=row[:, None],
            latest=np.full(BORN, np.iinfo(np.int64).max),
            offset=np.full(BORN, minute),
            origin=np.arange(BORN),
        )
        engine.process([batch])
    return engine.copy(partition)[GROUP], engine.layout(GROUP)


def _many(few: Copy, count: int, prefix: str) -> Copy:
    """The same for so many series, copies of the few; open episodes are left out."""
    rows = len(few.names)
    place = np.arange(count) % rows
    arrays = {
        name: array[place] if len(array) == rows else array for name, array in few.arrays.items()
    }
    arrays["busy"][:] = False
    return Copy(arrays, [f"{prefix}{n}" for n in range(count)], [], few.marks)
