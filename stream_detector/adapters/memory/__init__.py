"""A message broker in memory with Kafka's semantics, for the demo and for tests."""

from __future__ import annotations

from stream_detector.adapters.memory.broker import MemoryBroker, MemorySink
from stream_detector.adapters.memory.group import MemorySource
from stream_detector.adapters.memory.partitioner import murmur2
from stream_detector.adapters.memory.snapshots import MemorySnapshots
from stream_detector.adapters.memory.transactions import MemoryTransactions

__all__ = [
    "MemoryBroker",
    "MemorySink",
    "MemorySnapshots",
    "MemorySource",
    "MemoryTransactions",
    "murmur2",
]
