"""Partitions that no member of the group has, told from outside: inside nobody may be looking.

A group's leader watches the topics. One that restarts under its `group_instance_id` comes back as a
follower, and then the group has nobody who does: partitions that are added, or that the leader left
out before it had heard of them, would stay unread, while every member looks healthy.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from stream_detector.adapters.kafka.admin import unassigned
from stream_detector.ports import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector import config
    from stream_detector.records import Partition

log = logging.getLogger(__name__)

EVERY_S = 30.0
"""Between two looks. A partition that moves is nobody's for a moment; only what two looks in a row
find is told."""


class Unassigned:
    """Looks now and then on a thread of its own, from the first question on."""

    def __init__(self, kafka: config.Kafka, topics: Sequence[str], every: float = EVERY_S) -> None:
        self._kafka = kafka
        self._topics = topics
        self._every = every
        self._lasting: frozenset[Partition] = frozenset()
        self._fresh = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def lasting(self) -> frozenset[Partition]:
        """What the last two looks found."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="unassigned", daemon=True)
            self._thread.start()
        return self._lasting

    def news(self) -> frozenset[Partition]:
        """The same, once; while it lasts, again after every other look."""
        found = self.lasting()
        if not self._fresh:
            return frozenset()
        self._fresh = False
        return found

    def close(self) -> None:
        """Without waiting for the look that may be under way."""
        self._stop.set()

    def _watch(self) -> None:
        before: frozenset[Partition] = frozenset()
        told = False
        while not self._stop.wait(self._every):
            try:
                now = unassigned(self._kafka, self._topics)
            except SourceError as error:  # whoever reads says what is wrong
                log.info("whether partitions are nobody's could not be asked: %s", error)
                now = frozenset()
            self._lasting, before = now & before, now
            told = bool(self._lasting) and not told  # else the group is at work on it
            self._fresh = told
