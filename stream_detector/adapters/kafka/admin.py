"""Topics and the group as the brokers know them."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError

from stream_detector.adapters.kafka.client import BOOTSTRAP_MS, explain, heals, options
from stream_detector.ports import Position, SourceError
from stream_detector.records import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stream_detector import config


log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class TopicInfo(NamedTuple):
    partitions: int
    cleanup_policy: str  # delete, compact, or both with a comma
    max_message_bytes: int
    retention_ms: int = -1  # -1: records are kept for good


def topics(kafka: config.Kafka, names: Sequence[str]) -> dict[str, TopicInfo]:
    """What is known of those of the topics that exist. Raises SourceError."""
    return _ask(kafka, lambda admin: _topics(admin, names))


def _topics(admin: Any, names: Sequence[str]) -> dict[str, TopicInfo]:
    found = {
        topic["name"]: len(topic["partitions"])
        for topic in admin.describe_topics(list(names))
        if not topic["error_code"]
    }
    if not found:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in found]
    described = admin.describe_configs(resources, config_filter="all")["topic"]
    return {
        name: TopicInfo(
            partitions,
            described[name]["cleanup.policy"]["value"],
            int(described[name]["max.message.bytes"]["value"]),
            int(described[name]["retention.ms"]["value"]),
        )
        for name, partitions in found.items()
    }


def create_topics(
    kafka: config.Kafka,
    partitions: Mapping[str, int],
    *,
    replication: int = -1,
    settings: Mapping[str, str] | None = None,
) -> list[str]:
    """Create the topics that do not exist; returns their names once they can be used.

    `partitions` is topic -> number of partitions. A replication of -1 takes the brokers' default.
    Raises SourceError.
    """
    created: list[str] = []

    def create(admin: Any) -> None:
        for name, count in partitions.items():
            wanted = {
                "num_partitions": count,
                "replication_factor": replication,
                "configs": dict(settings or {}),
            }
            with contextlib.suppress(TopicAlreadyExistsError):
                admin.create_topics({name: wanted})
                created.append(name)
        if created:
            admin.wait_for_topics(created)

    _ask(kafka, create)
    return created


def committed(kafka: config.Kafka) -> dict[Partition, Position]:
    """What the consumer group has committed, of all topics. Raises SourceError."""
    # The coordinator of a cluster's first group takes a while to be there.
    found = _ask(kafka, lambda admin: admin.list_group_offsets(kafka.group_id)[kafka.group_id])
    return {
        Partition(place.topic, place.partition): Position(at.offset, at.metadata or "")
        for place, at in found.items()
        if at.offset >= 0
    }


def unassigned(kafka: config.Kafka, names: Sequence[str]) -> frozenset[Partition]:
    """Partitions of the topics that no member of the group has; none while it shares them out.

    Asks once. Raises SourceError.
    """
    return _ask(kafka, lambda admin: _unassigned(admin, kafka.group_id, names), patience=0.0)


def _unassigned(admin: Any, group_id: str, names: Sequence[str]) -> frozenset[Partition]:
    group = admin.describe_groups([group_id])[group_id]
    if group["error"]:  # no right to ask, or no such group yet
        raise SourceError(f"group {group_id}: {group['error']}")
    if group["group_state"] != "Stable":
        return frozenset()
    taken = {
        Partition(part["topic"], number)
        for member in group["members"]
        for part in (member["member_assignment"] or {}).get("assigned_partitions", ())
        for number in part["partitions"]
    }
    there = {
        Partition(topic["name"], part["partition_index"])
        for topic in admin.describe_topics(list(names))
        if not topic["error_code"]
        for part in topic["partitions"]
    }
    return frozenset(there - taken)


def _ask(
    kafka: config.Kafka,
    question: Callable[[Any], Answer],
    patience: float = BOOTSTRAP_MS / 1000,  # s
) -> Answer:
    """Again and again where that can help: the client may ask the one broker that is down."""
    deadline = time.monotonic() + patience
    while True:
        try:
            with contextlib.closing(KafkaAdminClient(**options(kafka))) as admin:
                return question(admin)
        except (KafkaError, OSError, ValueError) as error:
            if not heals(error) or time.monotonic() > deadline:
                raise SourceError(explain(kafka, error)) from error
            log.info("the brokers will be asked again: %s", error)
            time.sleep(0.2)
