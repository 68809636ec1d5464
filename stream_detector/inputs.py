"""What is odd about the input topics themselves: keys, and the number of partitions.

Told in the log, at most once a minute each; counted by the telemetry.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from stream_detector.core.placement import Placement
from stream_detector.ports import Odd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector.ports import Source
    from stream_detector.records import Record

_log = logging.getLogger(__name__)

LOOK_EVERY = 1.0  # s
TELL_EVERY = 60.0  # s
_REKEY = "`stream-detector rekey` makes a topic in which each series lies in one partition"


class Inputs:
    def __init__(self) -> None:
        self._placement = Placement()
        self._partitions: dict[str, int] = {}
        self._next_look = float("-inf")
        self._next_told: dict[str, float] = {}
        self._untold: dict[str, Counter[str]] = {"unkeyed": Counter(), "misplaced": Counter()}

    def look(self, records: Sequence[Record], source: Source, now: float) -> Odd:
        """What is odd about these records and their topics; `now` in seconds, monotonic."""
        repartitioned: dict[str, int] = {}
        if now >= self._next_look:
            self._next_look = now + LOOK_EVERY
            repartitioned = self._count_partitions(source)
        found = self._placement.check(records, self._partitions)
        unkeyed, misplaced = self._untold["unkeyed"], self._untold["misplaced"]
        if found.unkeyed:
            unkeyed.update(found.unkeyed)
        if found.misplaced:
            misplaced.update(found.misplaced)
        if unkeyed and self._may_tell("unkeyed", now):
            _log.warning("records without a key: %s; %s", _counts(unkeyed), _REKEY)
            unkeyed.clear()
        if misplaced and self._may_tell("misplaced", now):
            example = found.example
            _log.warning(
                "records in another partition than Kafka's default partitioner gives their key: "
                "%s%s; if two producers write by different rules, or partitions were added, a "
                "series lies in several; %s",
                _counts(misplaced),
                "" if example is None else f", e.g. key {example.key!r:.60} in {example.partition}",
                _REKEY,
            )
            misplaced.clear()
        return Odd(found.unkeyed, found.misplaced, repartitioned)

    def _count_partitions(self, source: Source) -> dict[str, int]:
        """Topic -> its partitions, of those that have another number than before."""
        found = {}
        for topic, count in source.partitions().items():
            before = self._partitions.get(topic, count)
            if count != before:
                found[topic] = count
                _log.error(
                    "topic %s has %d partitions now, it had %d: keys move to other partitions, and "
                    "series that moved are learnt anew there; what they left behind falls silent",
                    topic,
                    count,
                    before,
                )
            self._partitions[topic] = count
        return found

    def _may_tell(self, what: str, now: float) -> bool:
        if now < self._next_told.get(what, now):
            return False
        self._next_told[what] = now + TELL_EVERY
        return True


def _counts(of: Counter[str]) -> str:
    return ", ".join(f"{count:,} of {topic}" for topic, count in sorted(of.items()))
