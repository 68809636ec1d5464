"""Records of a consumer group's share of the input topics; commits what was acknowledged.

The client calls the rebalance listener on its own thread, always while `poll` or `close` waits:
it queues what changed, and commits for the partitions it gives up before anyone else gets them.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.errors import (
    KafkaError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from stream_detector.adapters.kafka.absent import Absent
from stream_detector.adapters.kafka.client import (
    consumer_options,
    explain,
    heals,
    name_of,
    partitions_of,
)
from stream_detector.adapters.kafka.committing import (
    CLOSE_MS,
    Committer,
    OffsetCommitter,
    TransactionCommitter,
)
from stream_detector.adapters.kafka.joining import Assignor, keep_finished_joins, share_out_again
from stream_detector.adapters.kafka.unassigned import EVERY_S, Unassigned
from stream_detector.ports import BEGUN, Polled, Position, SinkError, SourceError, Start
from stream_detector.records import Partition, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from stream_detector import config
    from stream_detector.adapters.kafka.transactions import Transactions

log = logging.getLogger(__name__)

DRAINED_MS = 2_000


class KafkaSource:
    """ports.Rewindable on a Kafka consumer group.

    Partitions move one by one (cooperative rebalancing): those that stay keep their state. A
    partition that was lost and came back within one poll is both in `revoked` and in `assigned`.
    Where the group has no offset it begins at `start` and commits that at once, so that a restart
    skips nothing, but at the oldest record where the partition was added to the topic later; where
    the broker has already deleted the next record it goes on at the oldest.

    Raises SourceError for what does not heal by itself: no broker answers, rights are missing, a
    topic is absent for `missing_topic_after` seconds.
    """

    def __init__(
        self,
        kafka: config.Kafka,
        topics: Sequence[str],
        start: str = "latest",
        commit_every_ms: int = 1000,
        *,
        known: Mapping[str, int] | None = None,
        transactions: Transactions | None = None,
        clock: Callable[[], float] = time.monotonic,
        missing_topic_after: float = 60.0,
        look_every: float = EVERY_S,
    ) -> None:
        """`known`: topic -> how many of its partitions are there from the start; the others, and
        those of other topics that show up when this member has seen some already, came later.
        `transactions`: commit together with what is sent there. `look_every`: seconds between two
        looks for partitions that no member has.
        """
        self._kafka = kafka
        self._known = dict(known or {})
        self._topics = tuple(topics)
        self._start = start
        self._owned: set[Partition] = set()
        self._begun: dict[Partition, int] = {}  # where the group had no position
        self._changes: deque[tuple[str, frozenset[Partition]]] = deque()
        self._closed = False
        self._assignor = Assignor()
        self._unassigned = Unassigned(kafka, self._topics, look_every)
        try:
            committed = transactions is not None
            options = consumer_options(kafka, self._assignor, read_committed=committed)
            self._consumer = KafkaConsumer(**options)
        except (KafkaError, OSError, ValueError) as error:
            raise SourceError(explain(kafka, error)) from error
        every = commit_every_ms / 1000
        self._committer: Committer = (
            OffsetCommitter(self._consumer, every, clock)
            if transactions is None
            else TransactionCommitter(self._consumer, transactions, every, clock)
        )
        self._absent = Absent(kafka, self._topics, self._consumer, missing_topic_after, clock)
        keep_finished_joins(self._consumer)
        self._consumer.subscribe(self._topics, listener=_Listener(self))

    def poll(self, timeout: float, max_records: int) -> Polled:
        try:
            self._committer.commit_when_due()
        except KafkaError as error:
            raise SourceError(explain(self._kafka, error)) from error
        self._share_out()
        fetched = self._fetch(timeout, max_records)
        assigned, revoked = self._take_changes()
        if self._committer.broken:
            fetched, again = {}, self._start_over()
            assigned, revoked = assigned | again, revoked | (again - assigned)
        records: list[Record] = []
        for batch in fetched.values():
            records += [
                Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value) for r in batch
            ]
        if not records:
            self._absent.check()
        return Polled(records, assigned, revoked)

    def acknowledge(self, positions: Mapping[Partition, Position]) -> None:
        self._committer.note({p: at for p, at in positions.items() if p in self._owned})

    def partitions(self) -> Mapping[str, int]:
        """Only of topics of which this member owns a part: the client has heard of those."""
        topics = {partition.topic for partition in self._owned}
        return {topic: len(self._consumer.partitions_for_topic(topic)) for topic in topics}

    def drained(self, partitions: Collection[Partition]) -> frozenset[Partition]:
        places = [TopicPartition(*partition) for partition in self._owned.intersection(partitions)]
        if not places or self._committer.broken:
            return frozenset()
        try:
            ends = self._consumer.end_offsets(places, timeout_ms=DRAINED_MS)
            at = {p: self._consumer.position(p, timeout_ms=DRAINED_MS) for p in places}
        except KafkaError as error:
            log.info("whether more is to be read could not be asked: %s", error)
            return frozenset()
        return frozenset(Partition(*p) for p in places if at[p] is not None and ends[p] == at[p])

    def unassigned(self) -> frozenset[Partition]:
        return self._unassigned.lasting()

    def lag(self) -> Mapping[Partition, int]:
        """Known only for partitions that were fetched from at least once."""
        lags = {}
        assignment = self._consumer.assignment()
        for partition in self._owned:
            place = TopicPartition(*partition)
            end = self._consumer.highwater(place) if place in assignment else None
            position = self.at(partition)
            if end is not None and position >= 0:
                lags[partition] = max(0, end - position)
        return lags

    def start(self, partition: Partition) -> Start | None:
        if partition in self._begun:
            return Start(self._begun[partition], None)
        place = TopicPartition(*partition)
        try:
            found = self._consumer.committed(place, metadata=True, timeout_ms=CLOSE_MS)
            if found is None:
                self._begin([place])
                return Start(self._begun[partition], None)
        except KafkaError as error:
            self._ask_again(partition, error)
            return None
        metadata = found.metadata or ""
        return Start(found.offset, None if metadata == BEGUN else metadata)

    def rewind(self, partition: Partition, offset: int) -> int | None:
        place = TopicPartition(*partition)
        if place not in self._consumer.assignment():
            return None  # the next poll says that it is gone
        try:
            oldest = self._offsets([place], "earliest")[place]
        except KafkaError as error:
            self._ask_again(partition, error)
            return None
        self._consumer.seek(place, max(offset, oldest))
        return max(offset, int(oldest))

    def at(self, partition: Partition) -> int:
        place = TopicPartition(*partition)
        position: int | None = None
        try:
            # The client's own position: it also passes the marks that transactions leave.
            if place in self._consumer.assignment():
                position = self._consumer.position(place, timeout_ms=0)
        except KafkaError as error:
            log.info("%s: its position is not known yet: %s", name_of(place), error)
            with suppress(KafkaError):  # the next poll meets it again
                self._recover(error)
        return -1 if position is None else position

    def committed(self) -> Mapping[Partition, Position]:
        return self._committer.done()

    def _ask_again(self, partition: Partition, error: KafkaError) -> None:
        if not heals(error):
            raise SourceError(explain(self._kafka, error)) from error
        log.warning("%s: the brokers will be asked again: %s", name_of(partition), error)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._unassigned.close()
        try:
            self._committer.close()
        except (KafkaError, SinkError) as error:
            log.warning("not committed on leaving, will be read again: %s", error)
        try:
            self._consumer.close(autocommit=False, timeout_ms=CLOSE_MS)
        except KafkaError as error:
            log.warning("the group was not left cleanly: %s", error)

    def _share_out(self) -> None:
        """Where partitions are nobody's: a leader that restarted in place watches no more."""
        found = self._unassigned.news()
        if found:
            names = ", ".join(sorted(map(name_of, found)))
            log.warning("no worker has %s; asking the group to share them out again", names)
            share_out_again(self._consumer, self._assignor)

    def _fetch(self, timeout: float, max_records: int) -> Mapping[Any, list[Any]]:
        try:
            fetched: Mapping[Any, list[Any]] = self._consumer.poll(
                timeout_ms=round(timeout * 1000), max_records=max_records
            )
        except KafkaError as error:
            try:
                self._recover(error)
            except KafkaError as second:
                error = second
            else:
                return {}
            if not heals(error):
                raise SourceError(explain(self._kafka, error)) from error
            log.warning("the brokers will be asked again: %s", error)
            time.sleep(min(timeout, 0.1))
            return {}
        return fetched

    def _recover(self, error: KafkaError) -> None:
        """Decide where to read on; any other error is raised again."""
        if isinstance(error, NoOffsetForPartitionError):
            self._begin(self._without_commit(error.args[0]))
        elif isinstance(error, OffsetOutOfRangeError):
            for place, offset in self._offsets(error.args[0], "earliest").items():
                gone = offset - error.args[0][place]
                log.error(
                    "%s: %d records were deleted before they were read; going on at offset %d",
                    name_of(place),
                    gone,
                    offset,
                )
                self._consumer.seek(place, offset)
        elif isinstance(error, LogTruncationError):
            for place, position in error.divergent_offsets.items():
                if position is None:
                    raise error
                log.error(
                    "%s: the broker lost records that were read; going on at offset %d",
                    name_of(place),
                    position.offset,
                )
                self._consumer.seek(place, position.offset)
        else:
            raise error

    def _without_commit(self, places: Iterable[Any]) -> list[Any]:
        """The client also names partitions that came while it asked for those of others."""
        found = {at: self._consumer.committed(at, timeout_ms=CLOSE_MS) for at in places}
        for place, offset in found.items():
            if offset is not None:
                self._consumer.seek(place, offset)
        return [place for place, offset in found.items() if offset is None]

    def _begin(self, places: Iterable[Any]) -> None:
        later = [place for place in places if self._came_later(place)]
        others = [place for place in places if place not in later]
        found = self._offsets(others, self._start) if others else {}
        found |= self._offsets(later, "earliest") if later else {}
        for place, offset in found.items():
            self._begin_at(place, offset)

    def _begin_at(self, place: Any, offset: int) -> None:
        self._consumer.seek(place, offset)
        self._begun[Partition(*place)] = offset
        # Committed even if nothing is ever read: `latest` means latest at the first start.
        self._committer.note({Partition(*place): Position(offset, BEGUN)})

    def _came_later(self, place: Any) -> bool:
        """Whether the partition was added to its topic: all its records came after the others'."""
        count = len(self._consumer.partitions_for_topic(place.topic))
        return bool(place.partition >= self._known.setdefault(place.topic, count))

    def _offsets(self, places: Iterable[Any], which: str) -> dict[Any, int]:
        ask = self._consumer.beginning_offsets
        if which == "latest":
            ask = self._consumer.end_offsets
        found: dict[Any, int] = ask(list(places), timeout_ms=CLOSE_MS)
        return found

    def _start_over(self) -> frozenset[Partition]:
        """Back to the last commit, with all partitions; none: to be tried again."""
        if not self._committer.renew():
            return frozenset()
        for partition in self._owned:
            place = TopicPartition(*partition)
            try:
                found = self._consumer.committed(place, timeout_ms=CLOSE_MS)
            except KafkaError as error:
                self._ask_again(partition, error)
                self._committer.lose(self._owned)
                return frozenset()
            if found is not None:
                self._begun.pop(partition, None)
                self._consumer.seek(place, found)
            elif partition in self._begun:
                self._begin_at(place, self._begun[partition])
        return frozenset(self._owned)

    def _take_changes(self) -> tuple[frozenset[Partition], frozenset[Partition]]:
        """Everything that changed since the last poll, in effect: revoke first, then assign."""
        before = frozenset(self._owned)
        assigned: set[Partition] = set()
        revoked: set[Partition] = set()
        while self._changes:
            what, partitions = self._changes.popleft()
            if what == "assigned":
                assigned |= partitions
                self._owned |= partitions
            else:
                assigned -= partitions
                revoked |= partitions & before
                self._owned -= partitions
        return frozenset(assigned), frozenset(revoked)

    def _on_assigned(self, partitions: frozenset[Partition]) -> None:
        self._changes.append(("assigned", partitions))

    async def _on_revoked(self, partitions: frozenset[Partition]) -> None:
        self._changes.append(("revoked", partitions))
        await self._committer.hand_over(partitions)
        self._release(partitions)

    def _on_lost(self, partitions: frozenset[Partition]) -> None:
        self._changes.append(("lost", partitions))
        self._committer.lose(partitions)
        self._release(partitions)
        # Else the next join claims them as owned, and the group moves them under their new owner.
        self._assignor.member_assignment = None

    def _release(self, partitions: frozenset[Partition]) -> None:
        for partition in partitions:
            self._begun.pop(partition, None)


class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    def __init__(self, source: KafkaSource) -> None:
        self._source = source

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._source._on_assigned(partitions_of(assigned))  # noqa: SLF001 - its own listener

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        await self._source._on_revoked(partitions_of(revoked))  # noqa: SLF001 - its own listener

    async def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        self._source._on_lost(partitions_of(lost))  # noqa: SLF001 - its own listener
