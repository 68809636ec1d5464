"""Laws of the measures, and VUS-PR against a slow implementation that follows the definition."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trainer.metrics import curves, point_metrics, rank_metrics, wilson
from trainer.metrics.events import match, merge, stretches
from trainer.metrics.vus import vus_pr

if TYPE_CHECKING:
    from numpy.typing import NDArray

sizes = st.integers(2, 120)
intervals = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 12)).map(lambda p: (p[0], p[0] + p[1])),
    max_size=12,
)


@st.composite
def judged(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Labels with both classes, and scores of which some are equal."""
    n = draw(sizes)
    truth = draw(arrays(np.bool_, n))
    truth[0], truth[-1] = True, False
    return truth, draw(arrays(np.int64, n, elements=st.integers(-8, 8))).astype(np.float64)


def slow_vus_pr(
    labels: NDArray[np.bool_], scores: NDArray[np.float64], buffer: int, thresholds: int
) -> float:
    """Width by width, threshold by threshold, sample by sample."""
    n, anomalies = len(labels), stretches(labels)
    ordered = sorted(scores.tolist(), reverse=True)
    areas = []
    for width in range(buffer + 1):
        half = width // 2
        soft = labels.astype(np.float64)
        for first, last in anomalies:
            for distance in range(1, half + 1):
                weight = math.sqrt(1 - distance / width)
                if first - distance >= 0:
                    soft[first - distance] += weight
                if last + distance < n:
                    soft[last + distance] += weight
        soft = np.minimum(soft, 1)
        grown: list[tuple[int, int]] = []
        for first, last in anomalies:
            if grown and grown[-1][1] >= first - half:
                grown[-1] = (grown[-1][0], last + half)
            else:
                grown.append((max(first - half, 0), last + half))
        area = before = 0.0
        for step in np.linspace(0, n - 1, thresholds).astype(int):
            predicted = scores >= ordered[step]
            mass = float((soft * predicted).sum())
            wanted = float(np.where(labels, 1.0, soft * predicted).sum())
            touched = sum(predicted[first : last + 1].any() for first, last in grown)
            recall = min(mass / ((labels.sum() + wanted) / 2), 1) * touched / len(grown)
            area += (recall - before) * mass / predicted.sum()
            before = recall
        areas.append(area)
    return float(np.mean(areas))


@given(judged(), st.integers(0, 24), st.integers(2, 40))
@settings(max_examples=60, deadline=None)
def test_vus_pr_is_what_its_definition_gives(
    case: tuple[NDArray[np.bool_], NDArray[np.float64]], buffer: int, thresholds: int
) -> None:
    truth, scores = case
    fast = vus_pr(truth, scores, buffer=buffer, thresholds=thresholds)
    assert fast == pytest.approx(slow_vus_pr(truth, scores, buffer, thresholds), abs=1e-9)


@given(judged())
@settings(deadline=None)
def test_measures_of_ranks_lie_between_0_and_1_and_ignore_how_scores_are_scaled(
    case: tuple[NDArray[np.bool_], NDArray[np.float64]],
) -> None:
    truth, scores = case
    values = rank_metrics(truth, scores, buffer=10)
    bent = rank_metrics(truth, np.exp(scores / 4) + scores**3, buffer=10)
    for name in ("roc_auc", "average_precision", "vus_pr", "best_f1"):
        assert 0 <= values[name] <= 1 + 1e-12
        assert values[name] == pytest.approx(bent[name], abs=1e-9)
    lines = curves(truth, scores)
    for name in ("false_positive_rate", "true_positive_rate", "recall"):
        assert (np.diff(lines[name]) >= 0).all()


@given(judged())
@settings(deadline=None)
def test_a_perfect_answer_scores_1_and_its_opposite_0(
    case: tuple[NDArray[np.bool_], NDArray[np.float64]],
) -> None:
    truth = case[0]
    points = point_metrics(truth, truth)
    names = ("accuracy", "precision", "recall", "specificity", "f1", "f_beta")
    assert [points[name] for name in names] == [1.0] * 6
    ranks = rank_metrics(truth, truth.astype(np.float64), buffer=12)
    for name in ("roc_auc", "average_precision", "vus_pr", "best_f1"):
        assert ranks[name] == pytest.approx(1.0)
    assert rank_metrics(truth, -truth.astype(np.float64), buffer=0)["roc_auc"] == 0.0
    found = match(stretches(truth), stretches(truth)).body()
    assert (found["precision"], found["recall"], found["f1"]) == (1.0, 1.0, 1.0)
    opposite = point_metrics(truth, ~truth)
    assert (opposite["accuracy"], opposite["recall"], opposite["f1"]) == (0.0, 0.0, 0.0)


@given(arrays(np.bool_, sizes), st.data())
def test_the_f_score_lies_between_precision_and_recall(
    truth: NDArray[np.bool_], data: st.DataObject
) -> None:
    predicted = data.draw(arrays(np.bool_, len(truth)))
    values = point_metrics(truth, predicted, beta=data.draw(st.floats(0.1, 10)))
    low, high = sorted((values["precision"], values["recall"]))
    for name in ("f1", "f_beta"):
        if not (math.isnan(low) or math.isnan(high)):
            assert low - 1e-12 <= values[name] <= high + 1e-12


@given(intervals, st.integers(0, 30))
def test_merged_intervals_cover_the_same_points_lie_further_apart_and_merge_no_more(
    some: list[tuple[int, int]], gap: int
) -> None:
    merged = merge(some, gap)
    assert merge(merged, gap) == merged
    assert all(b[0] - a[1] > gap for a, b in pairwise(merged))
    assert all(any(a <= f and last <= b for a, b in merged) for f, last in some)
    ends = {point for pair in some for point in pair}
    assert {point for pair in merged for point in pair} <= ends


@given(intervals, intervals, st.integers(0, 30))
def test_matching_is_symmetric_and_merging_alarms_first_changes_nothing(
    anomalies: list[tuple[int, int]], alarms: list[tuple[int, int]], gap: int
) -> None:
    result = match(anomalies, alarms)
    mirrored = match(alarms, anomalies)
    assert result.found == mirrored.found <= min(result.anomalies, result.alarms)
    assert len(result.delays) == result.found
    assert all(delay >= 0 for delay in result.delays)
    wider = match(anomalies, alarms, gap=gap)
    assert wider.alarms <= result.alarms
    assert wider.found + (result.alarms - wider.alarms) >= result.found
    again = match(anomalies, merge(alarms, gap), gap=gap)
    assert (again.found, again.alarms) == (wider.found, wider.alarms)


@given(intervals, intervals, st.integers(0, 20))
def test_pairs_are_as_many_as_an_exhaustive_matching_finds(
    anomalies: list[tuple[int, int]], alarms: list[tuple[int, int]], grace: int
) -> None:
    truth, said = merge(anomalies), merge(alarms)
    partner: dict[int, int] = {}

    def place(one: int, tried: set[int]) -> bool:
        for j, (begin, end) in enumerate(said):
            if j not in tried and begin <= truth[one][1] + grace and truth[one][0] <= end:
                tried.add(j)
                if j not in partner or place(partner[j], tried):
                    partner[j] = one
                    return True
        return False

    most = sum(place(one, set()) for one in range(len(truth)))
    assert match(anomalies, alarms, grace=grace).found == most


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilsons_interval_holds_the_share_and_lies_within_0_and_1(hits: int, more: int) -> None:
    low, high = wilson(hits, hits + more)
    assert 0 <= low <= high <= 1
    if hits + more:
        assert low - 1e-12 <= hits / (hits + more) <= high + 1e-12
