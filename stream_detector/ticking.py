"""Time for partitions in which nothing happens: ticks, the loop's own inputs beside records.

A partition's clock moves with its samples alone, so a partition that falls silent as a whole would
never find out. While its source vouches that nothing is left to read, the loop moves its clock by
the wall time that passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stream_detector.records import Partition

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stream_detector.core.engine import Engine
    from stream_detector.ports import Source
    from stream_detector.records import AnomalyEvent, Record

KEPT = 64
"""Ticks of a partition at different offsets that are remembered at most."""
MANY = 48
"""From so many on a snapshot should be taken soon: it makes their list shorter."""


class Tick(NamedTuple):
    offset: int  # the next one to read: records below it came before the tick
    time: int  # ms UTC of the samples, what the partition's clock reached by it


class Ticks:
    """When each partition was heard of, and the ticks that it had since.

    A restart that replays records from an offset on gives the engine the same ticks at the same
    offsets, of each offset the last: the ones before it change nothing more.
    """

    def __init__(self, every: float | None) -> None:
        """`every` in seconds; None: never."""
        self._every = every
        self._next: dict[Partition, int] = {}  # offset
        self._since: dict[Partition, float] = {}  # time passed for it up to here, s
        self._made: dict[Partition, list[Tick]] = {}

    def of(self, partition: Partition) -> list[Tick]:
        """Those that are kept, oldest first, one for each offset; for the commit's metadata."""
        return list(self._made.get(partition, ()))

    def forget(self, partition: Partition, below: int) -> None:
        """Nobody will replay from below this offset any more."""
        made = self._made.get(partition, [])
        self._made[partition] = [tick for tick in made if tick.offset >= below]

    def resume(self, partition: Partition, offset: int, made: Iterable[Tick], now: float) -> None:
        """A partition was restored up to an offset, with these ticks on the way."""
        self._next[partition], self._since[partition] = offset, now
        self._made[partition] = list(made)[-KEPT:]

    def drop(self, partition: Partition) -> None:
        """Somebody else owns it now."""
        self._next.pop(partition, None)
        self._since.pop(partition, None)
        self._made.pop(partition, None)

    def run(
        self, records: Sequence[Record], source: Source, engine: Engine, now: float
    ) -> tuple[list[AnomalyEvent], dict[Partition, Tick]]:
        """Give ticks to the partitions that are due for one: what they had to say, and the ticks.

        Call it when the engine has taken in the records. Time during which the source could not
        vouch that a partition is read to its end passes for nobody.
        """
        if self._every is None:
            return [], {}
        newest = {record[:2]: record.offset for record in records}
        for place, offset in newest.items():
            partition = Partition(*place)
            self._next[partition] = offset + 1
            self._since[partition] = now
        due = [part for part, since in self._since.items() if now - since >= self._every]
        if not due:
            return [], {}
        drained = source.drained(due)
        events: list[AnomalyEvent] = []
        made: dict[Partition, Tick] = {}
        for partition in due:
            passed = int((now - self._since[partition]) * 1000)
            reached = engine.reached(partition)
            if partition not in drained or reached is None:
                self._since[partition] = now
                continue
            self._since[partition] += passed / 1000
            tick = made[partition] = Tick(self._next[partition], reached + passed)
            events += engine.tick(partition, tick.time)
            self._note(partition, tick)
        return events, made

    def _note(self, partition: Partition, tick: Tick) -> None:
        made = self._made.setdefault(partition, [])
        if made and made[-1].offset == tick.offset:
            made.pop()
        made.append(tick)
        del made[:-KEPT]
