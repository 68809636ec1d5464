"""What every client of the brokers shares: options from the configuration, and errors in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafka import TopicPartition, errors
from kafka.structs import OffsetAndMetadata

from stream_detector.config import milliseconds
from stream_detector.records import Partition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stream_detector import config
    from stream_detector.ports import Position

BOOTSTRAP_MS = 30_000
CLIENT_ID = "stream-detector"

_HEALING = (
    errors.RetriableError,  # leader moved, coordinator moved or loading, connection lost, timeout
    errors.UnknownMemberIdError,  # thrown out of the group: the client joins anew
    errors.IllegalGenerationError,
    errors.RebalanceInProgressError,
    errors.CommitFailedError,
    errors.BrokerNotAvailableError,
    errors.UnknownError,  # an unexpected exception inside the broker
    errors.NodeNotReadyError,
)

_REMEDIES: tuple[tuple[type[Exception], str], ...] = (
    (
        errors.TopicAuthorizationFailedError,
        "grant this user READ on the input topics and WRITE on the output topics",
    ),
    (errors.GroupAuthorizationFailedError, "grant this user READ on the group kafka.group_id"),
    (errors.AuthorizationError, "grant this user the right that the broker names"),
    (
        errors.SaslAuthenticationFailedError,
        "check kafka.sasl_mechanism, sasl_username and sasl_password",
    ),
    (errors.UnsupportedSaslMechanismError, "set kafka.sasl_mechanism to one the brokers offer"),
    (
        errors.InconsistentGroupProtocolError,
        "another application uses this group; give kafka.group_id a name of its own",
    ),
    (
        errors.FencedInstanceIdError,
        "another worker has this kafka.group_instance_id; give each its own",
    ),
    (
        errors.InvalidSessionTimeoutError,
        "keep kafka.session_timeout within the brokers' group.(min|max).session.timeout.ms",
    ),
    (errors.InvalidTopicError, "correct the topic names in input.topics and output"),
    (errors.OffsetMetadataTooLargeError, "raise the brokers' offset.metadata.max.bytes"),
    (
        errors.InvalidTimestampError,
        "set this machine's clock right; the brokers refuse messages from the future",
    ),
    (errors.UnsupportedVersionError, "use Apache Kafka 2.1 or newer"),
    (
        errors.KafkaTimeoutError,
        "check kafka.bootstrap_servers, kafka.security_protocol and the way to the brokers",
    ),
)


def options(kafka: config.Kafka) -> dict[str, Any]:
    """Connection, TLS and SASL options for any client of kafka-python. Holds secrets: never log."""
    return {
        "bootstrap_servers": list(kafka.bootstrap_servers),
        "client_id": CLIENT_ID,
        "bootstrap_timeout_ms": BOOTSTRAP_MS,
        "reconnect_backoff_max_ms": 2_000,
        "security_protocol": kafka.security_protocol,
        "ssl_cafile": kafka.ssl_cafile,
        "ssl_certfile": kafka.ssl_certfile,
        "ssl_keyfile": kafka.ssl_keyfile,
        "sasl_mechanism": kafka.sasl_mechanism,
        "sasl_plain_username": kafka.sasl_username,
        "sasl_plain_password": kafka.sasl_password,
    }


def heals(error: Exception) -> bool:
    """Whether waiting and asking again can mend it."""
    return isinstance(error, _HEALING)


def explain(kafka: config.Kafka, error: Exception) -> str:
    """One line: which brokers, what happened, what to do."""
    place = ",".join(kafka.bootstrap_servers)
    text = " ".join(str(error).split())
    if isinstance(error, errors.InvalidRecordError) and "Timestamp" in text:
        error = errors.InvalidTimestampError()  # of another record of the same batch
    remedy = next((text for kind, text in _REMEDIES if isinstance(error, kind)), None)
    return f"Kafka at {place}: {text}" + (f"; {remedy}" if remedy else "")


def consumer_options(
    kafka: config.Kafka, assignor: object, *, read_committed: bool = False
) -> dict[str, Any]:
    """All options of the consumer, in kafka-python's names."""
    session = milliseconds(kafka.session_timeout)
    return options(kafka) | {
        "group_id": kafka.group_id,
        "group_instance_id": kafka.group_instance_id,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",  # where to begin is decided here, never by the client
        "partition_assignment_strategy": [assignor],
        "session_timeout_ms": session,
        # A member learns of a rebalance by its heartbeat: often enough that one takes a second.
        "heartbeat_interval_ms": min(1000, session // 3),
        "max_poll_interval_ms": milliseconds(kafka.max_poll_interval),
        # Only then are offsets of a pending transaction waited for, not read as they were before.
        "isolation_level": "read_committed" if read_committed else "read_uncommitted",
        "fetch_max_wait_ms": milliseconds(kafka.fetch_max_wait),
        "allow_auto_create_topics": False,
        "metadata_max_age_ms": 30_000,
    }


def partitions_of(places: Iterable[Any]) -> frozenset[Partition]:
    return frozenset(Partition(place.topic, place.partition) for place in places)


def offsets_of(positions: Mapping[Partition, Position]) -> dict[Any, Any]:
    return {
        TopicPartition(*partition): OffsetAndMetadata(position.offset, position.metadata, -1)
        for partition, position in positions.items()
    }


def name_of(place: Any) -> str:
    topic, number = place
    return f"{topic}[{number}]"
