"""Where samples come from and where events go to: brokers, input and output."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stream_detector.config.kinds import Count, Duration, Section, Text

InstanceId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


class Kafka(Section, frozen=True, kw_only=True):
    bootstrap_servers: Annotated[
        list[Text], Meta(min_length=1, description="Brokers to start from, host:port.")
    ]
    group_id: Annotated[Text, Meta(description="Consumer group; its members share the partitions.")]
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        Meta(description="How to talk to the brokers."),
    ] = "PLAINTEXT"
    ssl_cafile: Annotated[
        str | None, Meta(description="Certificate authorities that sign the brokers' certificates.")
    ] = None
    ssl_certfile: Annotated[str | None, Meta(description="Our certificate, for mutual TLS.")] = None
    ssl_keyfile: Annotated[str | None, Meta(description="The key of our certificate.")] = None
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None,
        Meta(description="How to log in, with a SASL protocol."),
    ] = None
    sasl_username: Annotated[str | None, Meta(description="User to log in as.")] = None
    sasl_password: Annotated[
        str | None, Meta(description="Password; write ${NAME} to take it from the environment.")
    ] = None
    group_instance_id: Annotated[
        InstanceId | None,
        Meta(
            description="A name that this worker keeps over restarts and shares with no other, "
            "e.g. ${HOSTNAME}: back within `session_timeout` it gets its own partitions again, and "
            "no other worker is disturbed. Null: its partitions move at once when it leaves."
        ),
    ] = None
    transactional_id: Annotated[
        Text | None,
        Meta(
            description="For exactly once: a name that this worker keeps over restarts and shares "
            "with no other. Null: made of group_id and group_instance_id, or without that of the "
            "host's name and a number that is locked on it."
        ),
    ] = None
    session_timeout: Annotated[
        Duration, Meta(description="A member that is silent for this long loses its partitions.")
    ] = "45s"
    max_poll_interval: Annotated[
        Duration, Meta(description="A member whose batch takes longer loses its partitions.")
    ] = "5m"
    fetch_max_wait: Annotated[
        Duration, Meta(description="How long a broker may wait to fill an answer; adds to latency.")
    ] = "50ms"

    def __repr__(self) -> str:
        return f"Kafka(bootstrap_servers={self.bootstrap_servers}, group_id={self.group_id!r}, ...)"


class Fields(Section, frozen=True, kw_only=True):
    """Where in a JSON sample each part lies; paths are dotted, `tags.host`."""

    series: Annotated[
        str | None,
        Meta(
            description="Path of the series name; `key` takes the record's key. Or use `template`."
        ),
    ] = "series"
    template: Annotated[
        str | None, Meta(description="Series name built from paths, e.g. {tags.host}/{name}.")
    ] = None
    timestamp: Annotated[
        str | None,
        Meta(description="Path of the time; null takes the record's own Kafka timestamp."),
    ] = "timestamp"
    time_unit: Annotated[
        Literal["s", "ms", "us", "ns"],
        Meta(description="Unit of numeric timestamps; text is read as RFC 3339."),
    ] = "ms"
    values: Annotated[str, Meta(description="Path of the object or array of values.")] = "values"
    value: Annotated[str, Meta(description="Path of the value where a sample has only one.")] = (
        "value"
    )
    features: Annotated[
        dict[str, str],
        Meta(description="Feature -> path, where values are spread over the sample."),
    ] = msgspec.field(default_factory=dict)


class Input(Section, frozen=True, kw_only=True):
    topics: Annotated[list[Text], Meta(min_length=1, description="Topics that hold the samples.")]
    format: Annotated[Literal["json"], Meta(description="Wire format of the samples.")] = "json"
    fields: Annotated[Fields, Meta(description="Where in a sample each part lies.")] = Fields()
    start: Annotated[
        Literal["earliest", "latest"],
        Meta(description="Where to begin on a partition that has no committed offset."),
    ] = "latest"
    max_record_bytes: Annotated[
        Count, Meta(description="Larger records are dead-lettered, bytes.")
    ] = 1_048_576
    max_samples_per_record: Annotated[
        Count, Meta(description="Records with more samples are dead-lettered.")
    ] = 10_000
    max_series_length: Annotated[
        Count, Meta(description="Longer series names are dead-lettered, characters.")
    ] = 512
    missing: Annotated[
        Literal["hold", "reject"],
        Meta(description="A feature missing among several: hold its last value, or dead-letter."),
    ] = "hold"
    hold_limit: Annotated[
        Annotated[int, Meta(ge=1, le=250)],
        Meta(description="Consecutive samples that one feature's last value may stand in for."),
    ] = 5


class Output(Section, frozen=True, kw_only=True):
    topic: Annotated[Text, Meta(description="Topic for anomaly events.")]
    dead_letter_topic: Annotated[Text, Meta(description="Topic for records that cannot be used.")]
    delivery_timeout: Annotated[
        Duration, Meta(description="The service stops uncommitted when a message takes longer.")
    ] = "2m"
    max_in_flight: Annotated[
        Count, Meta(description="Unacknowledged messages at most; then the loop waits.")
    ] = 2000


class Rekey(Section, frozen=True, kw_only=True):
    topic: Annotated[
        Text | None,
        Meta(description="Topic that `stream-detector rekey` writes to, keyed by series."),
    ] = None
    input_topics: Annotated[
        list[Text], Meta(description="Topics that it copies; empty: `input.topics`.")
    ] = msgspec.field(default_factory=list)
    group_id: Annotated[
        Text | None,
        Meta(description="Its consumer group; null: `kafka.group_id` with -rekey behind it."),
    ] = None
    start: Annotated[
        Literal["earliest", "latest"],
        Meta(description="Where to begin on a partition that was never copied."),
    ] = "earliest"
    order_wait: Annotated[
        Duration,
        Meta(
            description="Partitions are copied in the order of their Kafka timestamps; how long to "
            "wait for one of which nothing comes although it holds more. Records wait for others "
            "by 1s anyway; 0s: in the order they come, where each series is in one partition."
        ),
    ] = "5s"
