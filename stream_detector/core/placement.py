"""Which partition a key belongs to, as Kafka's own clients decide it, and which records lie wrong.

The samples of one series must lie in one partition, in order; a key that its producer would have
put elsewhere tells that somebody writes with another rule.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stream_detector.records import Record

_KNOWN = 1_000_000
"""Keys whose hash is kept; a bound for streams with a new key each time."""


def murmur2(data: bytes) -> int:
    """32 bits, unsigned.

    MurmurHash2 by Austin Appleby with the seed of org.apache.kafka.common.utils.Utils.murmur2.
    """
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    state = 0x9747B28C ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * multiplier & mask
        word = (word ^ word >> 24) * multiplier & mask
        state = (state * multiplier & mask) ^ word
    if whole < length:
        state = (state ^ int.from_bytes(data[whole:], "little")) * multiplier & mask
    state = (state ^ state >> 13) * multiplier & mask
    return state ^ state >> 15


class Hashes(dict[bytes, int]):
    """Key -> the number whose remainder by the count of partitions is the key's partition."""

    def __missing__(self, key: bytes) -> int:
        if len(self) >= _KNOWN:
            self.clear()
        hashed = self[key] = murmur2(key) & 0x7FFFFFFF
        return hashed


@dataclass(slots=True)
class Misplaced:
    """Of some records: how many have no key, and how many lie where their key does not belong."""

    unkeyed: Counter[str] = field(default_factory=Counter)  # topic -> records
    misplaced: Counter[str] = field(default_factory=Counter)  # topic -> records
    example: Record | None = None  # one of the misplaced


class Placement:
    """Checks records against the default partitioner; remembers hashes of keys."""

    def __init__(self) -> None:
        self._hashes = Hashes()

    def check(self, records: Iterable[Record], partitions: Mapping[str, int]) -> Misplaced:
        """`partitions`: topic -> how many it has; topics that are absent or have one are left out.

        A record without a key is no fault in a topic of one partition, where order is kept.
        """
        result = Misplaced()
        hashes = self._hashes
        topic, count = None, 1
        for record in records:
            if record[0] != topic:
                topic = record[0]
                count = partitions.get(topic, 1)
            if count == 1:
                continue
            key = record[4]
            if key is None:
                result.unkeyed[topic] += 1
            elif hashes[key] % count != record[1]:
                result.misplaced[topic] += 1
                result.example = record
        return result
