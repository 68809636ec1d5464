"""A loop around a source as the service runs it: poll, use, acknowledge, poll again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stream_detector.ports import Position
from stream_detector.records import Partition

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.ports import Polled, Source
    from stream_detector.records import Record


class Reader:
    """Keeps what came, and checks on every poll that it came from an assigned partition."""

    def __init__(self, source: Source, *, acknowledge: bool = True) -> None:
        self.source = source
        self.acknowledging = acknowledge
        self.owned: set[Partition] = set()
        self.polls: list[Polled] = []
        self.records: list[Record] = []

    def poll(self, timeout: float = 0.2, max_records: int = 5000) -> Polled:
        polled = self.source.poll(timeout, max_records)
        self.polls.append(polled)
        assert polled.revoked <= self.owned
        self.owned -= polled.revoked
        assert not polled.assigned & self.owned
        self.owned |= polled.assigned
        for record in polled.records:
            assert Partition(record.topic, record.partition) in self.owned
        self.records += polled.records
        if self.acknowledging:
            self.acknowledge(*polled.records)
        return polled

    def acknowledge(self, *records: Record) -> None:
        self.source.acknowledge(
            {Partition(r.topic, r.partition): Position(r.offset + 1) for r in records}
        )

    @property
    def offsets(self) -> dict[Partition, list[int]]:
        found: dict[Partition, list[int]] = {}
        for record in self.records:
            found.setdefault(Partition(record.topic, record.partition), []).append(record.offset)
        return found

    @property
    def values(self) -> list[bytes | None]:
        return [record.value for record in self.records]


def poll_until(
    done: Callable[[], bool], *readers: Reader, patience: float = 30.0, max_records: int = 5000
) -> None:
    """Poll the readers in turn until it is done; fails with what they have after `patience` s."""
    deadline = time.monotonic() + patience
    while not done():
        state = [(len(reader.records), sorted(reader.owned)) for reader in readers]
        assert time.monotonic() < deadline, f"not done after {patience:g} s: {state}"
        for reader in readers:
            reader.poll(0.05, max_records)
