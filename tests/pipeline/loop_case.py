"""A loop with everything in memory, for tests: append records, run, look at what came out."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stream_detector.adapters.memory import MemoryBroker
from stream_detector.app import Loop, Settings
from stream_detector.config import Fields
from stream_detector.core.engine import Engine
from stream_detector.core.groups import Groups
from stream_detector.core.policy import Policy
from stream_detector.formats.events import parse_event_message
from stream_detector.formats.json import JsonDecoder
from tests.fakes import model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from stream_detector.keeper import Keeping
    from stream_detector.ports import Model, ModelFeed, NormalStore, Progress, Rewindable, Sink
    from stream_detector.records import Message, Partition

TOPIC, GROUP_ID, EVENTS, LETTERS = "sensors", "detector", "events", "letters"
T0 = 1_767_571_200_000
MINUTE = 60_000
KNOWN = {"calm": (0.0, 1.0), "pump": (0.0, 1.0)}


class StillClock:
    """ports.Clock: `now` stands still, `monotonic` counts its calls in ms."""

    def __init__(self, now: float = T0 / 1000) -> None:
        self.time = now
        self._calls = 0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        self._calls += 1
        return self._calls / 1000


class HandClock(StillClock):
    """ports.Clock that the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 0.0

    def now(self) -> float:
        return T0 / 1000 + self.at

    def monotonic(self) -> float:
        return self.at


class Recorder:
    """ports.Telemetry that keeps everything."""

    def __init__(self) -> None:
        self.turns: list[Progress] = []
        self.lags: list[Mapping[Partition, int]] = []
        self.models: list[tuple[str, str]] = []
        self.reloads: list[str] = []

    def turn(self, progress: Progress) -> None:
        self.turns.append(progress)

    def lag(self, lag: Mapping[Partition, int]) -> None:
        self.lags.append(lag)

    def model(self, group: str, version: str) -> None:
        self.models.append((group, version))

    def reload(self, outcome: str) -> None:
        self.reloads.append(outcome)

    @property
    def outcomes(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for turn in self.turns:
            total.update(turn.outcomes)
        return +total

    @property
    def reasons(self) -> Counter[str]:
        return Counter(reject.reason.value for turn in self.turns for reject in turn.rejected)

    @property
    def polled(self) -> int:
        return sum(turn.polled for turn in self.turns)

    @property
    def windows(self) -> int:
        return sum(len(part.error) for turn in self.turns for part in turn.scores)

    @property
    def faults(self) -> int:
        return sum(part.faults for turn in self.turns for part in turn.scores)


class Case:
    """One worker. `run` reads everything that was appended so far, then ends."""

    def __init__(
        self,
        *,
        models: Mapping[str, Model] | None = None,
        routes: Sequence[tuple[str, str]] = (("g", "*"),),
        policy: Policy | None = None,
        missing: Literal["hold", "reject"] = "hold",
        broker: MemoryBroker | None = None,
        partitions: int = 1,
        finite: bool = True,
        sink: Sink | None = None,
        feed: ModelFeed | None = None,
        store: NormalStore | None = None,
        max_batch: int = 5000,
        rejected_window: int = 10_000,
        max_record_bytes: int = 1_048_576,
        max_samples: int = 10_000,
        clock: StillClock | None = None,
        tick_every: float | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        self.broker = broker or MemoryBroker(partitions)
        self.source: Rewindable = (
            keeping.source
            if keeping
            else self.broker.source([TOPIC], GROUP_ID, start="earliest", finite=finite)
        )
        self.crash: Callable[[], None] = self.source.close
        self.telemetry = Recorder()
        self.clock = clock or StillClock()
        self.engine = Engine("plant", policy or Policy())
        self.loop = Loop(
            source=self.source,
            sink=sink or self.broker.sink(),
            decoder=JsonDecoder(
                Fields(),
                max_record_bytes=max_record_bytes,
                max_samples=max_samples,
                max_series_length=512,
            ),
            groups=Groups(routes, missing=missing),
            engine=self.engine,
            settings=Settings(
                events_topic=EVENTS,
                dead_letter_topic=LETTERS,
                max_batch=max_batch,
                rejected_window=rejected_window,
                poll_timeout=0.0,
                tick_every=tick_every,
            ),
            telemetry=self.telemetry,
            clock=self.clock,
            feed=feed,
            store=store,
            keeping=keeping,
        )
        for group, served in (models or {"g": model(known=KNOWN)}).items():
            assert self.loop.serve(group, served)

    def append(
        self, value: bytes | None, key: bytes | None = b"k", at: int = T0, partition: int = 0
    ) -> None:
        self.broker.append(TOPIC, value, key, timestamp=at, partition=partition)

    def samples(
        self,
        series: str,
        values: Sequence[float] | NDArray[np.float64],
        first: int = 0,
        partition: int = 0,
    ) -> None:
        """One sample a minute from minute `first` on, a record each."""
        for at, value in enumerate(values, first):
            time = T0 + at * MINUTE
            self.append(sample(series, time, float(value)), series.encode(), time, partition)

    def run(self) -> None:
        self.loop.run(lambda: False)
        self.source.close()

    @property
    def events(self) -> list[dict[str, Any]]:
        found = self.broker.messages(EVENTS)
        return [parse_event_message(message.headers, message.value) for message in found]

    @property
    def letters(self) -> list[Message]:
        return self.broker.messages(LETTERS)

    @property
    def committed(self) -> dict[int, int]:
        positions = self.broker.committed(GROUP_ID)
        return {partition.number: at.offset for partition, at in positions.items()}


def sample(series: str, time: int, value: float) -> bytes:
    return json.dumps({"series": series, "timestamp": time, "value": value}).encode()


def headers(message: Message) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers}


def noise(count: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 1, count)


def spiked(count: int = 400, at: int = 100, size: float = 25.0) -> NDArray[np.float64]:
    values = noise(count)
    values[at] += size
    return values
