"""What every broker's transactions must do; each broker's test module subclasses the suite."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from stream_detector.ports import SinkError
from stream_detector.records import Message, Partition
from tests.contract.broker_contract import Broker, numbers
from tests.contract.reader import Reader, poll_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector.ports import Polled, Rewindable


class TransactionalBroker(Broker, Protocol):
    def transactions(self, transactional_id: str, *, quick: bool = False) -> Any:
        """A ports.Sink that belongs to a source; a `quick` one may be made to expire."""

    def transactional_source(
        self, topics: Sequence[str], group: str, transactions: Any
    ) -> Rewindable: ...

    def committed_messages(self, topic: str) -> list[Message]:
        """What a reader of committed messages sees."""

    def expire(self, transactions: Any) -> None:
        """Let the open transaction take too long for the broker."""


class Worker(Reader):
    """Says the value of each record, and acknowledges it, as the loop does."""

    def __init__(
        self,
        broker: TransactionalBroker,
        topic: str,
        group: str,
        output: str,
        name: str,
        *,
        quick: bool = False,
    ) -> None:
        self.sink = broker.transactions(name, quick=quick)
        self.output = output
        source = broker.transactional_source([topic], group, self.sink)
        self.committed = source.committed
        super().__init__(source, acknowledge=False)

    def poll(self, timeout: float = 0.2, max_records: int = 5000) -> Polled:
        polled = super().poll(timeout, max_records)
        self.say(*polled.records)
        return polled

    def say(self, *records: Any) -> None:
        for record in records:
            self.sink.send(Message(self.output, None, record.value, timestamp=1))
        self.sink.flush()
        self.acknowledge(*records)

    def close(self) -> None:
        self.source.close()
        self.sink.close()


def seen(broker: TransactionalBroker, topic: str) -> Counter[bytes | None]:
    return Counter(message.value for message in broker.committed_messages(topic))


class TransactionContract:
    def test_messages_are_seen_when_their_positions_are_committed(
        self, broker: TransactionalBroker
    ) -> None:
        topic, output = broker.topic(1), broker.topic(1)
        part = Partition(topic, 0)
        broker.put(part, numbers(10))
        one = Worker(broker, topic, broker.group(), output, output)
        poll_until(lambda: len(one.records) == 10, one)
        assert one.sink.unseen
        assert not seen(broker, output)
        poll_until(lambda: not one.sink.unseen, one)
        assert one.committed()[part].offset == 10
        assert seen(broker, output) == Counter(numbers(10))

    def test_what_was_acknowledged_is_committed_on_leaving(
        self, broker: TransactionalBroker
    ) -> None:
        topic, group, output = broker.topic(1), broker.group(), broker.topic(1)
        broker.put(Partition(topic, 0), numbers(5))
        one = Worker(broker, topic, group, output, output)
        poll_until(lambda: len(one.records) == 5, one)
        one.close()
        broker.put(Partition(topic, 0), numbers(5, 5))
        two = Worker(broker, topic, group, output, output)
        poll_until(lambda: len(two.records) >= 5, two)
        two.close()
        assert two.values == numbers(5, 5)
        assert seen(broker, output) == Counter(numbers(10))

    def test_what_was_sent_and_not_acknowledged_is_never_seen(
        self, broker: TransactionalBroker
    ) -> None:
        topic, group, output = broker.topic(1), broker.group(), broker.topic(1)
        broker.put(Partition(topic, 0), numbers(5))
        one = Worker(broker, topic, group, output, output)
        poll_until(lambda: len(one.records) == 5, one)
        one.sink.send(Message(output, None, b"half a batch", timestamp=1))
        one.close()
        two = Worker(broker, topic, group, output, output)
        poll_until(lambda: len(two.records) >= 5, two)
        two.close()
        assert two.values == numbers(5)
        assert seen(broker, output) == Counter(numbers(5))

    def test_after_an_abort_all_partitions_begin_again_at_the_last_commit(
        self, broker: TransactionalBroker
    ) -> None:
        topic, output = broker.topic(2), broker.topic(1)
        parts = [Partition(topic, n) for n in range(2)]
        for part in parts:
            broker.put(part, numbers(3, 100 * part.number))
        one = Worker(broker, topic, broker.group(), output, output, quick=True)
        poll_until(lambda: len(one.records) == 6 and not one.sink.unseen, one)
        assert {each.outcome for each in one.sink.ended()} == {"committed"}
        assert not one.sink.ended()
        broker.put(parts[0], numbers(3, 3))
        poll_until(lambda: len(one.records) == 9 and one.sink.unseen, one)
        broker.expire(one.sink)
        before = len(one.polls)
        poll_until(lambda: len(one.records) == 12 and not one.sink.unseen, one)
        ended = [each.outcome for each in one.sink.ended()]
        assert ended.count("aborted") == 1
        assert ended[-1] == "committed"
        (again,) = [polled for polled in one.polls[before:] if polled.assigned]
        assert again.revoked == again.assigned == frozenset(parts)
        assert one.offsets == {parts[0]: [0, 1, 2, 3, 4, 5, 3, 4, 5], parts[1]: [0, 1, 2]}
        assert seen(broker, output) == Counter([*numbers(6), *numbers(3, 100)])

    def test_a_partition_is_handed_over_with_all_that_its_records_had_to_say(
        self, broker: TransactionalBroker
    ) -> None:
        topic, group, output = broker.topic(4), broker.group(), broker.topic(1)
        for n in range(4):
            broker.put(Partition(topic, n), numbers(300, 1000 * n))
        one = Worker(broker, topic, group, output, f"{output}-1")
        poll_until(lambda: len(one.records) >= 40, one, max_records=10)
        two = Worker(broker, topic, group, output, f"{output}-2")
        poll_until(lambda: len(one.owned) == len(two.owned) == 2, one, two, max_records=10)
        poll_until(lambda: len(one.records) + len(two.records) >= 1200, one, two, max_records=50)
        one.close()
        two.close()
        assert seen(broker, output) == Counter(v for n in range(4) for v in numbers(300, 1000 * n))

    def test_of_two_with_one_transactional_id_the_older_one_stops_and_says_so(
        self, broker: TransactionalBroker
    ) -> None:
        topic, group, output = broker.topic(2), broker.group(), broker.topic(1)
        for n in range(2):
            broker.put(Partition(topic, n), numbers(5, 100 * n))
        one = Worker(broker, topic, group, output, output)
        poll_until(lambda: len(one.records) == 10, one)
        two = Worker(broker, topic, group, output, output)
        with pytest.raises(SinkError, match=f"another worker uses the transactional id '?{output}"):
            poll_until(lambda: False, one, two, patience=20.0)
        one.close()
        poll_until(lambda: len(two.records) == 10 and not two.sink.unseen, two)
        assert seen(broker, output) == Counter([*numbers(5), *numbers(5, 100)])
