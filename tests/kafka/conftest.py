"""A broker for the session, and on it fresh topics, groups, sources and sinks for each test."""

from __future__ import annotations

import contextlib
import os
import uuid
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from stream_detector import config
from stream_detector.adapters.kafka import KafkaSink, KafkaSource, create_topics
from stream_detector.records import Message
from tests.kafka.broker import BrokerUnavailableError
from tests.kafka.broker import broker as any_broker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stream_detector.records import Partition


@pytest.fixture(scope="session")
def kafka_servers() -> Iterator[list[str]]:
    """Bootstrap servers of a real broker. Without one: skipped, in CI failed."""
    with contextlib.ExitStack() as stack:
        try:
            servers = stack.enter_context(any_broker())
        except BrokerUnavailableError as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error), pytrace=False)
            pytest.skip(str(error))
        yield servers


@pytest.fixture(scope="session")
def kafka_producer(kafka_servers: list[str]) -> Iterator[KafkaProducer]:
    """A producer of the client library itself, for records that come from elsewhere."""
    producer = KafkaProducer(bootstrap_servers=kafka_servers, linger_ms=5)
    yield producer
    producer.close()


class RealKafka:
    """tests.contract.broker_contract.Broker on the session's broker."""

    def __init__(self, servers: list[str], producer: KafkaProducer) -> None:
        self.servers = servers
        self._producer = producer
        self._open: list[KafkaSource | KafkaSink] = []

    def kafka(self, group: str = "unused", **changes: str) -> config.Kafka:
        settings = {"session_timeout": "6s", **changes}
        return config.Kafka(bootstrap_servers=self.servers, group_id=group, **settings)  # type: ignore[arg-type]  # all of these are durations, texts

    def topic(self, partitions: int, settings: Mapping[str, str] | None = None) -> str:
        name = f"test-{uuid.uuid4().hex}"
        create_topics(self.kafka(), {name: partitions}, settings=settings)
        return name

    def group(self) -> str:
        return f"group-{uuid.uuid4().hex}"

    def source(
        self,
        topics: Sequence[str],
        group: str,
        start: str = "earliest",
        commit_every_ms: int = 1000,
        known: Mapping[str, int] | None = None,
        **changes: str,
    ) -> KafkaSource:
        kafka = self.kafka(group, **changes)
        source = KafkaSource(kafka, topics, start, commit_every_ms, known=known)
        self._open.append(source)
        return source

    def sink(
        self,
        topic: str = "unused",
        dead_letter_topic: str = "unused",
        delivery_timeout: str = "30s",
        max_in_flight: int = 2000,
    ) -> KafkaSink:
        output = config.Output(
            topic=topic,
            dead_letter_topic=dead_letter_topic,
            delivery_timeout=delivery_timeout,
            max_in_flight=max_in_flight,
        )
        sink = KafkaSink(self.kafka(), output)
        self._open.append(sink)
        return sink

    def put(self, partition: Partition, values: Sequence[bytes]) -> None:
        for value in values:
            self._producer.send(partition.topic, value, partition=partition.number)
        self._producer.flush(30)

    def messages(self, topic: str) -> list[Message]:
        consumer = KafkaConsumer(bootstrap_servers=self.servers, auto_offset_reset="earliest")
        try:
            places = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
            consumer.assign(places)
            ends = consumer.end_offsets(places)
            found = []
            while any(consumer.position(place) < ends[place] for place in places):
                for batch in consumer.poll(timeout_ms=500).values():
                    found += batch
        finally:
            consumer.close()
        found.sort(key=lambda r: (r.partition, r.offset))
        return [Message(r.topic, r.key, r.value, tuple(r.headers), r.timestamp) for r in found]

    def undeliverable(self, topic: str) -> Message:
        return Message(topic, b"k", os.urandom(2_000_000))

    def committed(self, group: str, partition: Partition) -> int | None:
        consumer = KafkaConsumer(bootstrap_servers=self.servers, group_id=group)
        try:
            offset: int | None = consumer.committed(TopicPartition(*partition))
        finally:
            consumer.close()
        return offset

    def close(self) -> None:
        for each in self._open:
            each.close()


@pytest.fixture
def broker(kafka_servers: list[str], kafka_producer: KafkaProducer) -> Iterator[RealKafka]:
    real = RealKafka(kafka_servers, kafka_producer)
    yield real
    real.close()
