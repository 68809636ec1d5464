"""What workers are fed with, what one that nothing happens to makes of it, and what they made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stream_detector.adapters.memory import MemoryBroker
from stream_detector.adapters.memory.partitioner import Partitioner
from stream_detector.app import policy_of
from stream_detector.commands import wiring
from stream_detector.formats.events import message_envelope
from stream_detector.records import Partition
from tests.pipeline.loop_case import sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stream_detector.config import DetectorConfig
    from stream_detector.ports import Model
    from stream_detector.records import Message

PARTITIONS = 4
SERIES = 3  # of each partition
MINUTE = 60_000
T0 = 1_764_201_600_000
PORTION = 40  # minutes


def _names() -> list[list[str]]:
    """Of each partition, series whose keys Kafka's own clients put there."""
    choose = Partitioner().number
    every = [f"series-{n}" for n in range(100)]
    return [
        [name for name in every if choose("in", name.encode(), PARTITIONS) == number][:SERIES]
        for number in range(PARTITIONS)
    ]


NAMES = _names()
KNOWN = {names[0]: (0.0, 1.0) for names in NAMES}


class Put(NamedTuple):
    partition: int
    key: bytes
    value: bytes
    time: int  # ms


def portions(seed: int, count: int) -> list[list[Put]]:
    """Known and new series; spikes, shifts, a flatline, silence, late samples, nonsense."""
    rng = np.random.default_rng(seed)
    minutes = count * PORTION
    names = [name for some in NAMES for name in some]
    values = rng.normal(0, 1, (minutes, len(names)))
    values[rng.random(values.shape) < 0.02] += 25
    for column in range(len(names)):
        at = int(rng.integers(40, max(41, minutes - 60)))
        if column % 3 == 0:
            values[at : at + 40, column] += 6
        elif column % 3 == 1:
            values[at : at + 45, column] = 0.5
    gone = int(rng.integers(PORTION, minutes))
    found: list[list[Put]] = []
    for minute in range(minutes):
        if minute % PORTION == 0:
            found.append([])
        for column, name in enumerate(names):
            partition, key, time = column // SERIES, name.encode(), T0 + minute * MINUTE
            if column % SERIES == 2 and gone < minute < gone + 70:
                continue  # silent for a while
            late = 3 * MINUTE if rng.random() < 0.02 else 0
            value = sample(name, time - late, float(values[minute, column]))
            if rng.random() < 0.004:
                value = value[:-5]
            found[-1].append(Put(partition, key, value, time))
    return found


@dataclass(frozen=True)
class Output:
    """What lies in the output topics: each message that is said, as often as it is."""

    events: list[tuple[str, int, str]]  # id, partition, body
    letters: list[str]  # partition/offset/index of what was refused

    @classmethod
    def of(cls, events: Iterable[Message], letters: Iterable[Message]) -> Output:
        said = []
        for message in events:
            envelope = message_envelope(message.headers, message.value)
            body: dict[str, Any] = envelope["data"]
            place = body["source"]
            place.pop("topic")
            said.append((envelope["id"], place["partition"], repr(sorted(body.items()))))
        return cls(said, [_letter(message) for message in letters])


def _letter(message: Message) -> str:
    headers = {name: value.decode() for name, value in message.headers}
    return "/".join(headers.get(f"dlq_{name}", "") for name in ("partition", "offset", "index"))


@dataclass(frozen=True)
class Oracle:
    """The truth, from one process that lives through all the input."""

    portions: Sequence[Sequence[Put]]
    output: Output
    hashes: Mapping[int, Mapping[str, str]]  # partition -> group -> hash of its state

    @cached_property
    def ends(self) -> dict[int, int]:
        """Partition -> the offset after its last record."""
        numbers = [put.partition for portion in self.portions for put in portion]
        return {number: numbers.count(number) for number in range(PARTITIONS)}


def oracle(config: DetectorConfig, models: Mapping[str, Model], seed: int, count: int) -> Oracle:
    topic = config.input.topics[0]
    broker = MemoryBroker(PARTITIONS)
    given = portions(seed, count)
    for put in (put for portion in given for put in portion):
        broker.append(topic, put.value, put.key, timestamp=put.time, partition=put.partition)
    source = broker.source([topic], "oracle", start="earliest", finite=True)
    plan = wiring.plan(config)
    loop = wiring.loop(
        replace(plan, policy=policy_of(config, PARTITIONS)), models, source, broker.sink()
    )
    loop.run(lambda: False)
    output = config.output
    said = Output.of(broker.messages(output.topic), broker.messages(output.dead_letter_topic))
    hashes = {n: loop._engine.digest(Partition(topic, n)) for n in range(PARTITIONS)}
    return Oracle(given, said, hashes)


@dataclass
class Told:
    """What came of a schedule."""

    faults: Counter[str] = field(default_factory=Counter)
    unfired: list[str] = field(default_factory=list)
    kills: int = 0
    crashes: list[str] = field(default_factory=list)  # workers that ended by themselves
    restores: Counter[str] = field(default_factory=Counter)
    degraded: int | None = None  # partition that lost its snapshots
    unscored: int = 0
    problems: list[str] = field(default_factory=list)
    output: Output | None = None
    hashes: dict[int, dict[str, str]] = field(default_factory=dict)
    seconds: float = 0.0
