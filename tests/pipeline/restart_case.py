"""Workers that die at any call of a port, and others that go on where they were."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_detector.adapters.memory import MemoryBroker, MemorySnapshots
from stream_detector.core.policy import HOUR, Policy
from stream_detector.keeper import Keeping
from stream_detector.records import Partition
from tests.fakes import model
from tests.pipeline.loop_case import GROUP_ID, KNOWN, MINUTE, TOPIC, Case

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from stream_detector.ports import (
        Ended,
        Model,
        ModelFeed,
        Polled,
        Position,
        Rewindable,
        Sink,
        Start,
    )
    from stream_detector.records import Message, Unusable
    from tests.pipeline.loop_case import StillClock

PARTITIONS = (Partition(TOPIC, 0), Partition(TOPIC, 1))
POLICY = Policy(
    quiet_period=9,
    update_every=15 * MINUTE,
    silent_after=40 * MINUTE,
    evict_after=8 * HOUR,
    regime_change_after=4 * HOUR,
    flatline_after=20,
)


HALFWAY = 150
"""Calls of ports after which two generations of snapshots are there, and much is still to come."""


class DiedError(BaseException):
    """The process ends here; nothing in the product catches it."""


class Faults:
    """Counts the calls of ports, and dies at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.calls = 0
        self.place = ""

    def __call__(self, place: str) -> None:
        self.calls += 1
        if self.calls == self.at:
            self.place = place
            raise DiedError(place)


class FaultySource:
    """ports.Rewindable around another one."""

    def __init__(self, source: Rewindable, faults: Faults) -> None:
        self._source = source
        self._faults = faults

    def poll(self, timeout: float, max_records: int) -> Polled:
        self._faults("acknowledged, before the commit")
        polled = self._source.poll(timeout, max_records)
        self._faults("after the commit")
        return polled

    def acknowledge(self, positions: Mapping[Partition, Position]) -> None:
        self._faults("before the acknowledgement")
        self._source.acknowledge(positions)

    def start(self, partition: Partition) -> Start | None:
        return self._source.start(partition)

    def rewind(self, partition: Partition, offset: int) -> int | None:
        self._faults("before the replay")
        return self._source.rewind(partition, offset)

    def at(self, partition: Partition) -> int:
        return self._source.at(partition)

    def committed(self) -> Mapping[Partition, Position]:
        return self._source.committed()

    def unassigned(self) -> frozenset[Partition]:
        return self._source.unassigned()

    def lag(self) -> Mapping[Partition, int]:
        return self._source.lag()

    def partitions(self) -> Mapping[str, int]:
        return self._source.partitions()

    def drained(self, partitions: Collection[Partition]) -> frozenset[Partition]:
        return self._source.drained(partitions)

    def close(self) -> None:
        self._source.close()


class FaultySink:
    """ports.Sink around another one."""

    def __init__(self, sink: Sink, faults: Faults) -> None:
        self._sink = sink
        self._faults = faults

    @property
    def unseen(self) -> bool:
        return self._sink.unseen

    def ended(self) -> Sequence[Ended]:
        return self._sink.ended()

    def send(self, message: Message) -> None:
        self._faults("before a message")
        self._sink.send(message)
        self._faults("message sent, not acknowledged")

    def flush(self) -> None:
        self._sink.flush()
        self._faults("messages acknowledged")

    def close(self) -> None:
        self._sink.close()


class FaultySnapshots:
    """ports.SnapshotStore around another one."""

    def __init__(self, store: MemorySnapshots, faults: Faults) -> None:
        self._store = store
        self._faults = faults

    def write(self, partition: Partition, name: str, parts: Sequence[bytes | memoryview]) -> None:
        self._faults("before a snapshot")
        self._store.write(partition, name, parts)
        self._faults("snapshot durable, not referenced")

    def read(self, partition: Partition, name: str) -> bytes | Unusable:
        self._faults("before a snapshot is read")
        return self._store.read(partition, name)

    def names(self, partition: Partition) -> list[str]:
        return self._store.names(partition)

    def delete(self, partition: Partition, name: str) -> None:
        self._faults("before a snapshot is deleted")
        self._store.delete(partition, name)


class Inline(Executor):
    """Does at once what it is given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # as every executor does
            future.set_exception(error)
        return future


class Library:
    """ports.ModelLibrary of what it is given."""

    def __init__(self, *models: Model) -> None:
        self._models = {model.bundle.version: model for model in models}
        self.asked: list[str] = []

    def load(self, group: str, version: str) -> Model | None:
        assert group
        self.asked.append(version)
        return self._models.get(version)


class Fleet:
    """A broker and snapshots that outlive workers."""

    def __init__(
        self, policy: Policy = POLICY, *, max_batch: int = 25, exactly_once: bool = False
    ) -> None:
        self.broker = MemoryBroker(len(PARTITIONS))
        self.exactly_once = exactly_once
        self.snapshots = MemorySnapshots()
        self.policy = policy
        self.max_batch = max_batch

    def feed(self, minutes: int = 420, seed: int = 0) -> None:
        """Known and unknown series; spikes, shifts, a flatline, silence, late samples."""
        case = self.worker()
        rng = np.random.default_rng(seed)
        names = ("calm", "pump", "new-1", "new-2", "gone")
        values = rng.normal(0, 1, (minutes, len(names)))
        values[rng.random(values.shape) < 0.01] += 25
        values[150:210, 1] += 6
        values[260:330, 2] = 0.5
        for minute in range(minutes):
            for place, name in enumerate(names):
                if name == "gone" and minute > 200:
                    continue
                at = minute - 3 if rng.random() < 0.02 else minute
                case.samples(name, [values[minute, place]], at, partition=place % 2)

    def worker(
        self,
        faults: Faults | None = None,
        *,
        served: Model | None = None,
        library: Library | None = None,
        snapshots: bool = True,
        every: float = 0.1,
        max_replay: int = 100_000,
        cfg: str = "cfg",
        feed: ModelFeed | None = None,
        finite: bool = True,
        name: str = "worker",
        writer: Executor | None = None,
        clock: StillClock | None = None,
        tick_every: float | None = None,
    ) -> Case:
        """`name`: a transactional id, where delivery is exactly once."""
        faults = faults or Faults()
        transactions = self.broker.transactions(name) if self.exactly_once else None
        inner = self.broker.source(
            [TOPIC], GROUP_ID, start="earliest", finite=finite, transactions=transactions
        )
        source = FaultySource(inner, faults)
        keeping = Keeping(
            source=source,
            cfg=cfg,
            parts={TOPIC: len(PARTITIONS)},
            max_replay=max_replay,
            library=library,
            store=FaultySnapshots(self.snapshots, faults) if snapshots else None,
            writer=(writer or Inline()) if snapshots else None,
            every=every,
        )
        case = Case(
            broker=self.broker,
            models={"g": served or model(known=KNOWN)},
            policy=self.policy,
            sink=FaultySink(transactions or self.broker.sink(), faults),
            max_batch=self.max_batch,
            keeping=keeping,
            feed=feed,
            clock=clock,
            tick_every=tick_every,
        )
        case.crash = inner.crash
        return case

    def die(self, at: int, **given: Any) -> str:
        """Let a worker run until it dies at a call; where. Empty: it came to the end."""
        faults = Faults(at)
        case = self.worker(faults, **given)
        try:
            case.run()
        except DiedError:
            case.crash()
        return faults.place


def ids(case: Case) -> list[str]:
    """Ids of all events in the topic, repetitions included."""
    return [
        value.decode()
        for message in case.broker.messages("events")
        for name, value in message.headers
        if name == "ce_id"
    ]


def state(case: Case) -> list[dict[str, str]]:
    return [case.engine.digest(partition) for partition in PARTITIONS]


def outcomes(case: Case) -> list[str]:
    return [each.outcome for turn in case.telemetry.turns for each in turn.restored]


def halfway(**given: Any) -> Fleet:
    """A worker has died in the middle, with two generations of snapshots committed."""
    fleet = Fleet()
    fleet.feed()
    assert fleet.die(HALFWAY, **given)
    return fleet
