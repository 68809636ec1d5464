"""A topic that gets more partitions, before a start and while it is read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from stream_detector.adapters.kafka import committed, topics
from stream_detector.commands.run import refuse_repartitioned
from stream_detector.ports import Position, SourceError
from stream_detector.records import Partition
from tests.contract.broker_contract import numbers
from tests.contract.reader import Reader, poll_until

if TYPE_CHECKING:
    from tests.kafka.conftest import RealKafka

pytestmark = pytest.mark.kafka


def grow(broker: RealKafka, topic: str, partitions: int, count: int) -> None:
    """Add partitions, and at once so many records to the newest of them."""
    admin = KafkaAdminClient(bootstrap_servers=broker.servers)
    producer = KafkaProducer(bootstrap_servers=broker.servers)
    try:
        admin.create_partitions({topic: partitions})
        admin.wait_for_topics([topic])
        for value in numbers(count):
            producer.send(topic, value, partition=partitions - 1)
        producer.flush(30)
    finally:
        producer.close()
        admin.close()


def test_a_group_that_committed_nothing_has_nothing_to_refuse(broker: RealKafka) -> None:
    assert committed(broker.kafka(broker.group())) == {}


def test_another_number_of_partitions_than_the_commits_tell_is_refused(broker: RealKafka) -> None:
    topic, group = broker.topic(2), broker.group()
    broker.put(Partition(topic, 1), numbers(5))
    source = broker.source([topic], group)
    reader = Reader(source, acknowledge=False)
    poll_until(lambda: len(reader.records) == 5, reader)
    source.acknowledge({Partition(topic, 1): Position(5, json.dumps({"parts": 2}))})
    source.close()
    found = committed(broker.kafka(group))
    assert found[Partition(topic, 1)] == Position(5, '{"parts": 2}')

    def now() -> dict[str, int]:
        return {name: at.partitions for name, at in topics(broker.kafka(), [topic]).items()}

    assert refuse_repartitioned(found, now(), "refuse") == {topic: 2}
    grow(broker, topic, 3, 7)
    with pytest.raises(SourceError, match=f"{topic} has 3 partitions, it had 2"):
        refuse_repartitioned(found, now(), "refuse")
    known = refuse_repartitioned(found, now(), "rewarm")

    # What was written to the new partition before this start is read, although it says `latest`.
    again = Reader(broker.source([topic], group, "latest", known=known))
    poll_until(lambda: len(again.records) == 7, again)
    assert again.offsets == {Partition(topic, 2): list(range(7))}


def test_a_topic_that_grows_while_it_is_read_loses_no_record(broker: RealKafka) -> None:
    topic = broker.topic(1)
    source = broker.source([topic], broker.group(), "latest", known={topic: 1})
    reader = Reader(source)
    poll_until(lambda: bool(reader.owned), reader)
    reader.poll(0.5)
    assert source.partitions() == {topic: 1}
    grow(broker, topic, 2, 9)
    poll_until(
        lambda: len(reader.records) == 9, reader, patience=90.0
    )  # the client looks each 30 s
    assert source.partitions() == {topic: 2}


def test_a_partition_counts_as_drained_when_the_broker_has_no_more_than_was_polled(
    broker: RealKafka,
) -> None:
    topic = broker.topic(2)
    broker.put(Partition(topic, 0), numbers(10))
    places = [Partition(topic, 0), Partition(topic, 1)]
    source = broker.source([topic], broker.group())
    assert source.drained(places) == frozenset()
    reader = Reader(source)
    poll_until(lambda: len(reader.records) == 10 and len(reader.owned) == 2, reader)
    poll_until(lambda: source.drained(places) == frozenset(places), reader)
    broker.put(Partition(topic, 0), numbers(1))
    assert source.drained(places) == {Partition(topic, 1)}


def test_the_mark_of_a_transaction_is_no_record_that_is_left_to_read(broker: RealKafka) -> None:
    topic = broker.topic(1)
    producer = KafkaProducer(bootstrap_servers=broker.servers, transactional_id=topic)
    try:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(topic, b"v", partition=0)
        producer.commit_transaction()
    finally:
        producer.close()
    source = broker.source([topic], broker.group())
    reader = Reader(source)
    poll_until(lambda: len(reader.records) == 1, reader)
    poll_until(lambda: source.drained([Partition(topic, 0)]) != frozenset(), reader)
