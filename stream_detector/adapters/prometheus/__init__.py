"""Metrics for Prometheus: what moves them. Only this package knows prometheus_client."""

from __future__ import annotations

import time
from collections import Counter as Tally
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from stream_detector.adapters.prometheus.catalogue import (
    OBJECTIONS,
    OTHER,
    OUTCOMES,
    RELOADS,
    RESTORES,
    SAVES,
    STAGES,
    STATES,
    TRANSACTIONS,
    Catalogue,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stream_detector.ports import Progress
    from stream_detector.records import AnomalyEvent, Partition, ScaleScores


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
        for ended in progress.transactions:
            metrics.transactions.labels(_closed(ended.outcome, TRANSACTIONS)).inc()
            metrics.transaction_seconds.observe(ended.seconds)
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
        metrics.unassigned.set(progress.unassigned)
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
