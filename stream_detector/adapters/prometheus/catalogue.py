"""All metrics: only here may one be born.

Labels come from closed sets, never from a series' name, and exist from the start with the value 0:
rates work from the first sample on, and an absent metric always means a detector that is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from stream_detector.adapters.prometheus.histogram import BulkHistogram
from stream_detector.records import Kind, Maturity, Outcome, Reason, Severity, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

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
TRANSACTIONS: Final = ("committed", "aborted")
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
            "Events that readers can see, by kind, status and severity.",
            ["kind", "status", "severity"],
            registry=registry,
        )
        # With `delivery: exactly_once` alone. Aborted: the worker goes back to the last commit.
        self.transactions: Final = Counter(
            "stream_detector_transactions_total",
            "Transactions over events, dead letters and offsets, by outcome.",
            ["outcome"],
            registry=registry,
        )
        # Readers of committed events wait for so long.
        self.transaction_seconds: Final = Histogram(
            "stream_detector_transaction_seconds",
            "Time from the first message of a transaction to its end.",
            buckets=SLOW_EDGES,
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
        # ... how many nobody holds, which no process has a lag for ...
        self.unassigned: Final = Gauge(
            "stream_detector_partitions_unassigned",
            "Input partitions that no process of the group has held for a while.",
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
        for outcome in TRANSACTIONS:
            self.transactions.labels(outcome)
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
