"""Measures against cases worked out by hand; their laws are in tests/property."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from trainer.metrics import (
    by_class,
    classification_report,
    confusion,
    curves,
    distribution,
    error_metrics,
    point_metrics,
    rank_metrics,
    wilson,
)
from trainer.metrics.events import delay_summary, match, merge, recall_by_magnitude, stretches
from trainer.metrics.vus import vus_pr

TRUTH = np.array([0, 0, 0, 1, 1, 0, 0, 1], bool)
SAID = np.array([0, 1, 0, 1, 0, 0, 0, 1], bool)


def test_point_metrics_are_those_worked_out_by_hand() -> None:
    assert confusion(TRUTH, SAID) == {
        "true_negative": 4,
        "false_positive": 1,
        "false_negative": 1,
        "true_positive": 2,
    }
    values = point_metrics(TRUTH, SAID, beta=2.0)
    assert values["accuracy"] == pytest.approx(6 / 8)
    assert values["precision"] == values["recall"] == pytest.approx(2 / 3)
    assert values["specificity"] == pytest.approx(4 / 5)
    assert values["f1"] == values["f_beta"] == pytest.approx(2 / 3)


def test_without_anomalies_and_alarms_shares_are_undefined_and_accuracy_is_not() -> None:
    nothing = np.zeros(5, bool)
    values = point_metrics(nothing, nothing)
    assert values["accuracy"] == values["specificity"] == 1.0
    assert all(math.isnan(values[name]) for name in ("precision", "recall", "f1"))
    assert all(math.isnan(value) for value in rank_metrics(nothing, np.arange(5.0)).values())
    assert curves(nothing, np.arange(5.0))["recall"] == []


def test_rank_metrics_name_the_best_threshold() -> None:
    scores = np.array([0, 5, 1, 4, 6, 0, 1, 7.0])
    values = rank_metrics(TRUTH, scores, buffer=0)
    assert values["best_threshold"] == 4.0
    assert values["best_f1"] == pytest.approx(6 / 7)
    assert values["roc_auc"] == pytest.approx(14 / 15)
    assert values["average_precision"] == pytest.approx((1 + 1 + 3 / 4) / 3)


def test_curves_of_many_samples_are_thinned_and_keep_their_ends() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(20_000) < 0.05
    lines = curves(truth, rng.normal(size=20_000) + truth, points=200)
    assert 50 < len(lines["recall"]) <= 200
    assert (lines["recall"][0], lines["recall"][-1]) == (0.0, 1.0)
    assert (lines["false_positive_rate"][0], lines["false_positive_rate"][-1]) == (0.0, 1.0)


def test_wilsons_interval_is_the_published_one() -> None:
    assert wilson(8, 10) == pytest.approx((0.4901, 0.9433), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == 1.0


def test_the_classification_report_names_both_classes_even_where_one_is_absent() -> None:
    report = classification_report(np.zeros(4, bool), np.zeros(4, bool))
    assert report["normal"]["f1-score"] == 1.0
    assert report["anomaly"]["support"] == 0.0


def test_errors_are_counted_only_where_something_was_expected() -> None:
    observed = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    expected = np.array([[np.nan, np.nan], [2.0, 4.0], [8.0, 6.0]])
    values = error_metrics(observed, expected, ["a", "b"])
    assert (values["mse"], values["mae"], values["samples"]) == (2.5, 1.0, 2)
    assert values["features"] == {"a": {"mse": 5.0, "mae": 2.0}, "b": {"mse": 0.0, "mae": 0.0}}
    assert error_metrics(observed, np.full((3, 2), np.nan), ["a", "b"])["samples"] == 0


def test_a_distribution_has_moments_quantiles_and_bands_by_class() -> None:
    values = np.array([0.0, 1.0, 2.0, 3.0, np.nan])
    truth = np.array([0, 0, 0, 1, 1], bool)
    parts = by_class(values, truth, bands=(1.0, 3.0))
    assert (parts["all"]["count"], parts["all"]["mean"], parts["all"]["max"]) == (4, 1.5, 3.0)
    assert parts["all"]["quantiles"]["0.5"] == 1.5
    assert [band["share"] for band in parts["all"]["bands"]] == [0.25, 0.5, 0.25]
    assert (parts["normal"]["count"], parts["anomaly"]["count"]) == (3, 1)
    assert distribution(np.array([np.nan]))["count"] == 0


def test_alarms_within_the_gap_are_one_and_each_anomaly_is_found_once() -> None:
    anomalies = [(10, 20), (50, 60)]
    alarms = [(5, 9), (12, 13), (17, 18), (70, 71)]
    apart = match(anomalies, alarms).body()
    assert (apart["found"], apart["alarms"], apart["false"], apart["missed"]) == (1, 4, 3, 1)
    merged = match(anomalies, alarms, gap=4).body()
    assert (merged["found"], merged["alarms"]) == (1, 2)
    assert merged["precision"] == merged["recall"] == merged["f1"] == 0.5
    late = match(anomalies, alarms, gap=4, grace=10)
    assert (late.found, late.delays) == (2, [0, 20])


def test_one_long_alarm_finds_one_anomaly() -> None:
    assert match([(0, 1), (5, 6), (9, 9)], [(0, 9)]).found == 1


def test_stretches_of_flags_carry_their_times() -> None:
    flags = np.array([1, 1, 0, 0, 1], bool)
    assert stretches(flags) == [(0, 1), (4, 4)]
    assert stretches(flags, np.array([10, 20, 30, 40, 50])) == [(10, 20), (50, 50)]
    assert stretches(np.zeros(0, bool)) == []
    assert merge([(5, 6), (0, 3)], gap=1) == [(0, 3), (5, 6)]


def test_delays_are_summed_up_and_nothing_found_has_none() -> None:
    summary = delay_summary([0, 10, 20])
    assert (summary["mean"], summary["median"], summary["max"]) == (10, 10, 20)
    assert math.isnan(delay_summary([])["median"])


def test_recall_by_magnitude_leaves_out_empty_bins() -> None:
    rows = recall_by_magnitude([0.5, 2.0, 2.5, 9.0], [False, True, False, True], [1, 3, 5])
    assert [(row["from"], row["to"], row["found"], row["count"]) for row in rows] == [
        (None, 1.0, 0, 1),
        (1.0, 3.0, 1, 2),
        (5.0, None, 1, 1),
    ]


def test_vus_of_a_hundred_thousand_samples_takes_well_under_a_second() -> None:
    rng = np.random.default_rng(1)
    truth = np.zeros(100_000, bool)
    for start in rng.integers(0, 99_000, 300):
        truth[start : start + 30] = True
    scores = rng.normal(size=len(truth)) + truth
    started = time.perf_counter()
    value = vus_pr(truth, scores)
    assert time.perf_counter() - started < 1.0
    assert 0.2 < value < 0.6


def test_vus_refuses_arrays_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match="same length"):
        vus_pr(np.zeros(3, bool), np.zeros(4))
