"""Reads a topic of a real broker."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from kafka import KafkaConsumer, TopicPartition

from stream_detector.records import Message

if TYPE_CHECKING:
    from collections.abc import Sequence


def settled(servers: Sequence[str], topic: str, seconds: float = 60.0) -> bool:
    """Wait until no transaction is open in a topic; False where one still is.

    What a killed producer left open hides everything behind it from readers of committed messages,
    until another one of its id comes or the broker gives it up.
    """
    deadline = time.monotonic() + seconds
    with ExitStack() as stack:
        ends = []
        for level in ("read_committed", "read_uncommitted"):
            consumer = KafkaConsumer(bootstrap_servers=list(servers), isolation_level=level)
            stack.callback(consumer.close)
            ends.append(consumer.end_offsets)
            places = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
        while ends[0](places) != ends[1](places):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
    return True


def read_all(servers: Sequence[str], topic: str, isolation_level: str) -> list[Message]:
    """Everything in a topic, partition by partition, but for what the isolation level hides."""
    consumer = KafkaConsumer(
        bootstrap_servers=list(servers),
        auto_offset_reset="earliest",
        isolation_level=isolation_level,
        fetch_max_wait_ms=50,
    )
    try:
        places = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        found = []
        while any(consumer.position(place) < ends[place] for place in places):
            for batch in consumer.poll(timeout_ms=100).values():
                found += batch
    finally:
        consumer.close()
    found.sort(key=lambda r: (r.partition, r.offset))
    return [Message(r.topic, r.key, r.value, tuple(r.headers), r.timestamp) for r in found]
