"""How a source commits what was acknowledged: offsets by themselves, or in a transaction.

Called from the loop's thread, `hand_over` on the client's own while the loop waits in a poll.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Protocol

from kafka import errors
from kafka.coordinator.base import MemberState
from kafka.future import Future

from stream_detector.adapters.kafka.client import heals, offsets_of
from stream_detector.adapters.kafka.commits import Commits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kafka import KafkaConsumer

    from stream_detector.adapters.kafka.transactions import Transactions
    from stream_detector.ports import Position
    from stream_detector.records import Partition

log = logging.getLogger(__name__)

CLOSE_MS = 10_000
REBALANCE_S = 2.0
"""How long a transaction waits for a rebalance, that may end any moment with a new generation."""


class Committer(Protocol):
    @property
    def broken(self) -> bool:
        """What was acknowledged cannot be committed any more: go back to the last commit."""

    def renew(self) -> bool:
        """Begin anew at the last commit; False: ask again later."""

    def note(self, positions: Mapping[Partition, Position]) -> None:
        """These positions are acknowledged."""

    def commit_when_due(self) -> None:
        """Raises KafkaError for what does not heal by itself."""

    async def hand_over(self, partitions: Iterable[Partition]) -> None:
        """Commit for partitions that go to another owner."""

    def lose(self, partitions: Iterable[Partition]) -> None:
        """These have another owner already: a commit now would move it back."""

    def done(self) -> dict[Partition, Position]:
        """What is known to be committed."""

    def close(self) -> None:
        """Commit before leaving. Raises KafkaError."""


class OffsetCommitter:
    """Offsets by themselves: whatever they follow from was acknowledged before."""

    broken = False

    def __init__(
        self, consumer: KafkaConsumer, interval: float, clock: Callable[[], float]
    ) -> None:
        self._consumer = consumer
        self._clock = clock
        self._commits = Commits(interval)
        self._fatal: errors.KafkaError | None = None

    def renew(self) -> bool:
        return True

    def note(self, positions: Mapping[Partition, Position]) -> None:
        self._commits.note(positions)

    def commit_when_due(self) -> None:
        if self._fatal is not None:
            raise self._fatal
        positions = self._commits.due(self._clock())
        if positions:
            self._consumer.commit_async(offsets_of(positions), callback=self._committed)

    async def hand_over(self, partitions: Iterable[Partition]) -> None:
        positions = self._commits.forget(partitions)
        if not positions:
            return
        for _ in range(5):
            try:
                answer = await self._consumer.commit_async(offsets_of(positions))
            except errors.KafkaError as error:
                if not heals(error):
                    log.warning("not committed on handing over, will be read again: %s", error)
                    return
            else:
                # The client answers with the coordinator where it had to be looked up first.
                if answer is None:
                    return
        log.warning("not committed on handing over, will be read again: %s", set(positions))

    def lose(self, partitions: Iterable[Partition]) -> None:
        self._commits.forget(partitions)

    def done(self) -> dict[Partition, Position]:
        return self._commits.done()

    def close(self) -> None:
        """A rebalance under way is let finish first, up to 10 s."""
        for attempt in range(50):
            rest = self._commits.rest()
            if not rest:
                return
            try:
                self._consumer.commit(offsets_of(rest), timeout_ms=CLOSE_MS)
            except (errors.RebalanceInProgressError, errors.CommitFailedError):
                if attempt == 49:
                    raise
                self._consumer.pause(*self._consumer.assignment())
                self._consumer.poll(timeout_ms=200)
            else:
                self._commits.forget(rest)
                return

    def _committed(self, _: Any, answer: object) -> None:
        failed = isinstance(answer, Exception)
        self._commits.finished(success=not failed)
        if isinstance(answer, errors.KafkaError) and not heals(answer):
            self._fatal = answer
        elif failed:
            log.info("the commit will be tried again: %s", answer)


class TransactionCommitter:
    """Offsets together with what was sent to `transactions`, of all partitions at once."""

    def __init__(
        self,
        consumer: KafkaConsumer,
        transactions: Transactions,
        interval: float,
        clock: Callable[[], float],
    ) -> None:
        self._consumer = consumer
        self._transactions = transactions
        self._interval = interval
        self._clock = clock
        self._next = float("-inf")
        self._commits = Commits(0.0)
        self._fatal: Exception | None = None

    @property
    def broken(self) -> bool:
        return self._transactions.broken

    def renew(self) -> bool:
        self._raise_fatal()
        self._commits.forget(self._commits.rest())
        return self._transactions.renew()

    def note(self, positions: Mapping[Partition, Position]) -> None:
        if not self.broken:
            self._commits.note(positions)
            self._transactions.cover()

    def commit_when_due(self) -> None:
        self._raise_fatal()
        now = self._clock()
        if self.broken or now < self._next:
            return
        member = self._consumer.group_metadata()
        # A commit that meets the end of a rebalance has the wrong generation, and is aborted.
        if member.state is MemberState.REBALANCING and now < self._next + REBALANCE_S:
            return
        self._next = now + self._interval
        self._commit()

    async def hand_over(self, partitions: Iterable[Partition]) -> None:
        # On another thread: this one sends the heartbeats.
        await _elsewhere(self._consumer, self._commit_quietly)
        self._commits.forget(partitions)

    def lose(self, partitions: Iterable[Partition]) -> None:
        # What followed from their records is in the same transaction as all the rest.
        self._transactions.broken = True
        self._commits.forget(partitions)

    def done(self) -> dict[Partition, Position]:
        return self._commits.done()

    def close(self) -> None:
        if not self.broken:
            self._commit()

    def _commit(self) -> None:
        positions = self._commits.rest()
        if not positions and not self._transactions.unseen:
            return
        member = self._consumer.group_metadata()
        if member.generation_id < 0:  # thrown out; the broker takes such a commit from anybody
            self._transactions.broken = True
        elif self._transactions.commit(offsets_of(positions), member):
            self._commits.store(positions)

    def _commit_quietly(self) -> None:
        """An exception would be lost on the client's thread: the next poll raises it."""
        try:
            self._commit()
        except Exception as error:  # noqa: BLE001  # raised by the next poll
            self._fatal = error

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise self._fatal


async def _elsewhere(consumer: KafkaConsumer, work: Callable[[], None]) -> None:
    """Wait for blocking work without blocking the client's event loop."""
    done = Future()
    loop = consumer._net  # noqa: SLF001 - nothing public wakes a loop up

    def run() -> None:
        try:
            work()
        finally:
            loop.call_soon_threadsafe(lambda: done.success(None))

    threading.Thread(target=run, name="hand over", daemon=True).start()
    await done
