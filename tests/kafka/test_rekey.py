"""`stream-detector rekey` as a process on a real broker."""

from __future__ import annotations

import json
import signal
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from stream_detector.adapters.kafka import topics
from stream_detector.core.placement import murmur2
from stream_detector.records import Partition
from tests.contract.reader import Reader, poll_until
from tests.pipeline.loop_case import T0, headers, sample
from tests.service import Command, until

if TYPE_CHECKING:
    from pathlib import Path

    from kafka import KafkaProducer

    from tests.kafka.conftest import RealKafka

pytestmark = pytest.mark.kafka

FOREVER = {"retention.ms": "-1"}  # the samples are a year old
SERIES, STEPS = ("a", "b", "c/d", "e", "f"), 400


class Place:
    """An unkeyed topic of 3 partitions, and where its copy and its letters go."""

    def __init__(self, broker: RealKafka, producer: KafkaProducer, folder: Path) -> None:
        self.broker = broker
        self.producer = producer
        self.folder = folder
        self.old, self.letters = broker.topic(3, FOREVER), broker.topic(1, FOREVER)
        self.new = f"{self.old}-by-series"
        self.group = broker.group()
        self.sent: dict[str, list[bytes]] = defaultdict(list)

    def command(self, *options: str) -> Command:
        settings: dict[str, Any] = {
            "kafka": {
                "bootstrap_servers": self.broker.servers,
                "group_id": "unused",
                "session_timeout": "6s",
            },
            "input": {"topics": [self.old]},
            "output": {"topic": "unused", "dead_letter_topic": self.letters},
            "model": {"registry": "unused"},
            "rekey": {"topic": self.new, "group_id": self.group},
        }
        path = self.folder / "detector.yaml"
        path.write_text(yaml.safe_dump(settings))
        log = self.folder / f"{len(list(self.folder.iterdir()))}.log"
        return Command(log, "rekey", "--config", str(path), *options)

    def produce(self, first: int, last: int) -> None:
        """One series after the other over the partitions, as a producer without keys does."""
        turn = 0
        for step in range(first, last):
            for name in SERIES:
                value = sample(name, T0 + step, float(step))
                self.sent[name].append(value)
                place = {"partition": turn % 3, "timestamp_ms": T0 + step}
                self.producer.send(self.old, value, **place)
                turn += 1
        self.producer.flush(30)

    def copies(self) -> dict[str, list[bytes]]:
        found = defaultdict(list)
        for message in self.broker.messages(self.new):
            found[(message.key or b"").decode()].append(message.value or b"")
        return dict(found)

    def dealt_with(self) -> bool:
        total = 0
        for number in range(3):
            total += self.broker.committed(self.group, Partition(self.old, number)) or 0
        return total == sum(map(len, self.sent.values())) + 1


@pytest.fixture
def place(broker: RealKafka, kafka_producer: KafkaProducer, tmp_path: Path) -> Place:
    return Place(broker, kafka_producer, tmp_path)


def test_a_copy_loses_nothing_keeps_each_series_in_order_and_ends_cleanly_on_sigterm(
    place: Place,
) -> None:
    place.produce(0, STEPS)
    place.producer.send(place.old, b"{", partition=1, timestamp_ms=T0 + STEPS)
    place.producer.flush(30)
    first = place.command("--create-topic", "--json")
    try:
        until(place.dealt_with, "the backlog to be copied")
        place.produce(STEPS, STEPS + 50)
        until(place.dealt_with, "what came meanwhile to be copied")
        first.process.send_signal(signal.SIGTERM)
        assert first.wait() == 0
        assert "Traceback" not in first.output
        assert "stopped, offsets committed" in first.output
        summary = json.loads(first.output.splitlines()[-1])
    finally:
        first.close()
    count = len(SERIES) * (STEPS + 50)
    assert (summary["records"], summary["messages"]) == (count + 1, count)
    assert (summary["split"], summary["dead_letters"]) == (0, 1)
    assert place.copies() == place.sent
    copy = topics(place.broker.kafka(), [place.new])[place.new]
    assert copy.retention_ms == -1, "as that of the original"
    (letter,) = place.broker.messages(place.letters)
    assert headers(letter)["dlq_reason"] == "malformed"

    # Another start goes on where this one ended, and copies nothing again.
    place.produce(STEPS + 50, STEPS + 60)
    second = place.command("--until-idle", "2s")
    try:
        assert second.wait() == 0, second.output
    finally:
        second.close()
    assert place.copies() == place.sent


def test_the_copy_has_as_many_partitions_and_lies_where_kafkas_producers_put_keys(
    place: Place,
) -> None:
    place.produce(0, 20)
    command = place.command("--create-topic", "--until-idle", "2s")
    try:
        assert command.wait() == 0, command.output
    finally:
        command.close()
    kafka = place.broker.kafka()
    assert topics(kafka, [place.new])[place.new].partitions == 3
    source = place.broker.source([place.new], place.broker.group())
    reader = Reader(source)
    poll_until(lambda: len(reader.records) >= 100, reader)
    found = reader.records
    assert {r.partition for r in found} == {(murmur2(s.encode()) & 2**31 - 1) % 3 for s in SERIES}
    for record in found:
        assert record.partition == (murmur2(record.key or b"") & 2**31 - 1) % 3
        assert record.timestamp == json.loads(record.value or b"")["timestamp"]


def test_a_target_that_is_absent_is_named_with_its_remedy(place: Place) -> None:
    command = place.command()
    try:
        assert command.wait() == 1
    finally:
        command.close()
    last = command.output.splitlines()[-1]
    assert last == (
        f"stream-detector: no topic {place.new}; create it, or let --create-topic do so"
    )
