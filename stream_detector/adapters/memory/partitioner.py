"""Which partition a key belongs to, as Kafka's own clients decide it."""

from __future__ import annotations


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


class Partitioner:
    """By key; without one, in turn over the topic's partitions."""

    def __init__(self) -> None:
        self._hashes: dict[bytes, int] = {}
        self._turn: dict[str, int] = {}

    def number(self, topic: str, key: bytes | None, count: int) -> int:
        if count == 1:
            return 0
        if key is None:
            turn = self._turn[topic] = self._turn.get(topic, -1) + 1
            return turn % count
        hashed = self._hashes.get(key)
        if hashed is None:
            if len(self._hashes) >= 1_000_000:  # a bound for streams with a new key each time
                self._hashes.clear()
            hashed = self._hashes[key] = murmur2(key) & 0x7FFFFFFF
        return hashed % count
