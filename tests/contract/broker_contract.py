"""What every broker's source and sink must do; each broker's test module subclasses the suite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from stream_detector.adapters.memory import murmur2
from stream_detector.ports import Position, SinkError
from stream_detector.records import Message, Partition
from tests.contract.reader import Reader, poll_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector.ports import Rewindable, Sink


class Broker(Protocol):
    """A broker under test, fresh topics and groups on demand; closes what it gave out."""

    def topic(self, partitions: int) -> str: ...

    def group(self) -> str: ...

    def source(self, topics: Sequence[str], group: str, start: str = "earliest") -> Rewindable: ...

    def sink(self) -> Sink: ...

    def put(self, partition: Partition, values: Sequence[bytes]) -> None:
        """Append values without keys to one partition."""

    def messages(self, topic: str) -> list[Message]: ...

    def undeliverable(self, topic: str) -> Message:
        """A message to the topic that the broker will not take."""


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


class BrokerContract:
    def test_each_partition_arrives_in_the_order_it_was_written(self, broker: Broker) -> None:
        topic = broker.topic(3)
        for number in range(3):
            broker.put(Partition(topic, number), numbers(200, 1000 * number))
        reader = Reader(broker.source([topic], broker.group()))
        poll_until(lambda: len(reader.records) >= 600, reader, max_records=50)
        assert reader.offsets == {Partition(topic, n): list(range(200)) for n in range(3)}
        for n in range(3):
            found = [r.value for r in reader.records if r.partition == n]
            assert found == numbers(200, 1000 * n)
        assert max(len(polled.records) for polled in reader.polls) <= 50

    def test_a_partition_is_assigned_before_or_with_its_first_record(self, broker: Broker) -> None:
        topic = broker.topic(2)
        broker.put(Partition(topic, 0), numbers(5))
        reader = Reader(broker.source([topic], broker.group()))  # Reader checks each record
        poll_until(lambda: len(reader.records) == 5, reader)
        assigned = [polled.assigned for polled in reader.polls if polled.assigned]
        assert frozenset().union(*assigned) == {Partition(topic, 0), Partition(topic, 1)}
        assert sum(len(part) for part in assigned) == 2

    def test_a_restarted_group_goes_on_exactly_after_what_was_acknowledged(
        self, broker: Broker
    ) -> None:
        topic, group = broker.topic(2), broker.group()
        broker.put(Partition(topic, 0), numbers(10))
        broker.put(Partition(topic, 1), numbers(10, 100))
        first = Reader(broker.source([topic], group), acknowledge=False)
        poll_until(lambda: len(first.records) == 20, first)
        kept = {0: 4, 1: 10}
        first.acknowledge(*(r for r in first.records if r.offset < kept[r.partition]))
        first.source.close()

        second = Reader(broker.source([topic], group))
        poll_until(lambda: len(second.records) >= 6, second)
        second.poll(0.3)
        assert second.values == numbers(6, 4)

    def test_what_was_not_acknowledged_is_delivered_again(self, broker: Broker) -> None:
        topic, group = broker.topic(1), broker.group()
        broker.put(Partition(topic, 0), numbers(10))
        first = Reader(broker.source([topic], group), acknowledge=False)
        poll_until(lambda: len(first.records) == 10, first)
        first.source.close()
        second = Reader(broker.source([topic], group))
        poll_until(lambda: len(second.records) >= 10, second)
        assert second.values == numbers(10)

    def test_members_share_the_partitions_and_a_leaving_ones_go_to_the_rest(
        self, broker: Broker
    ) -> None:
        topic, group = broker.topic(4), broker.group()
        every = {Partition(topic, n) for n in range(4)}
        for part in every:
            broker.put(part, numbers(50))
        one = Reader(broker.source([topic], group))
        poll_until(lambda: len(one.records) == 200 and one.owned == every, one)

        two = Reader(broker.source([topic], group))
        poll_until(lambda: len(one.owned) == 2 and len(two.owned) == 2, one, two)
        assert one.owned | two.owned == every
        for part in every:
            broker.put(part, numbers(50, 50))
        poll_until(lambda: len(one.records) + len(two.records) >= 400, one, two)

        one.source.close()
        poll_until(lambda: two.owned == every, two)
        for part in every:
            broker.put(part, numbers(10, 100))
        poll_until(lambda: len(one.records) + len(two.records) >= 440, two)
        two.poll(0.3)
        both = [(r.partition, r.offset) for r in one.records + two.records]
        # All was acknowledged: nothing is lost, nothing comes twice.
        assert sorted(both) == [(n, offset) for n in range(4) for offset in range(110)]

    def test_partitions_that_stay_are_not_revoked_when_a_member_joins(self, broker: Broker) -> None:
        topic, group = broker.topic(4), broker.group()
        one = Reader(broker.source([topic], group))
        poll_until(lambda: len(one.owned) == 4, one)
        before = len(one.polls)
        two = Reader(broker.source([topic], group))
        poll_until(lambda: len(one.owned) == 2 and len(two.owned) == 2, one, two)
        revoked = [p for polled in one.polls[before:] for p in polled.revoked]
        assert sorted(revoked) == sorted(two.owned)

    def test_records_fetched_before_a_hand_over_come_from_the_new_owner_only(
        self, broker: Broker
    ) -> None:
        topic, group = broker.topic(2), broker.group()
        for n in range(2):
            broker.put(Partition(topic, n), numbers(300))
        one = Reader(broker.source([topic], group))
        poll_until(lambda: len(one.records) >= 20, one, max_records=10)
        two = Reader(broker.source([topic], group))
        poll_until(lambda: len(one.owned) == 1 and len(two.owned) == 1, one, two, max_records=10)
        poll_until(lambda: len(one.records) + len(two.records) >= 600, one, two)
        both = [(r.partition, r.offset) for r in one.records + two.records]
        assert sorted(both) == [(n, offset) for n in range(2) for offset in range(300)]

    def test_a_new_group_starts_at_the_earliest_record_when_told_so(self, broker: Broker) -> None:
        topic = broker.topic(1)
        broker.put(Partition(topic, 0), numbers(3))
        reader = Reader(broker.source([topic], broker.group(), "earliest"))
        poll_until(lambda: len(reader.records) >= 3, reader)
        assert reader.values == numbers(3)

    def test_a_new_group_that_starts_at_the_latest_keeps_that_place_over_a_restart(
        self, broker: Broker
    ) -> None:
        topic, group = broker.topic(1), broker.group()
        broker.put(Partition(topic, 0), numbers(3))
        first = Reader(broker.source([topic], group, "latest"))
        poll_until(lambda: bool(first.owned), first)
        first.poll(0.3)
        first.source.close()
        broker.put(Partition(topic, 0), numbers(2, 3))
        second = Reader(broker.source([topic], group, "latest"))
        poll_until(lambda: len(second.records) >= 2, second)
        assert first.values == []
        assert second.values == numbers(2, 3)

    def test_a_group_without_a_position_says_where_it_begins(self, broker: Broker) -> None:
        topic = broker.topic(1)
        part = Partition(topic, 0)
        broker.put(part, numbers(7))
        for start, offset in (("earliest", 0), ("latest", 7)):
            source = broker.source([topic], broker.group(), start)
            reader = Reader(source, acknowledge=False)
            poll_until(lambda: part in reader.owned, reader)  # noqa: B023
            assert source.start(part) == (offset, None)

    def test_a_group_that_was_killed_before_it_read_anything_begins_there_still(
        self, broker: Broker
    ) -> None:
        topic, group = broker.topic(1), broker.group()
        part = Partition(topic, 0)
        broker.put(part, numbers(7))
        first = Reader(broker.source([topic], group, "latest"), acknowledge=False)
        poll_until(lambda: part in first.owned, first)
        first.poll(0.3)
        first.source.close()
        broker.put(part, numbers(2))
        second = broker.source([topic], group, "latest")
        reader = Reader(second, acknowledge=False)
        poll_until(lambda: part in reader.owned, reader)
        assert second.start(part) == (7, None)

    def test_the_metadata_of_a_commit_comes_back_with_the_next_assignment(
        self, broker: Broker
    ) -> None:
        topic, group = broker.topic(1), broker.group()
        part = Partition(topic, 0)
        broker.put(part, numbers(7))
        source = broker.source([topic], group)
        first = Reader(source, acknowledge=False)
        poll_until(lambda: len(first.records) == 7, first)
        source.acknowledge({part: Position(4, "said")})
        poll_until(lambda: source.committed().get(part) == Position(4, "said"), first)
        source.acknowledge({part: Position(4, "said again")})
        source.close()
        other = broker.source([topic], group)
        second = Reader(other, acknowledge=False)
        poll_until(lambda: part in second.owned, second)
        assert other.start(part) == (4, "said again")

    def test_a_rewound_partition_is_read_again_from_there(self, broker: Broker) -> None:
        topic = broker.topic(2)
        parts = [Partition(topic, n) for n in range(2)]
        for part in parts:
            broker.put(part, numbers(20))
        source = broker.source([topic], broker.group())
        reader = Reader(source, acknowledge=False)
        poll_until(lambda: len(reader.records) == 40, reader)
        assert [source.at(part) for part in parts] == [20, 20]
        assert source.rewind(parts[0], 5) == 5
        assert source.at(parts[0]) == 5
        poll_until(lambda: len(reader.records) == 55, reader)
        assert reader.offsets == {parts[0]: [*range(20), *range(5, 20)], parts[1]: [*range(20)]}
        assert source.at(parts[0]) == 20

    def test_keys_values_and_timestamps_survive_and_so_does_their_absence(
        self, broker: Broker
    ) -> None:
        topic = broker.topic(1)
        sink = broker.sink()
        sent = [
            Message(topic, b"key", b"\x00\xff", timestamp=1_764_201_600_000),
            Message(topic, None, b"value", timestamp=1),
            Message(topic, b"tombstone", None, timestamp=2),
            Message(topic, None, None, timestamp=3),
            Message(topic, b"", b"", timestamp=4),
        ]
        for message in sent:
            sink.send(message)
        sink.flush()
        reader = Reader(broker.source([topic], broker.group()))
        poll_until(lambda: len(reader.records) >= len(sent), reader)
        found = [(r.key, r.value, r.timestamp) for r in reader.records]
        assert found == [(m.key, m.value, m.timestamp) for m in sent]

    def test_headers_survive(self, broker: Broker) -> None:
        topic = broker.topic(1)
        sink = broker.sink()
        message = Message(
            topic, b"k", b"v", (("ce_id", b"1"), ("dlq_detail", "späť".encode())), timestamp=5
        )
        sink.send(message)
        sink.flush()
        assert broker.messages(topic) == [message]

    def test_a_key_chooses_the_same_partition_as_in_every_client_of_kafka(
        self, broker: Broker
    ) -> None:
        topic = broker.topic(5)
        sink = broker.sink()
        keys = [b"plant-%d/pump-%d" % (n, n * n) for n in range(40)]
        for key in keys:
            sink.send(Message(topic, key, b"v", timestamp=1))
        sink.flush()
        reader = Reader(broker.source([topic], broker.group()))
        poll_until(lambda: len(reader.records) >= len(keys), reader)
        assert {r.key: r.partition for r in reader.records} == {
            key: (murmur2(key) & 0x7FFFFFFF) % 5 for key in keys
        }

    def test_one_source_reads_several_topics(self, broker: Broker) -> None:
        topics = [broker.topic(1), broker.topic(2)]
        broker.put(Partition(topics[0], 0), numbers(5))
        broker.put(Partition(topics[1], 1), numbers(5, 5))
        reader = Reader(broker.source(topics, broker.group()))
        poll_until(lambda: len(reader.records) >= 10, reader)
        assert sorted(reader.values, key=lambda v: int(v or b"0")) == numbers(10)
        assert {r.topic for r in reader.records} == set(topics)
        assert len(reader.owned) == 3

    def test_the_lag_counts_what_was_not_polled_yet(self, broker: Broker) -> None:
        topic = broker.topic(2)
        broker.put(Partition(topic, 0), numbers(30))
        reader = Reader(broker.source([topic], broker.group()))
        assert not reader.source.lag()
        poll_until(lambda: bool(reader.records), reader, max_records=10)
        assert reader.source.lag()[Partition(topic, 0)] == 30 - len(reader.records)
        poll_until(lambda: len(reader.records) == 30, reader)
        assert reader.source.lag() == {Partition(topic, 0): 0, Partition(topic, 1): 0}
        assert not reader.source.unassigned()

    def test_a_failed_message_is_raised_by_flush_and_ever_after(self, broker: Broker) -> None:
        topic = broker.topic(1)
        sink = broker.sink()
        sink.send(broker.undeliverable(topic))
        with pytest.raises(SinkError, match=f"topic '{topic}'"):
            sink.flush()
        with pytest.raises(SinkError):
            sink.send(Message(topic, b"k", b"a later message"))
        with pytest.raises(SinkError):
            sink.flush()
        assert broker.messages(topic) == []

    def test_flush_with_nothing_sent_returns(self, broker: Broker) -> None:
        sink = broker.sink()
        sink.flush()
        sink.flush()
        sink.close()

    def test_closing_twice_or_before_the_first_poll_does_no_harm(self, broker: Broker) -> None:
        topic, group = broker.topic(1), broker.group()
        source = broker.source([topic], group)
        source.close()
        source.close()
        broker.put(Partition(topic, 0), numbers(1))
        reader = Reader(broker.source([topic], group))
        poll_until(lambda: len(reader.records) == 1, reader)
        reader.source.close()
        reader.source.close()
        sink = broker.sink()
        sink.close()
        sink.close()

    def test_acknowledging_a_partition_that_moved_away_changes_nothing(
        self, broker: Broker
    ) -> None:
        topic, group = broker.topic(2), broker.group()
        for n in range(2):
            broker.put(Partition(topic, n), numbers(10))
        one = Reader(broker.source([topic], group), acknowledge=False)
        poll_until(lambda: len(one.records) == 20, one)
        two = Reader(broker.source([topic], group), acknowledge=False)
        poll_until(lambda: len(one.owned) == 1 and len(two.records) == 10, one, two)
        one.acknowledge(*(r for r in one.records if r.partition == two.records[0].partition))
        one.source.close()
        two.source.close()
        three = Reader(broker.source([topic], group))
        poll_until(lambda: len(three.records) >= 20, three)
        assert len(three.records) == 20
