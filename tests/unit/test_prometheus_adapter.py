"""The metric catalogue and the telemetry that moves it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from stream_detector.adapters.prometheus import PrometheusTelemetry
from stream_detector.adapters.prometheus.catalogue import SCORE_EDGES
from stream_detector.adapters.prometheus.histogram import BulkHistogram
from stream_detector.ports import Ended, Odd, Progress, Restored, Saved
from stream_detector.records import (
    AnomalyEvent,
    Kind,
    Maturity,
    Partition,
    Reason,
    Record,
    Rejected,
    ScaleScores,
    Severity,
    Status,
)
from tests.fakes import event

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "stream_detector_"


def an_event(
    status: Status = Status.OPENED, severity: Severity = Severity.MAJOR, series: str = "pump-7"
) -> AnomalyEvent:
    return event(status=status, severity=severity, series=series)


def scores(
    error: list[float], ratio: list[float] | None = None, *, scale: int = 1, faults: int = 0
) -> ScaleScores:
    return ScaleScores(
        group="pumps",
        scale=scale,
        error=np.array(error, np.float32),
        ratio=np.array(error if ratio is None else ratio, np.float32),
        faults=faults,
    )


@pytest.fixture
def telemetry() -> PrometheusTelemetry:
    return PrometheusTelemetry(process=False)


@pytest.fixture
def value(telemetry: PrometheusTelemetry) -> Callable[..., float | None]:
    def read(name: str, **labels: str) -> float | None:
        return telemetry.registry.get_sample_value(PREFIX + name, labels)

    return read


def test_a_bulk_histogram_counts_like_one_value_at_a_time() -> None:
    registry = CollectorRegistry()
    histogram = BulkHistogram("h", "help", edges=SCORE_EDGES, registry=registry)
    values = np.random.default_rng(1).lognormal(0, 4, 3000)
    values[:3] = (0.0, 1.0, 1e9)
    for part in np.array_split(values, 7):
        histogram.observe(part)

    for edge in (1e-6, 2e-6, 0.5, 1.0, 1000.0):
        text = "1e-06" if edge == 1e-6 else "2e-06" if edge == 2e-6 else str(edge)
        counted = registry.get_sample_value("h_bucket", {"le": text})
        assert counted == int((values <= edge).sum()), edge
    assert registry.get_sample_value("h_bucket", {"le": "+Inf"}) == len(values)
    assert registry.get_sample_value("h_count") == len(values)
    assert registry.get_sample_value("h_sum") == pytest.approx(float(values.sum()))


def test_buckets_are_cumulative_and_end_at_infinity(telemetry: PrometheusTelemetry) -> None:
    telemetry.turn(Progress(scores=[scores([1e-9, 0.3, 0.3, 5e4])]))
    families = {family.name: family for family in telemetry.registry.collect()}
    family = families["stream_detector_reconstruction_error"]
    buckets = [sample for sample in family.samples if sample.name.endswith("_bucket")]
    assert [bucket.labels["le"] for bucket in buckets][-1] == "+Inf"
    assert len(buckets) == len(SCORE_EDGES) + 1
    counts = [bucket.value for bucket in buckets]
    assert counts == sorted(counts)
    assert (counts[0], counts[-2], counts[-1]) == (1, 3, 4)


def test_a_ratio_of_exactly_one_is_not_above_the_threshold(
    telemetry: PrometheusTelemetry, value: Callable[..., float | None]
) -> None:
    telemetry.turn(Progress(scores=[scores([0.1] * 3, [0.9, 1.0, 1.1])]))
    assert value("score_ratio_bucket", group="pumps", scale="1", le="1.0") == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_never_reach_a_histogram(
    telemetry: PrometheusTelemetry, value: Callable[..., float | None], bad: float
) -> None:
    telemetry.turn(Progress(scores=[scores([0.5, bad, 0.25], faults=1)]))
    labels = {"group": "pumps", "scale": "1"}
    assert value("reconstruction_error_sum", **labels) == 0.75
    assert value("reconstruction_error_count", **labels) == 2
    assert value("score_ratio_sum", **labels) == 0.75
    assert value("model_faults_total", **labels) == 1


def test_what_is_odd_about_the_input_is_counted_by_topic(
    telemetry: PrometheusTelemetry, value: Callable[..., float | None]
) -> None:
    for _ in range(2):
        telemetry.turn(Progress(odd=Odd({"a": 3}, {"a": 4, "b": 5}, {"b": 8})))
    assert value("unkeyed_records_total", topic="a") == 6
    assert value("misplaced_records_total", topic="a") == 8
    assert value("misplaced_records_total", topic="b") == 10
    assert value("repartitions_total", topic="b") == 2


def test_histograms_need_all_their_labels() -> None:
    histogram = BulkHistogram("h", "help", ["a"], edges=[1.0], registry=CollectorRegistry())
    with pytest.raises(ValueError, match="labels"):
        histogram.observe([1.0])


def test_every_closed_label_exists_before_anything_happened(
    telemetry: PrometheusTelemetry, value: Callable[..., float | None]
) -> None:
    telemetry.metrics.declare("pumps", [1, 6])
    assert value("turns_total") == 0
    assert value("records_total") == 0
    for outcome in ("accepted", "late", "duplicate", "future", "unheld", "refused"):
        assert value("samples_total", outcome=outcome) == 0
    for reason in Reason:
        assert value("dead_letters_total", reason=reason.value) == 0
    for kind in Kind:
        for status in Status:
            for severity in Severity:
                labels = {"kind": kind.value, "status": status.value, "severity": severity.value}
                assert value("events_total", **labels) == 0
    for outcome in ("swapped", "refused", "incompatible"):
        assert value("model_reloads_total", outcome=outcome) == 0
    for state in Maturity:
        assert value("series", state=state.value) == 0
    assert value("stage_seconds_count", stage="decode") == 0
    assert value("event_latency_seconds_count") == 0
    assert value("partitions_assigned") == value("partitions_unassigned") == 0
    telemetry.metrics.declare_topics(["sensors"])
    for name in ("unkeyed_records", "misplaced_records", "repartitions"):
        assert value(f"{name}_total", topic="sensors") == 0
    for scale in ("1", "6"):
        assert value("windows_scored_total", scale=scale) == 0
        assert value("reconstruction_error_count", group="pumps", scale=scale) == 0
        assert value("score_ratio_count", group="pumps", scale=scale) == 0
        assert value("model_faults_total", group="pumps", scale=scale) == 0


def test_a_turn_moves_everything_that_it_carries(
    telemetry: PrometheusTelemetry, value: Callable[..., float | None]
) -> None:
    record = Record("sensors", 0, 1, 0, None, b"{")
    for _ in range(2):
        telemetry.turn(
            Progress(
                polled=10,
                outcomes={"accepted": 8, "late": 1},
                scores=[scores([0.1, 0.2]), scores([0.3], scale=6)],
                events=[an_event(), an_event(series="pump-8"), an_event(Status.CLOSED)],
                suppressed={"deviation": 3},
                event_latencies=[0.02, -0.5, 4.0],
                rejected=[Rejected(Reason.MALFORMED, "bad JSON", record)],
                stages={"decode": 0.002, "engine": 0.01},
                series={"mature": 5, "learning": 1},
            )
        )
    assert value("turns_total") == 2
    assert value("records_total") == 20
    assert value("samples_total", outcome="accepted") == 16
    assert value("samples_total", outcome="late") == 2
    assert value("windows_scored_total", scale="1") == 4
    assert value("windows_scored_total", scale="6") == 2
    assert value("events_total", kind="anomaly", status="opened", severity="major") == 4
    assert value("events_total", kind="anomaly", status="closed", severity="major") == 2
    assert value("event_latency_seconds_count") == 6
    assert value("event_latency_seconds_sum") == pytest.approx(2 * 4.02)
    assert value("dead_letters_total", reason="malformed") == 2
    assert value("episodes_suppressed_total", reason="deviation") == 6
    assert value("stage_seconds_sum", stage="decode") == pytest.approx(0.004)
    assert value("series", state="mature") == 5
    assert value("series", state="warming") == 0


def test_a_state_that_no_series_has_any_more_falls_to_zero(
    telemetry: PrometheusTelemetry, value: Callable[..., float | None]
) -> None:
    telemetry.turn(Progress(series={"mature": 2, "learning": 3}))
    telemetry.turn(Progress())
    assert value("series", state="learning") == 3
    telemetry.turn(Progress(series={"mature": 5}))
    assert value("series", state="learning") == 0
    assert value("series", state="mature") == 5


def test_labels_outside_their_closed_set_are_counted_together(
    telemetry: PrometheusTelemetry, value: Callable[..., float | None]
) -> None:
    telemetry.turn(Progress(outcomes={"series-1": 1, "series-2": 2}, stages={"x": 1.0, "y": 1.0}))
    telemetry.reload("exploded")
    assert value("samples_total", outcome="other") == 3
    assert value("stage_seconds_count", stage="other") == 2
    assert value("model_reloads_total", outcome="other") == 1
    assert value("samples_total", outcome="series-1") is None


def test_the_lag_of_a_revoked_partition_vanishes(
    telemetry: PrometheusTelemetry, value: Callable[..., float | None]
) -> None:
    first, second = Partition("sensors", 0), Partition("sensors", 1)
    telemetry.lag({first: 10, second: 20})
    assert value("partitions_assigned") == 2
    telemetry.lag({second: 5})
    assert value("consumer_lag_records", topic="sensors", partition="0") is None
    assert value("consumer_lag_records", topic="sensors", partition="1") == 5
    telemetry.lag({first: 1})
    assert value("consumer_lag_records", topic="sensors", partition="0") == 1
    assert value("partitions_assigned") == 1


def test_only_the_serving_version_of_each_group_is_shown(
    telemetry: PrometheusTelemetry, value: Callable[..., float | None]
) -> None:
    telemetry.model("pumps", "v1")
    telemetry.model("web", "v1")
    telemetry.model("pumps", "v2")
    telemetry.model("pumps", "v2")
    assert value("model_info", group="pumps", version="v1") is None
    assert value("model_info", group="pumps", version="v2") == 1
    assert value("model_info", group="web", version="v1") == 1


def test_partitions_that_nobody_has_are_told_until_somebody_has_them() -> None:
    telemetry = PrometheusTelemetry(process=False)
    for count in (2, 0):
        telemetry.turn(Progress(unassigned=count))
        assert telemetry.registry.get_sample_value(PREFIX + "partitions_unassigned") == count


def test_event_time_lag_grows_while_no_sample_comes() -> None:
    clock = [1000.0]
    telemetry = PrometheusTelemetry(now=lambda: clock[0], process=False)

    def lag() -> float | None:
        return telemetry.registry.get_sample_value(PREFIX + "event_time_lag_seconds")

    clock[0] = 1030.0
    assert lag() == 30.0, "nothing came since the start"
    telemetry.turn(Progress(event_time_lag=2.5))
    assert lag() == 2.5
    clock[0] = 1100.0
    telemetry.turn(Progress())
    assert lag() == 72.5


def test_both_text_formats_parse_and_hold_the_same_metrics(telemetry: PrometheusTelemetry) -> None:
    telemetry.metrics.declare('we"b\\\n', [1])
    telemetry.model('we"b\\\n', "v1")
    telemetry.turn(Progress(polled=1, scores=[scores([0.5])]))
    kind, body = telemetry.exposition("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    families = openmetrics(body.decode())  # type: ignore[no-untyped-call]  # the client's, no types
    modern = {family.name for family in families}
    kind, body = telemetry.exposition("text/plain")
    assert kind.startswith("text/plain")
    classic = {family.name for family in plain(body.decode())}
    assert modern == classic
    assert "stream_detector_score_ratio" in modern
    assert b"_created" not in body


def test_an_accept_header_that_makes_no_sense_gets_the_plain_format(
    telemetry: PrometheusTelemetry,
) -> None:
    for accept in ("", "*/*", "text/html,;q", "application/openmetrics-text; version=x.y"):
        kind, body = telemetry.exposition(accept)
        assert kind.startswith("text/plain"), accept
        assert b"stream_detector_turns_total" in body


def test_transactions_are_counted_by_outcome(telemetry: PrometheusTelemetry) -> None:
    ended = [Ended("committed", 0.02), Ended("aborted", 10.0), Ended("committed", 0.03)]
    telemetry.turn(Progress(transactions=ended))
    value = telemetry.registry.get_sample_value
    for outcome, count in {"committed": 2, "aborted": 1}.items():
        assert value(PREFIX + "transactions_total", {"outcome": outcome}) == count
    assert value(PREFIX + "transaction_seconds_sum") == pytest.approx(10.05)


def test_restores_and_snapshots_are_counted_by_outcome(telemetry: PrometheusTelemetry) -> None:
    telemetry.turn(
        Progress(
            restoring=3,
            replayed=120,
            restored=[Restored("exact", 120, 0.5), Restored("bounded", 0, 2.0)],
            saved=[Saved("written", 0.2, 4096), Saved("failed", 0.1, 0)],
        )
    )
    value = telemetry.registry.get_sample_value
    for outcome, count in {"new": 0, "exact": 1, "older": 0, "partial": 0, "bounded": 1}.items():
        assert value(PREFIX + "restores_total", {"outcome": outcome}) == count
    for outcome in ("written", "failed"):
        assert value(PREFIX + "snapshots_total", {"outcome": outcome}) == 1
    assert value(PREFIX + "partitions_restoring") == 3
    assert value(PREFIX + "replayed_records_total") == 120
    assert value(PREFIX + "restore_seconds_sum") == 2.5
    assert value(PREFIX + "snapshot_seconds_count") == 2
    assert value(PREFIX + "snapshot_bytes") == 4096


def test_process_metrics_come_with_the_default_telemetry() -> None:
    _, body = PrometheusTelemetry().exposition()
    names = {family.name for family in plain(body.decode())}
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "python_info"} <= names
    assert "python_gc_collections" in names


def test_no_metric_has_a_label_for_the_series(telemetry: PrometheusTelemetry) -> None:
    telemetry.turn(Progress(events=[an_event()], scores=[scores([0.5])]))
    _, body = telemetry.exposition()
    assert b"pump-7" not in body


def test_a_turn_with_5000_windows_takes_little_time(telemetry: PrometheusTelemetry) -> None:
    rng = np.random.default_rng(0)
    progress = Progress(
        polled=5000,
        outcomes={"accepted": 5000},
        scores=[
            ScaleScores(
                group="pumps",
                scale=1,
                error=rng.lognormal(-3, 1, 5000).astype(np.float32),
                ratio=rng.lognormal(-2, 1, 5000).astype(np.float32),
                faults=0,
            )
        ],
        stages={"decode": 0.01, "engine": 0.1, "score": 0.1, "publish": 0.0, "store": 0.0},
        series={"mature": 5000},
        event_time_lag=1.0,
    )
    times = []
    for _ in range(20):
        start = time.perf_counter()
        telemetry.turn(progress)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.005, "about 0.3 ms on an idle core"
    count = telemetry.registry.get_sample_value(
        PREFIX + "reconstruction_error_count", {"group": "pumps", "scale": "1"}
    )
    assert count == 20 * 5000
    print(f"turn of 5,000 windows: {min(times) * 1e6:.0f} us at best")
