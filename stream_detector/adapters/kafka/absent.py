"""Topics that are to be read and are not there: waited for for a while, then an error."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from kafka.errors import KafkaError, UnknownTopicOrPartitionError

from stream_detector.ports import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream_detector import config

log = logging.getLogger(__name__)

CHECK_S = 5.0
"""Between two looks."""


class Absent:
    """What the consumer's brokers know of the topics."""

    def __init__(
        self,
        kafka: config.Kafka,
        topics: Sequence[str],
        consumer: Any,
        after: float,  # s
        clock: Callable[[], float],
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._consumer = consumer
        self._after = after
        self._clock = clock
        self._since: float | None = None
        self._next = clock()

    def check(self) -> None:
        """Raises SourceError where one of them has been absent for too long."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + CHECK_S
        try:
            missing = [topic for topic in self._topics if self._absent(topic)]
        except KafkaError as error:
            log.warning("the topics could not be looked up: %s", error)
            return
        if not missing:
            self._since = None
            return
        self._since = now if self._since is None else self._since
        if now - self._since >= self._after:
            place = ",".join(self._kafka.bootstrap_servers)
            raise SourceError(
                f"Kafka at {place}: no topic {', '.join(map(repr, missing))}, or no right to see "
                "it; correct input.topics or create it (stream-detector check --create-topics)"
            )
        log.warning("waiting for topics that do not exist yet: %s", ", ".join(missing))

    def _absent(self, topic: str) -> bool:
        try:
            return not self._consumer.partitions_for_topic(topic)
        except UnknownTopicOrPartitionError:
            return True
