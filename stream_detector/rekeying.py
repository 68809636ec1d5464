"""Copies records under the key of their series: poll -> order -> decode -> send -> acknowledge.

Knows the formats and the ports, and no adapter. At least once: what was read is acknowledged when
every copy and every dead letter of it is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

import numpy as np

from stream_detector.core.rejections import Breaker, bounded
from stream_detector.formats.json import LETTERS_PER_RECORD
from stream_detector.formats.pieces import pieces
from stream_detector.outbox import Outbox
from stream_detector.ports import Position
from stream_detector.records import UNKNOWN_TIME, Message, Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from stream_detector.ports import Clock, Polled, Sink, Source
    from stream_detector.records import Record, Rejected, Sample

QUEUED_BYTES = 64 << 20
"""Bytes of records that wait for others at most; then the oldest go on without them."""
SETTLED = 1.0
"""Seconds within which records that were written at the same time have all been read."""
OVERHEAD = 300  # bytes of a record beside its value, about


class Decoder(Protocol):
    def decode(self, records: Sequence[Record]) -> tuple[list[Sample], list[Rejected]]: ...


@dataclass(frozen=True, slots=True)
class Copying:
    topic: str
    dead_letter_topic: str
    max_batch: int = 5000  # records a turn
    order_wait: float = 5.0  # s
    rejected_share: float = 0.9
    rejected_window: int = 10_000  # records
    poll_timeout: float = 0.2  # s


@dataclass(slots=True)
class Copied:
    """Since the start."""

    records: int = 0
    messages: int = 0
    split: int = 0  # records of which each sample became a message of its own
    dead_letters: int = 0


class TimeOrder:
    """Several partitions as one stream in the order of their timestamps.

    The samples of a series may lie in any partition of an unkeyed topic, and a copy that took one
    partition after the other would make most of them late. The oldest record goes on once every
    partition has shown its next one. One that holds more and shows nothing is waited for `wait`
    seconds at most; where one is at its end, a record stays SETTLED seconds, in which whatever was
    written beside it arrives.
    """

    def __init__(self, wait: float, most: int = QUEUED_BYTES) -> None:
        self._wait = wait
        self._settled = min(wait, SETTLED)
        self._most = most
        self._bytes = 0
        self._queues: dict[Partition, deque[tuple[Record, float]]] = {}  # and when each came
        self._heard: dict[Partition, float] = {}

    def assign(self, partitions: Iterable[Partition], now: float) -> None:
        for partition in partitions:
            self._queues[partition] = deque()
            self._heard[partition] = now

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """What waits of them is the next owner's to read."""
        for partition in partitions:
            self._bytes -= sum(_size(record) for record, _ in self._queues.pop(partition, ()))
            self._heard.pop(partition, None)

    def add(self, records: Sequence[Record], now: float) -> None:
        for record in records:
            self._queues[Partition(record.topic, record.partition)].append((record, now))
            self._bytes += _size(record)
        for topic, number in {record[:2] for record in records}:
            self._heard[Partition(topic, number)] = now

    def ready(self, lag: Mapping[Partition, int], now: float) -> list[Record]:
        """Records whose turn it is; `lag`: records of each partition not added yet, if known."""

        def holds_up(partition: Partition) -> bool:
            return lag.get(partition) != 0 and now - self._heard[partition] < self._wait

        empty = [partition for partition, queue in self._queues.items() if not queue]
        blocked, waiting = any(map(holds_up, empty)), bool(empty)
        heads = [(q[0][0].timestamp, part) for part, q in self._queues.items() if q]
        heapify(heads)
        found: list[Record] = []
        while heads:
            _, partition = heads[0]
            queue = self._queues[partition]
            record, came = queue[0]
            early = blocked or (waiting and now - came < self._settled)
            if early and self._bytes <= self._most:
                break
            queue.popleft()
            self._bytes -= _size(record)
            found.append(record)
            if queue:
                heapreplace(heads, (queue[0][0].timestamp, partition))
            else:
                heappop(heads)
                blocked, waiting = blocked or holds_up(partition), True
        return found


class Rekeyer:
    """One worker. All calls come from one thread; the caller closes source and sink."""

    def __init__(
        self, source: Source, sink: Sink, decoder: Decoder, settings: Copying, clock: Clock
    ) -> None:
        self._source = source
        self._sink = sink
        self._decoder = decoder
        self._settings = settings
        self._clock = clock
        self._order = TimeOrder(settings.order_wait)
        self._breaker = Breaker(settings.rejected_share, settings.rejected_window)
        self._outbox = Outbox(sink, settings.topic, settings.dead_letter_topic, clock)
        self._positions: dict[Partition, Position] = {}
        self.copied = Copied()

    def run(self, stop: Callable[[], bool], told: Callable[[Copied, Polled], None]) -> None:
        """Turn until `stop` or the end of the input, telling after each turn.

        Raises MisconfiguredError, SourceError or SinkError, with nothing acknowledged that was not
        dealt with.
        """
        while not stop():
            polled = self.turn()
            told(self.copied, polled)
            if polled.finished:
                break
        self._settle()

    def turn(self) -> Polled:
        """One batch."""
        settings, order = self._settings, self._order
        polled = self._source.poll(settings.poll_timeout, settings.max_batch)
        now = self._clock.monotonic()
        order.revoke(polled.revoked)
        order.assign(polled.assigned, now)
        order.add(polled.records, now)
        for partition in polled.revoked:
            self._positions.pop(partition, None)
        self._outbox.drop(polled.revoked)
        records = order.ready(self._source.lag(), float("inf") if polled.finished else now)
        samples, rejected = self._decoder.decode(records)
        usable = {id(sample.record) for sample in samples}
        bad = np.array([id(record) not in usable for record in records], np.bool_)
        self._breaker.note(bad, rejected)
        self._breaker.check()
        for message in self._copies(samples, {id(reject.record) for reject in rejected}):
            self._sink.send(message)
            self.copied.messages += 1
        # While most of the first records are unusable the configuration may be wrong: no trace.
        letters = bounded(rejected, LETTERS_PER_RECORD)
        self._outbox.publish(records, (), letters, hold=self._breaker.suspicious)
        for record in records:
            partition = Partition(record.topic, record.partition)
            self._positions[partition] = Position(record.offset + 1)
        self.copied.records += len(records)
        if self._outbox.holding and polled.records:
            self._sink.flush()
        else:
            self._settle()
        return polled

    def _settle(self) -> None:
        self._outbox.release()
        self.copied.dead_letters = self._outbox.sent
        self._sink.flush()
        if self._positions:
            self._source.acknowledge(self._positions)
            self._positions = {}

    def _copies(self, samples: Iterable[Sample], faulty: Collection[int]) -> Iterable[Message]:
        """A record of one series as it came; else each good sample of it by itself."""
        for _, group in groupby(samples, key=lambda sample: id(sample.record)):
            some = list(group)
            record = some[0].record
            at = None if record.timestamp == UNKNOWN_TIME else record.timestamp
            topic, series = self._settings.topic, some[0].series
            if id(record) not in faulty and all(sample.series == series for sample in some):
                yield Message(topic, series.encode(), record.value, timestamp=at)
                continue
            self.copied.split += 1
            values = pieces(record.value or b"")
            for sample in some:
                value = record.value if sample.item is None else values[sample.item]
                yield Message(topic, sample.series.encode(), value, timestamp=at)


def _size(record: Record) -> int:
    return len(record.value or b"") + OVERHEAD
