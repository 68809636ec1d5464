"""A broker for the session, and on it fresh topics, groups, sources and sinks for each test."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from stream_detector import config
from stream_detector.adapters.kafka import KafkaSink, KafkaSource, Transactions, create_topics
from stream_detector.adapters.kafka.transactions import TIMEOUT_MS
from stream_detector.bundle import Registry
from stream_detector.records import Message
from tests.kafka.broker import BrokerUnavailableError
from tests.kafka.broker import broker as any_broker
from tests.kafka.reading import read_all
from tests.kafka.service_case import LEARNT, Place
from tests.unit.trainer_cases import fleet, quick
from trainer.train import publish, train

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from stream_detector.records import Partition

QUICK_MS = 3000


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


LOOK_EVERY_S = 1.0
"""Between two looks for partitions that no member has."""


class RealKafka:
    """tests.contract.broker_contract.Broker on the session's broker."""

    def __init__(self, servers: list[str], producer: KafkaProducer) -> None:
        self.servers = servers
        self._producer = producer
        self._open: list[KafkaSource | KafkaSink | Transactions] = []

    def kafka(self, group: str = "unused", **changes: str) -> config.Kafka:
        settings = {"session_timeout": "6s", **changes}
        return config.Kafka(bootstrap_servers=self.servers, group_id=group, **settings)  # type: ignore[arg-type]  # all of these are durations, texts

    def topic(self, partitions: int, settings: Mapping[str, str] | None = None) -> str:
        name = f"test-{uuid.uuid4().hex}"
        create_topics(self.kafka(), {name: partitions}, settings=settings)
        return name

    def add_partitions(self, topic: str, count: int) -> None:
        """Up to so many."""
        with contextlib.closing(KafkaAdminClient(bootstrap_servers=self.servers)) as admin:
            admin.create_partitions({topic: count})

    def group(self) -> str:
        return f"group-{uuid.uuid4().hex}"

    def source(
        self,
        topics: Sequence[str],
        group: str,
        start: str = "earliest",
        commit_every_ms: int = 1000,
        known: Mapping[str, int] | None = None,
        transactions: Transactions | None = None,
        **changes: str,
    ) -> KafkaSource:
        kafka = self.kafka(group, **changes)
        source = KafkaSource(
            kafka, topics, start, commit_every_ms,
            known=known, transactions=transactions, look_every=LOOK_EVERY_S,
        )  # fmt: skip
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

    def transactions(self, transactional_id: str, *, quick: bool = False) -> Transactions:
        output = config.Output(topic="unused", dead_letter_topic="unused")
        timeout_ms = QUICK_MS if quick else TIMEOUT_MS
        made = Transactions(self.kafka(), output, transactional_id, timeout_ms=timeout_ms)
        self._open.insert(0, made)  # sources are closed before what they commit
        return made

    def transactional_source(
        self, topics: Sequence[str], group: str, transactions: Transactions
    ) -> KafkaSource:
        return self.source(topics, group, transactions=transactions)

    def expire(self, transactions: Transactions) -> None:
        """A quick one; the broker looks for such transactions several times a second."""
        assert transactions.unseen
        time.sleep(QUICK_MS / 1000 + 1)

    def committed_messages(self, topic: str) -> list[Message]:
        return self.messages(topic, isolation_level="read_committed")

    def put(self, partition: Partition, values: Sequence[bytes]) -> None:
        for value in values:
            self._producer.send(partition.topic, value, partition=partition.number)
        self._producer.flush(30)

    def messages(self, topic: str, isolation_level: str = "read_uncommitted") -> list[Message]:
        return read_all(self.servers, topic, isolation_level)

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
        for each in reversed(self._open):
            each.close()


@pytest.fixture
def broker(kafka_servers: list[str], kafka_producer: KafkaProducer) -> Iterator[RealKafka]:
    real = RealKafka(kafka_servers, kafka_producer)
    yield real
    real.close()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry of two bundles of the same features; the first is CURRENT."""
    registry = Registry(tmp_path_factory.mktemp("models") / "registry")
    for seed in (0, 1):
        publish(train(fleet(LEARNT), quick(epochs=4, seed=seed), quiet=True), registry)
    registry.rollback()
    return registry.path


@pytest.fixture
def place(broker: RealKafka, kafka_producer: KafkaProducer, tmp_path: Path, trained: Path) -> Place:
    return Place(broker, kafka_producer, tmp_path, trained)
