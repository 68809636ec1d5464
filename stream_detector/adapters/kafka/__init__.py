"""Apache Kafka as a source, a sink and a thing to check. kafka-python is known in here only."""

from __future__ import annotations

from stream_detector.adapters.kafka.admin import TopicInfo, committed, create_topics, topics
from stream_detector.adapters.kafka.sink import KafkaSink
from stream_detector.adapters.kafka.source import KafkaSource
from stream_detector.adapters.kafka.transactions import Transactions

__all__ = [
    "KafkaSink",
    "KafkaSource",
    "TopicInfo",
    "Transactions",
    "committed",
    "create_topics",
    "topics",
]
