"""Transactions of the broker in memory: messages that appear together with a group's positions.

What a reader of committed messages would not see yet is not in the topic yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from stream_detector.ports import Ended, SinkError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from stream_detector.records import Message, Record


class Topics(Protocol):
    """What transactions need of the broker."""

    changed: threading.Condition

    def begin(self, transactional_id: str) -> int: ...

    def epoch(self, transactional_id: str) -> int: ...

    def refusal(self, message: Message) -> str | None: ...

    def append(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        *,
        timestamp: int | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> Record: ...


class MemoryTransactions:
    """ports.Sink in a transaction; a MemorySource commits it.

    A message that is refused aborts the transaction, and so does `expire`.
    """

    def __init__(self, broker: Topics, transactional_id: str) -> None:
        self._broker = broker
        self._id = transactional_id
        self._epoch = broker.begin(transactional_id)
        self._messages: list[Message] = []
        self._ended: list[Ended] = []
        self._covered = True
        self.broken = False
        """Nothing can be committed before `renew`."""

    @property
    def unseen(self) -> bool:
        return bool(self._messages) or self.broken

    def ended(self) -> Sequence[Ended]:
        found, self._ended = self._ended, []
        return found

    def send(self, message: Message) -> None:
        """Raises SinkError where another one has taken over the id."""
        self._check_epoch()
        self._covered = False
        if self._broker.refusal(message) is not None:
            self.broken = True
        if not self.broken:
            self._messages.append(message)

    def flush(self) -> None:
        pass

    def cover(self) -> None:
        """The positions that the source was told belong to all that was sent."""
        self._covered = True

    def commit(self, positions: Callable[[], None]) -> bool:
        """Let the messages appear and store the positions, both or, where False, none.

        Raises SinkError as `send` does.
        """
        with self._broker.changed:
            self._check_epoch()
            if self.broken or not self._covered:
                self.broken = True
                return False
            for message in self._messages:
                self._broker.append(
                    message.topic,
                    message.value,
                    message.key,
                    timestamp=message.timestamp,
                    headers=message.headers,
                )
            if self._messages:
                self._ended.append(Ended("committed", 0.0))
            self._messages.clear()
            positions()
            return True

    def expire(self) -> None:
        """Abort the transaction, as the broker does with one that takes too long."""
        self.broken = True

    def renew(self) -> None:
        """Begin anew after an abort."""
        self._ended.append(Ended("aborted", 0.0))
        self._messages.clear()
        self._covered = True
        self.broken = False

    def close(self) -> None:
        self._messages.clear()

    def _check_epoch(self) -> None:
        if self._broker.epoch(self._id) != self._epoch:
            raise SinkError(f"another worker uses the transactional id {self._id}")
