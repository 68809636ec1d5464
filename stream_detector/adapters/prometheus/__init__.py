"""Metrics for Prometheus: the catalogue of all of them, and the telemetry that moves them.

Only this package knows prometheus_client, and only this file is where a metric may be born.
Labels come from closed sets, never from a series' name, and exist from the start with the value 0:
rates work from the first sample on, and an absent metric always means a detector that is gone.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from typing import TYPE_CHECKING, Final

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from stream_detector.adapters.prometheus.histogram import BulkHistogram
from stream_detector.records import Kind, Maturity, Outcome, Reason, Severity, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stream_detector.ports import Progress
    from stream_detector.records import AnomalyEvent, Partition, ScaleScores

SCORE_EDGES: Final = (
    *(float(f"{digit}e{power}") for power in range(-6, 3) for digit in (1, 2, 5)),
    1000.0,
)
"""1e-6 to 1e3, three to a decade: the same for every model, so that a reload changes none. 1 is
an edge, so the share of windows above their threshold (ratio > 1) can be read off exactly."""

STAGE_EDGES: Final = (
    *(float(f"{digit}e{power}") for power in range(-5, 1) for digit in (1, 2.5, 5)),
    *(10.0, 30.0, 60.0),
)
"""10 us to 1 min."""

SLOW_EDGES: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""10 ms to 5 min."""

LATENCY_EDGES: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    *(300.0, 900.0, 3600.0),
)
"""5 ms to 1 h: a detector that catches up after a stop reports old anomalies."""

OUTCOMES: Final = tuple(outcome.name.lower() for outcome in Outcome)
STAGES: Final = (
    "poll",
    "restore",
    "decode",
    "assemble",
    "engine",
    "score",
    "tick",
    "publish",
    "store",
    "acknowledge",
    "snapshot",
)
"""As the loop names them; `engine` is without the time in the model, which is `score`."""
RELOADS: Final = ("swapped", "refused", "incompatible", "absent")
STATES: Final = tuple(state.value for state in Maturity)
RESTORES: Final = ("new", "exact", "older", "partial", "bounded")
SAVES: Final = ("written", "failed")
OBJECTIONS: Final = ("direction", "deviation")
OTHER: Final = "other"
"""Label value for what is not in its closed set: visible, and still bounded."""


class Catalogue:
    """Every metric of the detector, registered with one registry. Base units; SI seconds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # The loop. No turns for a minute: it is stuck; /livez tells the same.
        self.turns: Final = Counter(
            "stream_detector_turns_total", "Turns of the loop.", registry=registry
        )
        # Records taken from the input, whatever became of them.
        self.records: Final = Counter(
            "stream_detector_records_total", "Records read from the input.", registry=registry
        )
        # Where a turn's time goes.
        self.stage_seconds: Final = Histogram(
            "stream_detector_stage_seconds",
            "Time that one turn of the loop spent in a stage.",
            ["stage"],
            buckets=STAGE_EDGES,
            registry=registry,
        )

        # What became of decoded samples; all but `accepted` are not scored.
        self.samples: Final = Counter(
            "stream_detector_samples_total",
            "Samples by what became of them.",
            ["outcome"],
            registry=registry,
        )
        # Records and samples that cannot be used: look into the dead-letter topic.
        self.dead_letters: Final = Counter(
            "stream_detector_dead_letters_total",
            "Records and samples sent to the dead-letter topic, by reason.",
            ["reason"],
            registry=registry,
        )

        # By their keys: the samples of one series must lie in one partition.
        self.unkeyed: Final = Counter(
            "stream_detector_unkeyed_records_total",
            "Records without a key, in topics of several partitions.",
            ["topic"],
            registry=registry,
        )
        self.misplaced: Final = Counter(
            "stream_detector_misplaced_records_total",
            "Records in another partition than Kafka's default partitioner gives their key.",
            ["topic"],
            registry=registry,
        )
        # Series that move to another partition are learnt anew there.
        self.repartitions: Final = Counter(
            "stream_detector_repartitions_total",
            "Changes of a topic's number of partitions while it was read.",
            ["topic"],
            registry=registry,
        )

        # Windows that went through a model.
        self.windows_scored: Final = Counter(
            "stream_detector_windows_scored_total",
            "Windows scored, by scale (samples per step).",
            ["scale"],
            registry=registry,
        )
        # What the autoencoder could not explain; drifts upwards as a model ages.
        self.reconstruction_error: Final = BulkHistogram(
            "stream_detector_reconstruction_error",
            "The autoencoder's reconstruction error of each window.",
            ["group", "scale"],
            edges=SCORE_EDGES,
            registry=registry,
        )
        # Above 1 the series is in alarm, whichever series and model it is.
        self.score_ratio: Final = BulkHistogram(
            "stream_detector_score_ratio",
            "Score of each window / the score at which its series raises an alarm.",
            ["group", "scale"],
            edges=SCORE_EDGES,
            registry=registry,
        )
        # Scores that are NaN or infinite: the model is at fault, and no anomaly is raised of it.
        self.model_faults: Final = Counter(
            "stream_detector_model_faults_total",
            "Windows whose score was not a finite number.",
            ["group", "scale"],
            registry=registry,
        )

        # What came out.
        self.events: Final = Counter(
            "stream_detector_events_total",
            "Events published, by kind, status and severity.",
            ["kind", "status", "severity"],
            registry=registry,
        )
        # Once for each anomaly, whether or not it opened an episode later.
        self.episodes_suppressed: Final = Counter(
            "stream_detector_episodes_suppressed_total",
            "Anomalies held back by a filter, `episodes.direction` or `episodes.min_deviation`.",
            ["reason"],
            registry=registry,
        )
        # From the record's time in Kafka to the acknowledgement of the event that it caused.
        self.event_latency: Final = BulkHistogram(
            "stream_detector_event_latency_seconds",
            "Kafka timestamp of the causing record to the event's acknowledgement.",
            edges=LATENCY_EDGES,
            registry=registry,
        )

        # How far behind: in records, for each partition that this process holds ...
        self.consumer_lag: Final = Gauge(
            "stream_detector_consumer_lag_records",
            "Records between the position and the end of a partition held by this process.",
            ["topic", "partition"],
            registry=registry,
        )
        # ... how many those are (0: none assigned, so the metric above is empty) ...
        self.partitions: Final = Gauge(
            "stream_detector_partitions_assigned",
            "Input partitions held by this process.",
            registry=registry,
        )
        # ... and in time. Goes on growing when samples stop, or the loop does.
        self.event_time_lag: Final = Gauge(
            "stream_detector_event_time_lag_seconds",
            "Now less the time of the newest sample; since the start where none came yet.",
            registry=registry,
        )
        # Series held in memory.
        self.series: Final = Gauge(
            "stream_detector_series",
            "Series held, by how much is known about them.",
            ["state"],
            registry=registry,
        )

        # The versions that serve, and only those.
        self.model_info: Final = Gauge(
            "stream_detector_model_info",
            "1 for the model version that serves a group.",
            ["version", "group"],
            registry=registry,
        )
        # Refused: digests or golden windows were wrong, the old model goes on serving.
        self.model_reloads: Final = Counter(
            "stream_detector_model_reloads_total",
            "Reloads of a model, by outcome.",
            ["outcome"],
            registry=registry,
        )

        # State over restarts: `partial` and `bounded` are not quite what it was, see the log.
        self.restores: Final = Counter(
            "stream_detector_restores_total",
            "Partitions whose state was restored, by how much of it could be had again.",
            ["outcome"],
            registry=registry,
        )
        self.restore_seconds: Final = Histogram(
            "stream_detector_restore_seconds",
            "Time from the assignment's turn to the state of a partition in place.",
            buckets=SLOW_EDGES,
            registry=registry,
        )
        self.partitions_restoring: Final = Gauge(
            "stream_detector_partitions_restoring",
            "Partitions whose state is not in place yet.",
            registry=registry,
        )
        self.replayed: Final = Counter(
            "stream_detector_replayed_records_total",
            "Records read again to restore state.",
            registry=registry,
        )
        # What the loop itself spends on one is `stage_seconds{stage="snapshot"}`.
        self.snapshots: Final = Counter(
            "stream_detector_snapshots_total",
            "Snapshots of a partition, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.snapshot_seconds: Final = Histogram(
            "stream_detector_snapshot_seconds",
            "Time from the copy of a partition's state to the durable file.",
            buckets=SLOW_EDGES,
            registry=registry,
        )
        self.snapshot_bytes: Final = Gauge(
            "stream_detector_snapshot_bytes", "Size of the newest snapshot.", registry=registry
        )

        for stage in STAGES:
            self.stage_seconds.labels(stage)
        for outcome in OUTCOMES:
            self.samples.labels(outcome)
        for reason in Reason:
            self.dead_letters.labels(reason.value)
        for objection in OBJECTIONS:
            self.episodes_suppressed.labels(objection)
        for kind in Kind:
            for status in Status:
                for severity in Severity:
                    self.events.labels(kind.value, status.value, severity.value)
        for state in STATES:
            self.series.labels(state)
        for outcome in RELOADS:
            self.model_reloads.labels(outcome)
        for outcome in RESTORES:
            self.restores.labels(outcome)
        for outcome in SAVES:
            self.snapshots.labels(outcome)

    def declare_topics(self, topics: Iterable[str]) -> None:
        """Show the metrics of the input topics from now on."""
        for topic in topics:
            self.unkeyed.labels(topic)
            self.misplaced.labels(topic)
            self.repartitions.labels(topic)

    def declare(self, group: str, scales: Iterable[int]) -> None:
        """Show the metrics of a group's model from now on, before it scored anything."""
        for scale in map(str, scales):
            self.windows_scored.labels(scale)
            self.reconstruction_error.declare(group, scale)
            self.score_ratio.declare(group, scale)
            self.model_faults.labels(group, scale)


class PrometheusTelemetry:
    """ports.Telemetry on Prometheus metrics; the loop calls it, scrapes read it."""

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        now: Callable[[], float] = time.time,
        process: bool = True,
    ) -> None:
        """`process` adds CPU, memory, file descriptors and garbage collection of this process."""
        # Else each counter has a second series with the time of its creation, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the client's, without types
        self.registry = CollectorRegistry() if registry is None else registry
        self.metrics = Catalogue(self.registry)
        if process:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
            GCCollector(registry=self.registry)
        self._now = now
        self._newest = now()  # time of the newest sample, s
        self.metrics.event_time_lag.set_function(lambda: self._now() - self._newest)
        self._partitions: frozenset[Partition] = frozenset()
        self._versions: dict[str, str] = {}  # group -> version that serves
        self._states = frozenset(STATES)

    def turn(self, progress: Progress) -> None:
        metrics = self.metrics
        metrics.turns.inc()
        metrics.records.inc(progress.polled)
        for stage, seconds in progress.stages.items():
            metrics.stage_seconds.labels(_closed(stage, STAGES)).observe(seconds)
        for outcome, count in progress.outcomes.items():
            metrics.samples.labels(_closed(outcome, OUTCOMES)).inc(count)
        for reason, count in Tally(rejected.reason for rejected in progress.rejected).items():
            metrics.dead_letters.labels(reason.value).inc(count)
        for labels, count in Tally(map(_event_labels, progress.events)).items():
            metrics.events.labels(*labels).inc(count)
        for objection, count in progress.suppressed.items():
            metrics.episodes_suppressed.labels(_closed(objection, OBJECTIONS)).inc(count)
        self._topics(progress)
        if progress.event_latencies:
            # Clocks of two machines differ: an event is never earlier than its cause.
            metrics.event_latency.observe(np.maximum(progress.event_latencies, 0.0))
        for scores in progress.scores:
            self._scores(scores)
        if progress.series:
            for state in self._states - progress.series.keys():
                metrics.series.labels(state).set(0)
            for state, count in progress.series.items():
                metrics.series.labels(state).set(count)
            self._states |= progress.series.keys()
        self._keeping(progress)
        if progress.event_time_lag is not None:
            self._newest = self._now() - progress.event_time_lag

    def _keeping(self, progress: Progress) -> None:
        """What was done so that state survives restarts."""
        metrics = self.metrics
        metrics.partitions_restoring.set(progress.restoring)
        metrics.replayed.inc(progress.replayed)
        for restored in progress.restored:
            metrics.restores.labels(_closed(restored.outcome, RESTORES)).inc()
            metrics.restore_seconds.observe(restored.seconds)
        for saved in progress.saved:
            metrics.snapshots.labels(_closed(saved.outcome, SAVES)).inc()
            metrics.snapshot_seconds.observe(saved.seconds)
            if saved.size:
                metrics.snapshot_bytes.set(saved.size)

    def lag(self, lag: Mapping[Partition, int]) -> None:
        """Takes the place of what was known before: partitions that left have no lag any more."""
        held = frozenset(lag)
        for partition in self._partitions - held:
            self.metrics.consumer_lag.remove(partition.topic, str(partition.number))
        for partition, records in lag.items():
            self.metrics.consumer_lag.labels(partition.topic, str(partition.number)).set(records)
        self.metrics.partitions.set(len(held))
        self._partitions = held

    def model(self, group: str, version: str) -> None:
        before = self._versions.get(group)
        if before is not None and before != version:
            self.metrics.model_info.remove(before, group)
        self._versions[group] = version
        self.metrics.model_info.labels(version, group).set(1)

    def reload(self, outcome: str) -> None:
        self.metrics.model_reloads.labels(_closed(outcome, RELOADS)).inc()

    def exposition(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and body of /metrics, in the format that the Accept header asks for."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # the client cannot read a version such as `x.y`
            encode, content_type = choose_encoder("")
        return content_type, encode(self.registry)

    def _topics(self, progress: Progress) -> None:
        for topic, count in progress.odd.unkeyed.items():
            self.metrics.unkeyed.labels(topic).inc(count)
        for topic, count in progress.odd.misplaced.items():
            self.metrics.misplaced.labels(topic).inc(count)
        for topic in progress.odd.repartitioned:
            self.metrics.repartitions.labels(topic).inc()

    def _scores(self, scores: ScaleScores) -> None:
        labels = (scores.group, str(scores.scale))
        self.metrics.windows_scored.labels(labels[1]).inc(len(scores.error))
        self.metrics.reconstruction_error.observe(scores.error, *labels)
        self.metrics.score_ratio.observe(scores.ratio, *labels)
        self.metrics.model_faults.labels(*labels).inc(scores.faults)


def _closed(value: str, allowed: Sequence[str]) -> str:
    return value if value in allowed else OTHER


def _event_labels(event: AnomalyEvent) -> tuple[str, str, str]:
    return event.kind.value, event.status.value, event.severity.value
