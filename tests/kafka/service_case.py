"""What tests of the service on a real broker begin with: samples, topics, configuration."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from kafka import KafkaConsumer, TopicPartition

from stream_detector.bundle import Registry
from stream_detector.cli import execute
from stream_detector.formats.events import line_envelope, message_envelope
from stream_detector.records import Partition
from tests.service import Service
from tests.unit.trainer_cases import MINUTE, START, wave

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kafka import KafkaProducer

    from tests.kafka.conftest import RealKafka

LEARNT = 1500  # samples of each series that the model was trained on
STEPS = 600


class Sent(NamedTuple):
    series: str
    time: int
    value: bytes


def samples(start: int = 0, stop: int = STEPS) -> list[Sent]:
    """Three known series and five new ones after the training data; faults in some of them."""
    columns: dict[str, Any] = {}
    for n, period in enumerate((48.0, 60.0, 90.0)):
        size = 10.0 ** (2 * n)
        columns[f"s{n}"] = wave(LEARNT + STEPS, n, size, period)[LEARNT:]
        for at in (150, 450):
            columns[f"s{n}"][at + 10 * n] += 6 * size
    for n in range(5):
        columns[f"new-{n}"] = wave(STEPS, 10 + n, 3.0)
    columns["new-0"][300] += 50
    return [
        Sent(
            name,
            time := START + MINUTE * (LEARNT + step),
            json.dumps({"series": name, "timestamp": time, "value": float(values[step])}).encode(),
        )
        for step in range(start, stop)
        for name, values in columns.items()
    ]


class Place:
    """Fresh topics, a configuration and a registry of its own for one test."""

    def __init__(
        self, broker: RealKafka, producer: KafkaProducer, folder: Path, models: Path
    ) -> None:
        self.broker = broker
        self.producer = producer
        self.folder = folder
        self.registry = Registry(folder / "registry")
        shutil.copytree(models, self.registry.path)
        forever = {"retention.ms": "-1"}  # the samples are a year old
        self.input = broker.topic(4, forever)
        self.events = broker.topic(1, forever)
        self.letters = broker.topic(1, forever)
        self.group = broker.group()
        self.count = 0
        self.services = 0

    def config(self, **changes: Any) -> Path:
        settings = {
            "kafka": self.kafka(),
            "input": {"topics": [self.input], "start": "earliest"},
            "output": {"topic": self.events, "dead_letter_topic": self.letters},
            "model": {"registry": str(self.registry.path)},
            "device": "cpu",
            "threads": 1,
            "commit_every": "200ms",
            "reload_every": "200ms",
            "http": {"port": 0},
        }
        path = self.folder / f"detector-{self.services}.yaml"
        path.write_text(yaml.safe_dump(settings | changes))
        return path

    def kafka(self, **changes: Any) -> dict[str, Any]:
        """The section of that name."""
        usual = {"bootstrap_servers": self.broker.servers, "group_id": self.group}
        return usual | {"session_timeout": "6s"} | changes

    def service(self, **changes: Any) -> Service:
        self.services += 1
        return Service(self.config(**changes), self.folder / f"service-{self.services}.log")

    def produce(self, some: Sequence[Sent]) -> None:
        for each in some:
            self.producer.send(
                self.input, key=each.series.encode(), value=each.value, timestamp_ms=each.time
            )
        self.producer.flush(60)
        self.count += len(some)

    def replay(self, name: str, *parts: Sequence[bytes]) -> list[str]:
        """Ids of the events of the same samples in files; each file is a partition."""
        data, out = self.folder / name, self.folder / f"{name}-events.ndjson"
        data.mkdir()
        for number, values in enumerate(parts):
            lines = b"".join(value + b"\n" for value in values)
            (data / f"part-{number}.ndjson").write_bytes(lines)
        arguments = ["--bundle", str(self.registry.path), "--input", str(data)]
        assert execute(["replay", *arguments, "--output", str(out), "--device", "cpu"]) == 0
        return [line_envelope(line)["id"] for line in out.read_bytes().splitlines()]

    def event_ids(self, isolation_level: str = "read_uncommitted") -> list[str]:
        found = self.broker.messages(self.events, isolation_level)
        return [message_envelope(each.headers, each.value)["id"] for each in found]

    def committed(self) -> dict[int, int]:
        return {
            n: self.broker.committed(self.group, Partition(self.input, n)) or 0 for n in range(4)
        }

    def ends(self) -> dict[int, int]:
        consumer = KafkaConsumer(bootstrap_servers=self.broker.servers)
        try:
            found = consumer.end_offsets([TopicPartition(self.input, n) for n in range(4)])
        finally:
            consumer.close()
        return {place.partition: end for place, end in found.items()}

    def records(self) -> dict[int, list[bytes]]:
        """Values by partition, as they lie there."""
        found: dict[int, list[bytes]] = {n: [] for n in range(4)}
        consumer = KafkaConsumer(bootstrap_servers=self.broker.servers)
        try:
            places = [TopicPartition(self.input, n) for n in range(4)]
            consumer.assign(places)
            consumer.seek_to_beginning(*places)
            ends = consumer.end_offsets(places)
            while any(consumer.position(place) < ends[place] for place in places):
                for batch in consumer.poll(timeout_ms=500).values():
                    for record in batch:
                        found[record.partition].append(record.value)
        finally:
            consumer.close()
        return found
