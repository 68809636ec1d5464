"""What only a real broker can show of the Kafka adapter."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import RebalanceInProgressError

from stream_detector.adapters.kafka import KafkaSource, create_topics, topics
from stream_detector.adapters.kafka import sink as sink_module
from stream_detector.ports import Position, SinkError, SourceError
from stream_detector.records import Message, Partition
from tests.contract.broker_contract import numbers
from tests.contract.reader import Reader, poll_until

if TYPE_CHECKING:
    from tests.kafka.conftest import RealKafka

pytestmark = pytest.mark.kafka


def test_acknowledging_often_commits_seldom(
    broker: RealKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, group = broker.topic(1), broker.group()
    part = Partition(topic, 0)
    broker.put(part, numbers(3000))
    source = broker.source([topic], group, commit_every_ms=400)
    reader = Reader(source)
    poll_until(lambda: len(reader.records) >= 10, reader, max_records=10)
    sent = []
    real = source._consumer.commit_async

    def counting(offsets: Any, callback: Any) -> Any:
        sent.append(offsets)
        return real(offsets, callback=callback)

    monkeypatch.setattr(source._consumer, "commit_async", counting)
    began = time.monotonic()
    polls = len(reader.polls)
    while time.monotonic() - began < 1.6:
        reader.poll(0.01, 1)
        time.sleep(0.001)  # records are left to the end, so that there is always one to commit
    assert len(reader.polls) - polls > 15
    assert 2 <= len(sent) <= 5
    poll_until(lambda: len(reader.records) == 3000, reader)
    poll_until(lambda: broker.committed(group, part) == 3000, reader)


def test_the_metadata_of_a_position_is_committed_with_it(broker: RealKafka) -> None:
    topic, group = broker.topic(1), broker.group()
    part = Partition(topic, 0)
    source = broker.source([topic], group)
    reader = Reader(source, acknowledge=False)
    poll_until(lambda: bool(reader.owned), reader)
    source.acknowledge({part: Position(0, '{"v": 1}')})
    source.close()
    with_metadata = broker.source([topic], group)
    found = with_metadata._consumer.committed(TopicPartition(*part), metadata=True)
    assert found.metadata == '{"v": 1}'


def test_the_producer_of_the_sink_is_idempotent(broker: RealKafka) -> None:
    producer = broker.sink()._producer
    assert producer.config["enable_idempotence"] is True
    assert producer.config["acks"] == -1
    assert producer._transaction_manager is not None


def test_no_more_messages_are_in_flight_than_configured(broker: RealKafka) -> None:
    topic = broker.topic(1)
    sink = broker.sink(max_in_flight=10)
    highest = 0
    for value in numbers(300):
        sink.send(Message(topic, b"k", value))
        highest = max(highest, sink.in_flight)
    sink.flush()
    assert sink.in_flight == 0
    assert 1 < highest <= 10
    assert [m.value for m in broker.messages(topic)] == numbers(300)


def test_an_event_is_out_within_milliseconds(broker: RealKafka) -> None:
    topic = broker.topic(1)
    sink = broker.sink()
    sink.send(Message(topic, b"k", b"first: fetches metadata and the producer id"))
    sink.flush()
    times = []
    for value in numbers(20):
        began = time.perf_counter()
        sink.send(Message(topic, b"k", value))
        sink.flush()
        times.append(time.perf_counter() - began)
    assert sorted(times)[10] < 0.1


def test_a_pause_beyond_the_poll_interval_costs_the_partitions_and_brings_them_back(
    broker: RealKafka,
) -> None:
    topic, group = broker.topic(2), broker.group()
    every = {Partition(topic, n) for n in range(2)}
    for part in every:
        broker.put(part, numbers(5))
    reader = Reader(broker.source([topic], group, max_poll_interval="1500ms"), acknowledge=False)
    poll_until(lambda: len(reader.records) == 10, reader)
    time.sleep(3)
    reader.acknowledge(*reader.records)  # too late: they may be someone else's by now
    before = len(reader.polls)
    poll_until(lambda: len(reader.records) == 20, reader)
    after = reader.polls[before:]
    assert frozenset().union(*(polled.revoked for polled in after)) == every
    assert frozenset().union(*(polled.assigned for polled in after)) == every
    assert all(found == [*range(5), *range(5)] for found in reader.offsets.values())


def test_records_deleted_before_they_were_read_are_passed_over_loudly(
    broker: RealKafka, caplog: pytest.LogCaptureFixture
) -> None:
    topic, group = broker.topic(1), broker.group()
    part = Partition(topic, 0)
    broker.put(part, numbers(30))
    first = Reader(broker.source([topic], group), acknowledge=False)
    poll_until(lambda: len(first.records) == 30, first)
    first.acknowledge(*first.records[:5])
    first.source.close()
    admin = KafkaAdminClient(bootstrap_servers=broker.servers)
    admin.delete_records({TopicPartition(*part): 20})
    admin.close()
    second = Reader(broker.source([topic], group, "latest"))
    with caplog.at_level(logging.ERROR):
        poll_until(lambda: len(second.records) >= 10, second)
    assert second.values == numbers(10, 20)
    assert f"{topic}[0]: 15 records were deleted" in caplog.text


def test_a_rebalance_under_way_does_not_lose_the_last_commit(
    broker: RealKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, group = broker.topic(1), broker.group()
    part = Partition(topic, 0)
    broker.put(part, numbers(3))
    source = broker.source([topic], group, commit_every_ms=60_000)
    reader = Reader(source)
    poll_until(lambda: len(reader.records) == 3, reader)
    real = source._consumer.commit
    refusals = [RebalanceInProgressError(), RebalanceInProgressError()]

    def refusing(*arguments: Any, **options: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return real(*arguments, **options)

    monkeypatch.setattr(source._consumer, "commit", refusing)
    source.close()
    assert broker.committed(group, part) == 3


def test_a_topic_that_stays_absent_is_an_error_and_one_that_appears_is_read(
    broker: RealKafka,
) -> None:
    absent = f"absent-{time.time_ns()}"
    kafka = broker.kafka(broker.group())
    now = 0.0
    source = KafkaSource(kafka, [absent], "earliest", clock=lambda: now, missing_topic_after=60)
    try:
        source.poll(0.1, 10)
        now = 59
        source.poll(0.1, 10)
        now = 65
        with pytest.raises(SourceError, match=f"no topic '{absent}'.*create-topics"):
            source.poll(0.1, 10)
        create_topics(kafka, {absent: 1})
        broker.put(Partition(absent, 0), numbers(2))
        now = 70
        reader = Reader(source)
        poll_until(lambda: len(reader.records) == 2, reader)
    finally:
        source.close()


def test_a_dead_letter_that_is_too_large_for_its_topic_keeps_everything_but_its_value(
    broker: RealKafka,
) -> None:
    topic = broker.topic(1)
    sink = broker.sink(dead_letter_topic=topic)
    headers = (("dlq_reason", b"oversize"),)
    fits = Message(topic, b"a", os.urandom(900_000), headers, timestamp=1)
    repetitive = Message(topic, b"b", b"[0.0, 0.0]" * 300_000, headers, timestamp=2)
    too_large = Message(topic, b"c", os.urandom(2_000_000), headers, timestamp=3)
    for message in (fits, repetitive, too_large):
        sink.send(message)
    sink.flush()
    sink.flush()
    truncated = too_large._replace(value=None, headers=(*headers, ("dlq_truncated", b"2000000")))
    assert broker.messages(topic) == [fits, repetitive, truncated]


def test_a_message_to_an_absent_topic_is_an_error_that_names_it(
    broker: RealKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sink_module.producer_options
    monkeypatch.setattr(
        sink_module,
        "producer_options",
        lambda *arguments: real(*arguments) | {"allow_auto_create_topics": False},
    )
    sink = broker.sink(delivery_timeout="1s")
    sink.send(Message("absent-output", b"k", b"v"))
    with pytest.raises(SinkError, match=r"topic 'absent-output'.*create-topics"):
        sink.flush()


def test_topics_are_created_once_and_described(broker: RealKafka) -> None:
    kafka = broker.kafka()
    name = f"created-{time.time_ns()}"
    settings = {
        "cleanup.policy": "compact",
        "max.message.bytes": "5000",
        "retention.ms": "60000",
    }
    assert create_topics(kafka, {name: 3}, settings=settings) == [name]
    assert create_topics(kafka, {name: 3}) == []
    assert topics(kafka, [name, "absent"]) == {name: (3, "compact", 5000, 60_000)}
