"""Which acknowledged positions are still to be committed, and when. Pure: time is an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stream_detector.ports import Position
    from stream_detector.records import Partition


class Commits:
    """Coalesces acknowledgements; at most one commit is under way. Not thread-safe."""

    def __init__(self, interval: float) -> None:
        self._interval = interval  # s between two commits
        self._next = float("-inf")
        self._open: dict[Partition, Position] = {}
        self._sent: dict[Partition, Position] = {}
        self._done: dict[Partition, Position] = {}
        self._under_way = False

    def note(self, positions: Mapping[Partition, Position]) -> None:
        """These positions are acknowledged."""
        for partition, position in positions.items():
            if self._sent.get(partition, self._done.get(partition)) != position:
                self._open[partition] = position

    def due(self, now: float) -> dict[Partition, Position]:
        """What to commit at `now`; empty when nothing is, or one commit is still under way.

        Whoever takes a commit reports its end with `finished`.
        """
        if self._under_way or not self._open or now < self._next:
            return {}
        self._sent, self._open = self._open, {}
        self._under_way = True
        self._next = now + self._interval
        return dict(self._sent)

    def finished(self, *, success: bool) -> None:
        """The commit under way ended. One that failed is tried again when the next is due."""
        if success:
            self._done |= self._sent
        else:
            self._open = self._sent | self._open
        self._sent = {}
        self._under_way = False

    def store(self, positions: Mapping[Partition, Position]) -> None:
        """These were committed by other means."""
        self._done |= positions
        for partition, position in positions.items():
            if self._open.get(partition) == position:
                del self._open[partition]

    def rest(self) -> dict[Partition, Position]:
        """All that is acknowledged and not known to be committed."""
        return self._sent | self._open

    def done(self) -> dict[Partition, Position]:
        """What is known to be committed."""
        return dict(self._done)

    def forget(self, partitions: Iterable[Partition]) -> dict[Partition, Position]:
        """Remove partitions that go to another owner; returns what is uncommitted of them."""
        uncommitted = {}
        for partition in partitions:
            position = self._open.pop(partition, None)
            sent = self._sent.pop(partition, None)
            self._done.pop(partition, None)
            if (newest := position or sent) is not None:
                uncommitted[partition] = newest
        return uncommitted
