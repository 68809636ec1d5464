"""When a snapshot is due: before a restart would take too long to read records again."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

Place = TypeVar("Place")

FETCH = 10e-6
"""Seconds that fetching one record takes, roughly, beside what is measured."""
MEMORY = 100_000
"""Records that the measured time of one is averaged over."""
REST = 1.5
"""The writer rests for so many times as long as it wrote, which is a sixth of a core at most: less
than half of the time that it writes it computes."""


class Cadence:
    """Estimates the replay that a restart just now would need, all partitions together."""

    def __init__(self, target: float) -> None:
        """`target`: seconds that it may take; half of it lets one snapshot after another be due."""
        self._target = target
        self._records = 0.0
        self._seconds = 0.0
        self._rest = float("-inf")

    def worked(self, records: int, seconds: float) -> None:
        """So many records took this long from their bytes to their verdicts."""
        kept = max(0.0, 1 - records / MEMORY)
        self._records = self._records * kept + records
        self._seconds = self._seconds * kept + seconds

    def wrote(self, began: float, ended: float) -> None:
        """A snapshot was under way between these times of the monotonic clock, s."""
        self._rest = ended + REST * (ended - began)

    def replay(self, records: int) -> float:
        """Seconds to read so many again; 0 while nothing is known of them."""
        if not self._records:
            return 0.0
        return records * (self._seconds / self._records + FETCH)

    def due(self, behind: Mapping[Place, int], now: float) -> Place | None:
        """Whose snapshot is to be taken at `now`; `behind`: records since the last of each."""
        if now < self._rest or self.replay(sum(behind.values())) <= self._target / 2:
            return None
        return max(behind, key=behind.__getitem__)
