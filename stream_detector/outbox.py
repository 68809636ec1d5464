"""Events and dead letters on their way out: what is held back, what readers can see already.

All that a batch says is sent before its offsets may be committed, or none of it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stream_detector.formats.events import dead_letter, event_message
from stream_detector.records import UNKNOWN_TIME, Partition

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from stream_detector.ports import Clock, Ended, Sink
    from stream_detector.records import AnomalyEvent, Message, Record, Rejected

HELD_BYTES = 128 << 20
"""Bytes of records whose dead letters are held back at most; memory is not for them."""


class _Held(NamedTuple):
    partition: Partition
    message: Message


class Seen(NamedTuple):
    """What readers can see since the last look."""

    events: list[AnomalyEvent]
    latencies: list[float]  # s from each causing record to the visibility of its event
    transactions: list[Ended]


class Outbox:
    """Called from the loop's thread."""

    def __init__(self, sink: Sink, events_topic: str, dead_letter_topic: str, clock: Clock) -> None:
        self._sink = sink
        self._events_topic = events_topic
        self._dead_letter_topic = dead_letter_topic
        self._clock = clock
        self._held: list[_Held] = []
        self._held_bytes = 0
        self._unseen: list[AnomalyEvent] = []
        self._causes: list[tuple[Partition, int]] = []  # ms, of records whose events are unseen
        self._seen = Seen([], [], [])
        self.sent = 0
        """Messages so far."""

    @property
    def holding(self) -> bool:
        """Something was not sent yet; the offsets of what was read must wait for it."""
        return bool(self._held)

    def publish(
        self,
        records: Sequence[Record],
        events: Sequence[AnomalyEvent],
        rejected: Sequence[Rejected],
        *,
        hold: bool,
    ) -> None:
        """Send what a batch says; `hold`: only when `release` is called, or memory gets short."""
        for event in events:
            message = event_message(event, self._events_topic)
            self._held.append(_Held(event.partition, message))
        self._unseen += events
        for reject in rejected:
            message = dead_letter(reject, self._dead_letter_topic)
            self._held.append(_Held(_home(reject.record), message))
        refused = {id(reject.record): reject.record for reject in rejected}
        self._held_bytes += sum(len(record.value or b"") for record in refused.values())
        causes = {(*event.partition, event.offset) for event in events}
        if causes:
            self._causes += [
                (_home(record), record.timestamp)
                for record in records
                if record[:3] in causes and record.timestamp != UNKNOWN_TIME
            ]
        if not hold or self._held_bytes > HELD_BYTES:
            self.release()

    def release(self) -> None:
        """Send what was held back and wait until it is acknowledged."""
        if not self._held:
            return
        held, self._held, self._held_bytes = self._held, [], 0
        for each in held:
            self._sink.send(each.message)
        self._sink.flush()
        self.sent += len(held)

    def drop(self, partitions: Collection[Partition]) -> None:
        """Whoever owns these now says it all again, from the records that were not committed."""
        if self._held:
            self._held = [each for each in self._held if each.partition not in partitions]
        self._causes = [cause for cause in self._causes if cause[0] not in partitions]
        self._unseen = [event for event in self._unseen if event.partition not in partitions]

    def look(self) -> None:
        """Note what readers can see by now; before anything is dropped that they may see."""
        for each in self._sink.ended():
            self._seen.transactions.append(each)
            if each.outcome != "committed":  # its records are read again
                self._unseen, self._causes = [], []
            elif not self._held:
                self._show()
        if not self._held and not self._sink.unseen:
            self._show()

    def seen(self) -> Seen:
        """Since the last call."""
        self.look()
        found, self._seen = self._seen, Seen([], [], [])
        return found

    def _show(self) -> None:
        """All that was sent can be seen."""
        now = self._clock.now() * 1000 if self._causes else 0.0
        causes, self._causes = self._causes, []
        events, self._unseen = self._unseen, []
        self._seen.events.extend(events)
        self._seen.latencies.extend(max(0.0, (now - time) / 1000) for _, time in causes)


def _home(record: Record) -> Partition:
    return Partition(record.topic, record.partition)
