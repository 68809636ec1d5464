"""`delivery: exactly_once` on a real broker: kills, two workers, an input that has transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kafka import KafkaProducer

from stream_detector.ports import Position
from stream_detector.records import Partition
from tests.contract.reader import Reader, poll_until
from tests.kafka.service_case import samples
from tests.service import until

if TYPE_CHECKING:
    from tests.kafka.conftest import RealKafka
    from tests.kafka.service_case import Place

pytestmark = pytest.mark.kafka

EXACTLY = {"delivery": "exactly_once", "limits": {"max_batch": 8}}


def uncommitted(place: Place) -> int:
    """Events that only a reader of uncommitted messages sees."""
    committed = len(place.event_ids("read_committed"))
    return len(place.event_ids()) - committed


def test_a_service_that_is_killed_in_mid_transaction_says_everything_exactly_once(
    place: Place,
) -> None:
    place.produce(samples())
    settings = EXACTLY | {
        "commit_every": "1s",
        "snapshots": {"url": str(place.folder / "snapshots"), "every": "200ms"},
    }
    done = met = 0

    def amid() -> bool:
        """It has committed something and goes on, or has come to the end."""
        now = sum(place.committed().values())
        return now == place.count or (now > done and uncommitted(place) > left)

    for _ in range(4):
        left = uncommitted(place)
        with place.service(**settings) as service:
            until(amid, "an open transaction")
            service.process.kill()
        done = sum(place.committed().values())
        met += uncommitted(place) > left
    assert met > 0  # kills met open transactions

    with place.service(**settings) as last:
        until(lambda: sum(place.committed().values()) == place.count, "the rest to be read")
        until(lambda: last.value("restores_total", outcome="exact") == 4, "exact restores")
        assert last.terminate() == 0
        assert "Traceback" not in last.output
    expected = place.replay("all", *place.records().values())
    assert sorted(place.event_ids("read_committed")) == sorted(expected)


def test_two_workers_share_the_partitions_and_say_everything_exactly_once(place: Place) -> None:
    place.produce(samples())
    with place.service(**EXACTLY) as one:
        until(lambda: sum(place.committed().values()) > 0.1 * place.count, "commits")
        with place.service(**EXACTLY) as two:
            until(lambda: two.value("partitions_assigned") == 2, "a share")
            assert two.terminate() == 0
            assert "Traceback" not in two.output
        until(lambda: sum(place.committed().values()) == place.count, "the rest to be read")
        assert one.terminate() == 0
        assert "Traceback" not in one.output
    expected = place.replay("all", *place.records().values())
    assert sorted(place.event_ids("read_committed")) == sorted(expected)


def transactional_input(broker: RealKafka, topic: str) -> None:
    """Offsets 0 to 2 are records, 3 a mark, 4 and 5 aborted ones, 6 their mark."""
    producer = KafkaProducer(bootstrap_servers=broker.servers, transactional_id=topic)
    try:
        producer.init_transactions()
        producer.begin_transaction()
        for number in range(3):
            producer.send(topic, b"%d" % number, partition=0)
        producer.commit_transaction()
        producer.begin_transaction()
        for _ in range(2):
            producer.send(topic, b"aborted", partition=0).get(10)
        producer.abort_transaction()
    finally:
        producer.close()


def test_marks_and_aborted_records_of_the_input_are_passed(broker: RealKafka) -> None:
    topic = broker.topic(1)
    part = Partition(topic, 0)
    transactional_input(broker, topic)
    transactions = broker.transactions(topic + "-worker")
    source = broker.source([topic], broker.group(), transactions=transactions)
    reader = Reader(source)
    poll_until(lambda: source.at(part) == 7, reader)
    assert reader.values == [b"0", b"1", b"2"]
    poll_until(lambda: source.lag() == {part: 0}, reader)
    assert source.drained([part]) == {part}


def test_a_replay_ends_where_the_commit_lies_behind_a_mark(broker: RealKafka) -> None:
    topic, group = broker.topic(1), broker.group()
    part = Partition(topic, 0)
    transactional_input(broker, topic)
    first = Reader(broker.source([topic], group), acknowledge=False)
    poll_until(lambda: len(first.records) >= 3, first)
    first.source.acknowledge({part: Position(7, "said")})
    first.source.close()
    source = broker.source([topic], group)
    second = Reader(source, acknowledge=False)
    poll_until(lambda: part in second.owned, second)
    assert source.start(part) == (7, "said")
    assert source.rewind(part, 0) == 0
    poll_until(lambda: source.at(part) == 7, second)
