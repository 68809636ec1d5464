"""Consumer groups of the broker in memory: who owns which partition, and where each goes on.

Partitions move as with Kafka's cooperative rebalancing: the old owner commits and lets go inside
its next poll, the new owner takes over inside its own next poll after that.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from stream_detector.ports import BEGUN, Polled, Position, SinkError, SourceError, Start
from stream_detector.records import Partition, Record

if TYPE_CHECKING:
    import threading
    from collections.abc import Collection, Iterable, Mapping

    from stream_detector.adapters.memory.transactions import MemoryTransactions

Entry = tuple[bytes | None, bytes | None, int]
"""Key, value and timestamp in ms. A plain tuple: the garbage collector need not visit millions."""


class Logs(Protocol):
    """What a source needs of the broker."""

    changed: threading.Condition

    def logs(self, topic: str) -> list[list[Entry]]: ...

    def oldest(self, partition: Partition) -> int: ...


class Group:
    """Members and committed positions. Guarded by the broker's condition."""

    def __init__(self) -> None:
        self.committed: dict[Partition, Position] = {}
        self.members: list[MemorySource] = []
        self.owner: dict[Partition, MemorySource] = {}
        self.target: dict[Partition, MemorySource] = {}

    def join(self, member: MemorySource, partitions: Iterable[Partition]) -> None:
        self.members.append(member)
        self._share(set(self.target) | set(partitions))

    def grow(self, partitions: Iterable[Partition]) -> None:
        """Partitions were added: all that is in them came later, so they are read from 0 on."""
        new = [part for part in partitions if any(part.topic in m.topics for m in self.members)]
        for partition in new:
            self.committed.setdefault(partition, Position(0, BEGUN))
        self._share(set(self.target) | set(new))

    def leave(self, member: MemorySource) -> None:
        self.members.remove(member)
        for partition in [p for p, owner in self.owner.items() if owner is member]:
            del self.owner[partition]
        self._share(set(self.target))

    def _share(self, partitions: set[Partition]) -> None:
        """Decide whom each partition should belong to: evenly, moving as few as possible."""
        share: dict[MemorySource, list[Partition]] = {member: [] for member in self.members}
        for partition in sorted(partitions):
            takers = [member for member in self.members if partition.topic in member.topics]
            owner = self.owner.get(partition)
            if owner in share:
                share[owner].append(partition)
            elif takers:
                share[min(takers, key=lambda m: len(share[m]))].append(partition)
        while self.members:
            rich = max(self.members, key=lambda m: len(share[m]))
            poor = min(self.members, key=lambda m: len(share[m]))
            movable = [p for p in share[rich] if p.topic in poor.topics]
            if len(share[rich]) - len(share[poor]) < 2 or not movable:
                break
            share[rich].remove(movable[-1])
            share[poor].append(movable[-1])
        self.target = {p: member for member, owned in share.items() for p in owned}


class MemorySource:
    """ports.Rewindable: a member of a group. Commits at its next poll, when handing over, on close.

    Joins with its first poll. Where the group has no position it begins at `start`, earliest or
    latest, and commits that.
    """

    def __init__(
        self,
        broker: Logs,
        group: Group,
        topics: tuple[str, ...],
        start: str,
        *,
        finite: bool,
        transactions: MemoryTransactions | None = None,
    ) -> None:
        self.topics = topics
        self._broker = broker
        self._group = group
        self._start = start
        self._finite = finite
        self._transactions = transactions
        self._joined = False
        self._closed = False
        self._next: dict[Partition, int] = {}
        self._acknowledged: dict[Partition, Position] = {}

    def poll(self, timeout: float, max_records: int) -> Polled:
        deadline = time.monotonic() + timeout
        changed = self._broker.changed
        with changed:
            if self._closed:
                raise SourceError("this source is closed")
            committed = self._commit()
            if not self._joined:
                self._joined = True
                numbers = [(t, len(self._broker.logs(t))) for t in self.topics]
                self._group.join(
                    self, [Partition(t, n) for t, count in numbers for n in range(count)]
                )
                changed.notify_all()
            again = frozenset() if committed else self._start_over()
            while True:
                revoked = again | self._let_go()
                assigned = (again & self._next.keys()) | self._take_over()
                records = self._read(max_records)
                finished = self._finite and not records
                left = deadline - time.monotonic()
                if records or assigned or revoked or finished or left <= 0:
                    return Polled(records, assigned, revoked, finished)
                changed.wait(left)

    def acknowledge(self, positions: Mapping[Partition, Position]) -> None:
        self._acknowledged.update({p: at for p, at in positions.items() if p in self._next})
        if self._transactions is not None:
            self._transactions.cover()

    def partitions(self) -> Mapping[str, int]:
        with self._broker.changed:
            return {topic: len(self._broker.logs(topic)) for topic in self.topics}

    def drained(self, partitions: Collection[Partition]) -> frozenset[Partition]:
        lag = self.lag()
        return frozenset(part for part in partitions if lag.get(part) == 0)

    def unassigned(self) -> frozenset[Partition]:
        return frozenset()  # whoever joins or leaves, the group shares out all of them at once

    def lag(self) -> Mapping[Partition, int]:
        with self._broker.changed:
            return {p: len(self._log(p)) - at for p, at in self._next.items()}

    def start(self, partition: Partition) -> Start | None:
        with self._broker.changed:
            offset, metadata = self._group.committed[partition]
            return Start(offset, None if metadata == BEGUN else metadata)

    def rewind(self, partition: Partition, offset: int) -> int | None:
        with self._broker.changed:
            self._next[partition] = max(offset, self._broker.oldest(partition))
            return self._next[partition]

    def at(self, partition: Partition) -> int:
        return self._next[partition]

    def committed(self) -> Mapping[Partition, Position]:
        with self._broker.changed:
            return {p: self._group.committed[p] for p in self._next}

    def close(self) -> None:
        with self._broker.changed:
            if not self._closed:
                with suppress(SinkError):  # the last transaction is aborted
                    self._commit()
                self.crash()

    def crash(self) -> None:
        """End as a killed process does: nothing more is committed, the partitions are free."""
        with self._broker.changed:
            self._closed = True
            self._next.clear()
            if self._joined:
                self._joined = False
                self._group.leave(self)
                self._broker.changed.notify_all()

    def _log(self, partition: Partition) -> list[Entry]:
        return self._broker.logs(partition.topic)[partition.number]

    def _commit(self) -> bool:
        """False where the transaction was aborted instead."""
        if self._transactions is not None and not self._transactions.commit(self._store):
            return False
        self._store()
        return True

    def _store(self) -> None:
        self._group.committed.update(self._acknowledged)
        self._acknowledged.clear()

    def _start_over(self) -> frozenset[Partition]:
        """Back to the last commit, with all partitions."""
        assert self._transactions is not None  # else no commit fails
        self._transactions.renew()
        self._acknowledged.clear()
        for partition in self._next:
            self._next[partition] = self._group.committed[partition].offset
        return frozenset(self._next)

    def _let_go(self) -> frozenset[Partition]:
        target = self._group.target
        revoked = frozenset(p for p in self._next if target.get(p) is not self)
        for partition in revoked:
            del self._next[partition]
            del self._group.owner[partition]
        if revoked:
            self._broker.changed.notify_all()
        return revoked

    def _take_over(self) -> frozenset[Partition]:
        owner = self._group.owner
        mine = [p for p, m in self._group.target.items() if m is self and p not in owner]
        for partition in mine:
            owner[partition] = self
            position = self._group.committed.get(partition)
            if position is None:
                offset = 0 if self._start == "earliest" else len(self._log(partition))
                position = self._group.committed[partition] = Position(offset, BEGUN)
            self._next[partition] = position.offset
        return frozenset(mine)

    def _read(self, max_records: int) -> list[Record]:
        """The next records; partitions take turns at being first."""
        records: list[Record] = []
        for partition in list(self._next):
            at = max(self._next.pop(partition), self._broker.oldest(partition))
            found = self._log(partition)[at : at + max_records - len(records)]
            self._next[partition] = at + len(found)
            topic, number = partition
            records += [
                Record(topic, number, offset, timestamp, key, value)
                for offset, (key, value, timestamp) in enumerate(found, at)
            ]
            if len(records) >= max_records:
                break
        return records
