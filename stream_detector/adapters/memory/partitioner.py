"""Which partition a message goes to, as Kafka's own clients decide it."""

from __future__ import annotations

from stream_detector.core.placement import Hashes, murmur2

__all__ = ["Partitioner", "murmur2"]


class Partitioner:
    """By key; without one, in turn over the topic's partitions."""

    def __init__(self) -> None:
        self._hashes = Hashes()
        self._turn: dict[str, int] = {}

    def number(self, topic: str, key: bytes | None, count: int) -> int:
        if count == 1:
            return 0
        if key is None:
            turn = self._turn[topic] = self._turn.get(topic, -1) + 1
            return turn % count
        return self._hashes[key] % count
