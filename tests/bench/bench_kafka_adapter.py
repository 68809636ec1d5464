"""How fast records of about 100 bytes go through the broker adapters.

    python -m tests.bench.bench_kafka_adapter [--records 200000] [--memory-only]

Prints one JSON object. Needs a broker as the Kafka tests do; every record is checked off.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
import uuid
from typing import TYPE_CHECKING

from stream_detector import config
from stream_detector.adapters.kafka import KafkaSink, KafkaSource, create_topics
from stream_detector.adapters.memory import MemoryBroker
from stream_detector.ports import Position
from stream_detector.records import Message, Partition
from tests.kafka.broker import broker

if TYPE_CHECKING:
    from stream_detector.ports import Source

PARTITIONS = 4


def payload(number: int) -> tuple[bytes, bytes]:
    series = f"plant-3/pump-{number % 500}"
    value = {"temp": number % 97 / 7, "vib": number % 89 / 1000}
    sample = {"series": series, "timestamp": 1_764_201_600_000 + number, "values": value}
    return series.encode(), json.dumps(sample).encode()


def consume(source: Source, count: int) -> float:
    """Seconds from the first record to the last, acknowledged as the service does it."""
    began = None
    ends: dict[Partition, int] = {}
    seen = 0
    while seen < count:
        polled = source.poll(0.5, 5000)
        if polled.records and began is None:
            began = time.perf_counter()
            first = len(polled.records)
        for record in polled.records:
            part = Partition(record.topic, record.partition)
            assert ends.get(part, 0) == record.offset, "a record is missing or came twice"
            ends[part] = record.offset + 1
        seen += len(polled.records)
        source.acknowledge({part: Position(offset) for part, offset in ends.items()})
    assert began is not None
    assert sum(ends.values()) == count
    return (time.perf_counter() - began) * count / max(1, count - first)


def on_kafka(count: int) -> dict[str, float]:
    messages = [payload(number) for number in range(count)]
    with broker() as servers, contextlib.ExitStack() as stack:
        kafka = config.Kafka(bootstrap_servers=servers, group_id=uuid.uuid4().hex)
        topic = f"bench-{uuid.uuid4().hex}"
        create_topics(kafka, {topic: PARTITIONS})
        sink = KafkaSink(kafka, config.Output(topic=topic, dead_letter_topic="unused"))
        stack.callback(sink.close)
        began = time.perf_counter()
        for key, value in messages:
            sink.send(Message(topic, key, value))
        sink.flush()
        produced = time.perf_counter() - began

        waits = []
        for key, value in messages[:200]:
            began = time.perf_counter()
            sink.send(Message(topic, key, value))
            sink.flush()
            waits.append(time.perf_counter() - began)

        source = KafkaSource(kafka, [topic], "earliest")
        stack.callback(source.close)
        consumed = consume(source, count + len(waits))
    waits.sort()
    return {
        "kafka_produce_per_s": round(count / produced),
        "kafka_consume_per_s": round((count + len(waits)) / consumed),
        "kafka_send_flush_p50_ms": round(waits[len(waits) // 2] * 1000, 2),
        "kafka_send_flush_p99_ms": round(waits[len(waits) * 99 // 100] * 1000, 2),
    }


def in_memory(count: int) -> dict[str, float]:
    entries = [(*payload(number), number) for number in range(count)]
    memory = MemoryBroker(PARTITIONS)
    source = memory.source(["t"], "g", start="earliest")
    source.poll(0, 1)
    spent = 0.0
    seen = 0
    for at in range(0, count, 5000):
        began = time.perf_counter()
        memory.append_many("t", entries[at : at + 5000])
        polled = source.poll(0, 5000)
        spent += time.perf_counter() - began
        seen += len(polled.records)
    assert seen == count
    return {"memory_append_and_poll_per_s": round(count / spent)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--memory-only", action="store_true")
    chosen = parser.parse_args()
    bytes_each = len(payload(12345)[1])
    results: dict[str, float] = in_memory(chosen.records)
    if not chosen.memory_only:
        results |= on_kafka(chosen.records)
    load = os.getloadavg()[0]
    print(json.dumps({"records": chosen.records, "bytes": bytes_each, "load": load, **results}))


if __name__ == "__main__":
    main()
