"""A message broker in memory with Kafka's semantics: partitions, groups, rebalances, commits.

No threads and no randomness: what happens depends on the order of the calls alone. Groups and
their members are in group.py.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from stream_detector.adapters.memory.group import Entry, Group, MemorySource
from stream_detector.adapters.memory.partitioner import Partitioner
from stream_detector.adapters.memory.transactions import MemoryTransactions
from stream_detector.ports import SinkError
from stream_detector.records import Message, Partition, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stream_detector.ports import Ended, Position


class MemoryBroker:
    """Topics appear with `partitions` partitions when first used, or by `create_topic`.

    `clock` gives the timestamp, ms since the epoch, of messages that bring none.
    """

    def __init__(
        self,
        partitions: int = 1,
        *,
        max_message_bytes: int | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._default_partitions = partitions
        self._max_message_bytes = max_message_bytes
        self._clock = clock
        self._topics: dict[str, list[list[Entry]]] = {}
        self._headers: dict[tuple[str, int, int], tuple[tuple[str, bytes], ...]] = {}
        self._partitioner = Partitioner()
        self._groups: dict[str, Group] = {}
        self._failing: dict[str, str] = {}
        self._oldest: dict[Partition, int] = {}
        self._epochs: dict[str, int] = {}  # of transactional ids
        self.changed = threading.Condition()  # reentrant; guards everything; told of every change

    def create_topic(self, topic: str, partitions: int) -> None:
        with self.changed:
            if topic in self._topics:
                raise ValueError(f"topic {topic!r} exists already")
            self._topics[topic] = [[] for _ in range(partitions)]

    def add_partitions(self, topic: str, partitions: int) -> None:
        """The topic has so many from now on; its groups share out the new ones."""
        with self.changed:
            logs = self.logs(topic)
            new = [Partition(topic, number) for number in range(len(logs), partitions)]
            logs += [[] for _ in new]
            for group in self._groups.values():
                group.grow(new)
            self.changed.notify_all()

    def append(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        *,
        timestamp: int | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
        partition: int | None = None,
    ) -> Record:
        """Add one message; without `partition` the key decides, as with Kafka's clients."""
        with self.changed:
            logs = self.logs(topic)
            number = partition
            if number is None:
                number = self._partitioner.number(topic, key, len(logs))
            log = logs[number]
            at = self._clock() if timestamp is None else timestamp
            offset = len(log)
            log.append((key, value, at))
            if headers:
                self._headers[topic, number, offset] = headers
            self.changed.notify_all()
            return Record(topic, number, offset, at, key, value)

    def append_many(self, topic: str, items: Iterable[Entry]) -> None:
        """Add (key, value, timestamp in ms) of many messages at once."""
        with self.changed:
            logs = self.logs(topic)
            count = len(logs)
            choose = self._partitioner.number
            for entry in items:
                logs[choose(topic, entry[0], count)].append(entry)
            self.changed.notify_all()

    def messages(self, topic: str) -> list[Message]:
        """Everything in the topic, by partition and offset."""
        with self.changed:
            return [
                Message(topic, key, value, self._headers.get((topic, number, offset), ()), at)
                for number, log in enumerate(self._topics.get(topic, ()))
                for offset, (key, value, at) in enumerate(log)
            ]

    def committed(self, group: str) -> Mapping[Partition, Position]:
        with self.changed:
            known = self._groups.get(group)
            return dict(known.committed) if known else {}

    def fail(self, topic: str, reason: str | None) -> None:
        """From now on messages to this topic are not delivered; None heals it."""
        with self.changed:
            if reason is None:
                self._failing.pop(topic, None)
            else:
                self._failing[topic] = reason

    def source(
        self,
        topics: Sequence[str],
        group: str,
        *,
        start: str = "latest",
        finite: bool = False,
        transactions: MemoryTransactions | None = None,
    ) -> MemorySource:
        """A new member of the group. A `finite` one says `finished` when it has read everything.

        With `transactions` it commits what was sent there together with its positions.
        """
        with self.changed:
            for topic in topics:
                self.logs(topic)
            joined = self._groups.setdefault(group, Group())
            return MemorySource(
                self, joined, tuple(topics), start, finite=finite, transactions=transactions
            )

    def sink(self) -> MemorySink:
        return MemorySink(self)

    def transactions(self, transactional_id: str) -> MemoryTransactions:
        """A sink that belongs to a source; an older one of the same id can commit nothing more."""
        return MemoryTransactions(self, transactional_id)

    def begin(self, transactional_id: str) -> int:
        """A new epoch of the id: transactions of the ones before are aborted."""
        with self.changed:
            self._epochs[transactional_id] = self._epochs.get(transactional_id, 0) + 1
            return self._epochs[transactional_id]

    def epoch(self, transactional_id: str) -> int:
        with self.changed:
            return self._epochs[transactional_id]

    def logs(self, topic: str) -> list[list[Entry]]:
        """The records of each partition. For whoever holds `changed`."""
        logs = self._topics.get(topic)
        if logs is None:
            logs = self._topics[topic] = [[] for _ in range(self._default_partitions)]
        return logs

    def trim(self, partition: Partition, offset: int) -> None:
        """Delete the records below an offset, as retention does."""
        with self.changed:
            self._oldest[partition] = max(offset, self.oldest(partition))

    def oldest(self, partition: Partition) -> int:
        """Offset of the oldest record that is left. For whoever holds `changed`."""
        return self._oldest.get(partition, 0)

    def refusal(self, message: Message) -> str | None:
        """Why this message cannot be delivered now."""
        with self.changed:
            size = len(message.value or b"")
            if self._max_message_bytes is not None and size > self._max_message_bytes:
                return f"a message of {size} bytes is too large"
            return self._failing.get(message.topic)


class MemorySink:
    """ports.Sink: what is sent appears in the topic at once; a refusal is raised by `flush`.

    Like the sink on Kafka it stays failed once a message was not delivered.
    """

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._failure: str | None = None

    @property
    def unseen(self) -> bool:
        return False

    def ended(self) -> Sequence[Ended]:
        return ()

    def send(self, message: Message) -> None:
        self.flush()
        refusal = self._broker.refusal(message)
        if refusal is not None:
            self._failure = f"topic {message.topic!r}: {refusal}"
            return
        self._broker.append(
            message.topic,
            message.value,
            message.key,
            timestamp=message.timestamp,
            headers=message.headers,
        )

    def flush(self) -> None:
        if self._failure is not None:
            raise SinkError(self._failure)

    def close(self) -> None:
        pass
