"""detector.yaml as a whole, and its smaller sections."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stream_detector.config.kinds import Count, Duration, Positive, Section, Text, milliseconds
from stream_detector.config.rules import Episodes, ThresholdRule, Time
from stream_detector.config.state import Restore, Snapshots
from stream_detector.config.streams import (
    Input,  # msgspec reads the annotations
    Kafka,
    Output,
    Rekey,
)


class ModelRoute(Section, frozen=True, kw_only=True):
    registry: Annotated[Text, Meta(description="Folder of bundles with a CURRENT pointer.")]
    match: Annotated[Text, Meta(description="Glob on the series name; the first match wins.")] = "*"
    name: Annotated[
        str | None, Meta(description="Name of the group in metrics; the glob where left out.")
    ] = None


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
    ] = msgspec.field(default_factory=list)
    source: Annotated[Text, Meta(description="Name of this stream; part of every event's id.")] = (
        "stream-detector"
    )
    device: Annotated[
        Annotated[str, Meta(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")],
        Meta(description="Where to score: auto, cpu, cuda or cuda:N."),
    ] = "auto"
    threads: Annotated[
        Count | None,
        Meta(
            description="CPU threads for scoring; null: one for each core. More than 1 speed up "
            "large models, LSTMs half as much again with 2, on cores that nothing else uses; on "
            "busy ones they wait for each other, and scoring takes many times as long."
        ),
    ] = 1
    alarm_budget: Annotated[
        Positive | None,
        Meta(
            description="False episodes accepted per series and day; null takes the bundle's rule."
        ),
    ] = None
    alarm_budget_total: Annotated[
        Positive | None,
        Meta(
            description="False episodes accepted a day over all series, which share it equally; a "
            "series gets its `alarm_budget` at most. Null: only that counts."
        ),
    ] = None
    threshold: Annotated[
        ThresholdRule | None, Meta(description="A fixed threshold instead of an alarm budget.")
    ] = None
    delivery: Annotated[
        Literal["at_least_once", "exactly_once"],
        Meta(
            description="After a crash at_least_once says some events again, with their ids. "
            "exactly_once commits events, dead letters and offsets in one transaction: readers "
            "with isolation_level=read_committed see each once, up to `commit_every` later."
        ),
    ] = "at_least_once"
    commit_every: Annotated[
        Duration, Meta(description="Offsets are committed at most this often.")
    ] = "1s"
    reload_every: Annotated[
        Duration, Meta(description="How often the registries are looked at for a new bundle.")
    ] = "5s"
    time: Annotated[
        Time,
        Meta(
            description="Late, early and absent samples. One that is not newer than its series, "
            "late or a duplicate, is dropped and counted; none waits to be put in order."
        ),
    ] = Time()
    episodes: Annotated[Episodes, Meta(description="From levels to events.")] = Episodes()
    limits: Annotated[Limits, Meta(description="Bounds of state and patience.")] = Limits()
    http: Annotated[Http, Meta(description="Metrics and health.")] = Http()
    store: Annotated[Store, Meta(description="What the trainer learns from.")] = Store()
    rekey: Annotated[
        Rekey, Meta(description="A copy of the samples whose records are keyed by series.")
    ] = Rekey()
    snapshots: Annotated[
        Snapshots, Meta(description="What is known of each series, saved for restarts.")
    ] = Snapshots()
    restore: Annotated[
        Restore, Meta(description="How that is had again when a partition is assigned.")
    ] = Restore()

    def __post_init__(self) -> None:
        if (self.model is None) == (not self.models):
            raise ValueError("give either `model` or `models`")
        if self.alarm_budget is not None and self.threshold is not None:
            raise ValueError("give either `alarm_budget` or `threshold`")
        if self.alarm_budget_total is not None and self.threshold is not None:
            raise ValueError("give either `alarm_budget_total` or `threshold`")
        if self.threshold is not None:
            rule = self.threshold
            values = (rule.level, rule.quantile, rule.sigma, rule.error)
            if sum(value is not None for value in values) != 1:
                raise ValueError("`threshold` needs one of level, quantile, sigma, error")
        if self.delivery == "exactly_once" and milliseconds(self.commit_every) > 5000:
            raise ValueError("`commit_every` is 5s at most where `delivery` is exactly_once")
        names = [route.name or route.match for route in self.routes]
        if len(set(names)) != len(names):
            raise ValueError("`models` holds two groups of the same name")

    @property
    def routes(self) -> list[ModelRoute]:
        return [self.model] if self.model is not None else self.models
