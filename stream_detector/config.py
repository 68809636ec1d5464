"""detector.yaml -> frozen structs. Unknown keys are refused; each field tells meaning and unit.

The descriptions here are the documentation: config/detector.yaml repeats them and a test compares.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
import yaml
from msgspec import Meta

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(gt=0, lt=1)]
Duration = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$")]
"""A number and a unit: 500ms, 10s, 5m, 6h, 7d."""

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def milliseconds(duration: str) -> int:
    """`5m` -> 300000."""
    match = re.fullmatch(r"([0-9.]+)(ms|s|m|h|d)", duration)
    if match is None:
        raise ConfigError(f"{duration!r} is not a duration; write a number and ms, s, m, h or d")
    return round(float(match[1]) * _UNITS[match[2]])


class _Loader(yaml.SafeLoader):
    """PyYAML's YAML 1.1, but 1e-4 is a number, as YAML 1.2 has it and people write it."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


class ConfigError(Exception):
    """Configuration that cannot be used; one line that names the place and the remedy."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


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
    ] = {}


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


class ModelRoute(Section, frozen=True, kw_only=True):
    registry: Annotated[Text, Meta(description="Folder of bundles with a CURRENT pointer.")]
    match: Annotated[Text, Meta(description="Glob on the series name; the first match wins.")] = "*"
    name: Annotated[
        str | None, Meta(description="Name of the group in metrics; the glob where left out.")
    ] = None


class ThresholdRule(Section, frozen=True, kw_only=True):
    """One of these instead of an alarm budget.

    The first two are levels, which follow what the scores of a series have lately been; the others
    are scores, which nothing moves. Rules that look at held-out scores are the trainer's.
    """

    level: Annotated[Positive | None, Meta(description="-log10 of the tail probability.")] = None
    quantile: Annotated[
        Share | None,
        Meta(description="The level that this quantile of held-out scores has, e.g. 0.999."),
    ] = None
    sigma: Annotated[
        Positive | None,
        Meta(
            description="Standard deviations above the mean of a series' held-out scores; a series "
            "that the bundle doesn't know gets the usual level of those scores."
        ),
    ] = None
    error: Annotated[
        Positive | None,
        Meta(description="The score itself, one for all series, whatever is usual for them."),
    ] = None


class Time(Section, frozen=True, kw_only=True):
    max_ahead: Annotated[
        Duration,
        Meta(description="Samples further ahead of their record's timestamp are dead-lettered."),
    ] = "1h"
    max_jump: Annotated[
        Duration,
        Meta(description="In files: samples further ahead of their series are dead-lettered."),
    ] = "3653d"
    restart_after_late: Annotated[
        Annotated[int, Meta(ge=1, le=250)],
        Meta(description="A series starts anew after this many late samples in a row (gap event)."),
    ] = 10
    evict_after: Annotated[
        Duration, Meta(description="Series that sent nothing for this long are forgotten.")
    ] = "7d"
    max_clock_step: Annotated[
        Duration,
        Meta(
            description="One series alone advances its partition's clock by at most this at once."
        ),
    ] = "30m"


class Episodes(Section, frozen=True, kw_only=True):
    min_length: Annotated[
        Count, Meta(description="Consecutive samples above the threshold that open an episode.")
    ] = 1
    quiet_period: Annotated[
        Count, Meta(description="Samples below the threshold in a row that close an episode.")
    ] = 60
    update_every: Annotated[
        Duration,
        Meta(
            description="An open episode repeats itself at this interval of event time, "
            "at most every 10 samples."
        ),
    ] = "5m"
    silent_after: Annotated[
        Duration,
        Meta(
            description="An open episode closes when its series sends nothing for this long, "
            "and for 10 of its steps."
        ),
    ] = "1h"
    regime_change_after: Annotated[
        Duration,
        Meta(
            description="An episode that lasts longer, and 120 samples, is the new normal: "
            "the series learns anew."
        ),
    ] = "12h"


class Limits(Section, frozen=True, kw_only=True):
    max_series: Annotated[
        Count, Meta(description="Series per group and partition; newcomers beyond are refused.")
    ] = 1_000_000
    max_batch: Annotated[Count, Meta(description="Records taken per turn of the loop.")] = 5000
    rejected_share: Annotated[
        float,
        Meta(
            description="The service stops when more than this share of the last `rejected_window` "
            "records cannot be used: the configuration must be wrong.",
            gt=0,
            le=1,
        ),
    ] = 0.9
    rejected_window: Annotated[Count, Meta(description="Records that the share is taken of.")] = (
        10_000
    )


class Http(Section, frozen=True, kw_only=True):
    host: Annotated[str, Meta(description="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1"
    port: Annotated[
        int,
        Meta(
            description="Port of /metrics, /livez, /readyz and /; 0 takes a free one.",
            ge=0,
            le=65535,
        ),
    ] = 9108


class Store(Section, frozen=True, kw_only=True):
    url: Annotated[
        str | None, Meta(description="Folder of the normal store; null keeps nothing.")
    ] = None
    part_rows: Annotated[Count, Meta(description="Samples in one Parquet file at most.")] = 200_000
    part_every: Annotated[
        Duration, Meta(description="A file is written at least this often, by the clock.")
    ] = "1m"


class DetectorConfig(Section, frozen=True, kw_only=True):
    kafka: Annotated[Kafka, Meta(description="The brokers.")]
    input: Annotated[Input, Meta(description="The samples.")]
    output: Annotated[Output, Meta(description="Events and dead letters.")]
    model: Annotated[
        ModelRoute | None, Meta(description="The registry, where one model serves all series.")
    ] = None
    models: Annotated[
        list[ModelRoute],
        Meta(description="Registries by glob on the series name, first match wins."),
    ] = []
    source: Annotated[Text, Meta(description="Name of this stream; part of every event's id.")] = (
        "stream-detector"
    )
    device: Annotated[
        Annotated[str, Meta(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")],
        Meta(description="Where to score: auto, cpu, cuda or cuda:N."),
    ] = "auto"
    threads: Annotated[
        Count | None, Meta(description="CPU threads for scoring; null leaves it to torch.")
    ] = None
    alarm_budget: Annotated[
        Positive | None,
        Meta(
            description="False episodes accepted per series and day; null takes the bundle's rule."
        ),
    ] = None
    threshold: Annotated[
        ThresholdRule | None, Meta(description="A fixed threshold instead of an alarm budget.")
    ] = None
    delivery: Annotated[
        Literal["at_least_once"],
        Meta(description="Duplicates after a crash share their event id."),
    ] = "at_least_once"
    commit_every: Annotated[
        Duration, Meta(description="Offsets are committed at most this often.")
    ] = "1s"
    reload_every: Annotated[
        Duration, Meta(description="How often the registries are looked at for a new bundle.")
    ] = "5s"
    time: Annotated[Time, Meta(description="Late, early and absent samples.")] = Time()
    episodes: Annotated[Episodes, Meta(description="From levels to events.")] = Episodes()
    limits: Annotated[Limits, Meta(description="Bounds of state and patience.")] = Limits()
    http: Annotated[Http, Meta(description="Metrics and health.")] = Http()
    store: Annotated[Store, Meta(description="What the trainer learns from.")] = Store()

    def __post_init__(self) -> None:
        if (self.model is None) == (not self.models):
            raise ValueError("give either `model` or `models`")
        if self.alarm_budget is not None and self.threshold is not None:
            raise ValueError("give either `alarm_budget` or `threshold`")
        if self.threshold is not None:
            rule = self.threshold
            values = (rule.level, rule.quantile, rule.sigma, rule.error)
            if sum(value is not None for value in values) != 1:
                raise ValueError("`threshold` needs one of level, quantile, sigma, error")
        names = [route.name or route.match for route in self.routes]
        if len(set(names)) != len(names):
            raise ValueError("`models` holds two groups of the same name")

    @property
    def routes(self) -> list[ModelRoute]:
        return [self.model] if self.model is not None else self.models


T = TypeVar("T", bound=Section)


def load_yaml(path: Path, into: type[T], environment: Mapping[str, str] | None = None) -> T:
    """Read a YAML file into a section. Raises ConfigError with file, place and remedy."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{path}: {reason}") from error
    return parse_yaml(text, into, str(path), environment)


def parse_yaml(
    text: str,
    into: type[T],
    name: str = "configuration",
    environment: Mapping[str, str] | None = None,
) -> T:
    try:
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506  # it is a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{name}: expected keys and values at the top")
    try:
        filled = _substitute(raw, os.environ if environment is None else environment)
        return msgspec.convert(filled, type=into)
    except (msgspec.ValidationError, ConfigError) as error:
        raise ConfigError(f"{name}: {error}") from error


def _substitute(value: Any, environment: Mapping[str, str]) -> Any:
    """`${NAME}` in any string -> the environment's value."""
    if isinstance(value, str):

        def lookup(match: re.Match[str]) -> str:
            if match[1] not in environment:
                raise ConfigError(f"environment variable {match[1]} is not set")
            return environment[match[1]]

        return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", lookup, value)
    if isinstance(value, dict):
        return {key: _substitute(part, environment) for key, part in value.items()}
    if isinstance(value, list):
        return [_substitute(part, environment) for part in value]
    return value
