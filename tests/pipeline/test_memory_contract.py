"""The broker in memory keeps the same contract as Kafka."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from stream_detector.adapters.memory import MemoryBroker
from stream_detector.ports import SourceError
from stream_detector.records import Message, Partition
from tests.contract.broker_contract import BrokerContract, numbers
from tests.contract.reader import Reader
from tests.contract.transaction_contract import TransactionContract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector.adapters.memory import MemorySink, MemorySource, MemoryTransactions


class InMemory:
    def __init__(self) -> None:
        self._names = count()
        self.broker = MemoryBroker(clock=lambda: 0)

    def topic(self, partitions: int) -> str:
        name = f"topic-{next(self._names)}"
        self.broker.create_topic(name, partitions)
        return name

    def group(self) -> str:
        return f"group-{next(self._names)}"

    def source(self, topics: Sequence[str], group: str, start: str = "earliest") -> MemorySource:
        return self.broker.source(topics, group, start=start)

    def sink(self) -> MemorySink:
        return self.broker.sink()

    def transactions(self, transactional_id: str, *, quick: bool = False) -> MemoryTransactions:  # noqa: ARG002  # all of these are
        return self.broker.transactions(transactional_id)

    def transactional_source(
        self, topics: Sequence[str], group: str, transactions: MemoryTransactions
    ) -> MemorySource:
        return self.broker.source(topics, group, start="earliest", transactions=transactions)

    def committed_messages(self, topic: str) -> list[Message]:
        return self.broker.messages(topic)

    def expire(self, transactions: MemoryTransactions) -> None:
        transactions.expire()

    def put(self, partition: Partition, values: Sequence[bytes]) -> None:
        for value in values:
            self.broker.append(partition.topic, value, partition=partition.number)

    def messages(self, topic: str) -> list[Message]:
        return self.broker.messages(topic)

    def undeliverable(self, topic: str) -> Message:
        self.broker.fail(topic, "injected")
        return Message(topic, b"k", b"v")


@pytest.fixture
def broker() -> InMemory:
    return InMemory()


class TestMemoryBroker(BrokerContract):
    pass


class TestMemoryTransactions(TransactionContract):
    pass


def test_a_crashed_member_commits_nothing_more_and_frees_its_partitions() -> None:
    broker = MemoryBroker()
    for value in numbers(4):
        broker.append("t", value)
    first = Reader(broker.source(["t"], "g", start="earliest"), acknowledge=False)
    first.poll(0)
    first.acknowledge(first.records[0])
    first.poll(0)  # commits what was acknowledged
    first.acknowledge(*first.records)
    first.source.crash()  # type: ignore[attr-defined]  # only this source can
    with pytest.raises(SourceError):
        first.source.poll(0, 1)
    second = Reader(broker.source(["t"], "g"))
    second.poll(0)
    assert second.values == numbers(3, 1)


def test_a_finite_source_says_when_it_has_read_everything() -> None:
    broker = MemoryBroker(2)
    for value in numbers(6):
        broker.append("t", value)
    reader = Reader(broker.source(["t"], "g", start="earliest", finite=True))
    while not reader.poll(0, 4).finished:
        pass
    assert len(reader.records) == 6


def test_messages_without_a_key_take_turns_over_the_partitions() -> None:
    broker = MemoryBroker(3)
    found = [broker.append("t", b"v").partition for _ in range(6)]
    assert found == [0, 1, 2, 0, 1, 2]


def test_many_messages_at_once_lie_where_single_ones_would() -> None:
    entries = [(b"k%d" % n, b"v%d" % n, n) for n in range(50)]
    one, many = MemoryBroker(4), MemoryBroker(4)
    many.append_many("t", entries)
    for key, value, timestamp in entries:
        one.append("t", value, key, timestamp=timestamp)
    assert one.messages("t") == many.messages("t")
    assert len(many.messages("t")) == 50


def test_a_message_above_the_limit_is_refused_by_the_sink() -> None:
    sink = MemoryBroker(max_message_bytes=10).sink()
    sink.send(Message("t", b"k", b"x" * 11))
    with pytest.raises(Exception, match="11 bytes"):
        sink.flush()
