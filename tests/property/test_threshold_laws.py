"""What must hold of the rules for the threshold whatever the scores are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trainer.config.threshold import ScoreRule, ThresholdChoice, Vote
from trainer.metrics import best_threshold, f_beta
from trainer.thresholds import SeriesScores, choose, vote
from trainer.thresholds.extremes import cluster_peaks, tail_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

limits = st.lists(st.floats(0, 1e6), min_size=1, max_size=9)
runs = arrays(np.float32, st.integers(1, 200), elements=st.floats(0, 1e4, width=32))
rules = st.one_of(
    st.builds(ScoreRule, error=st.floats(1e-3, 1e4)),
    st.builds(ScoreRule, sigma=st.floats(0.1, 9)),
    st.builds(ScoreRule, quantile=st.floats(0.01, 0.999)),
    st.builds(ScoreRule, maximum=st.floats(0.1, 3)),
    st.builds(ScoreRule, pot=st.floats(1e-6, 0.019)),
)


def chosen(rule: ThresholdChoice, run: NDArray[np.float32]) -> float:
    found = choose(rule, {"s": SeriesScores(run, np.zeros(len(run), np.bool_))}, ["s"], "a test")
    return float(found.each[0]) if found.each is not None else float(found.threshold.score or 0)


@given(limits)
def test_a_vote_of_one_is_the_smallest_and_a_vote_of_all_the_largest(scores: list[float]) -> None:
    assert vote(scores, 1) == min(scores)
    assert vote(scores, len(scores)) == max(scores)


@given(limits, st.floats(0, 1e6), st.data())
def test_a_score_reaches_the_vote_exactly_if_so_many_rules_agree(
    scores: list[float], score: float, data: st.DataObject
) -> None:
    least = data.draw(st.integers(1, len(scores)))
    assert (score >= vote(scores, least)) == (sum(score >= one for one in scores) >= least)


@given(st.lists(rules, min_size=2, max_size=5), runs, st.data())
def test_a_vote_lies_where_its_rules_taken_alone_say(
    given_rules: list[ScoreRule], run: NDArray[np.float32], data: st.DataObject
) -> None:
    least = data.draw(st.integers(1, len(given_rules)))
    alone = [
        chosen(ThresholdChoice(**{r.method: r.value}), run)  # type: ignore[arg-type]  # by name
        for r in given_rules
    ]
    together = chosen(ThresholdChoice(vote=Vote(least=least, of=given_rules)), run)
    assert together == sorted(alone)[least - 1]


@given(runs)
def test_no_score_of_the_held_out_data_reaches_its_maximum(run: NDArray[np.float32]) -> None:
    limit = np.float32(chosen(ThresholdChoice(maximum=1.0), run))
    assert not (run >= limit).any()


@given(runs, st.floats(0.01, 0.99))
def test_no_more_scores_reach_a_quantile_than_it_promises(
    run: NDArray[np.float32], quantile: float
) -> None:
    limit = np.float32(chosen(ThresholdChoice(quantile=quantile), run))
    assert (run >= limit).sum() <= np.ceil((1 - quantile) * len(run)) + 1e-9


@given(runs, st.floats(1e-9, 0.019), st.floats(1e-9, 0.019))
def test_a_rarer_alarm_needs_a_score_that_is_not_smaller(
    run: NDArray[np.float32], one: float, other: float
) -> None:
    tail = tail_of([run])
    rare, common = (tail.exceeded_with(p) for p in sorted((one, other)))
    assert np.isfinite(rare)
    assert tail.begin <= common <= rare


@given(runs, st.floats(0, 1e4))
def test_peaks_of_clusters_are_scores_above_and_hold_the_largest(
    run: NDArray[np.float32], begin: float
) -> None:
    peaks = cluster_peaks(run.astype(np.float64), begin)
    assert set(peaks.tolist()) <= {value for value in run.tolist() if value > begin}
    assume(len(peaks))
    assert peaks.max() == run.max()


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=60),
    st.floats(0.25, 4),
)
def test_no_other_score_has_a_better_f_beta(samples: list[tuple[bool, int]], beta: float) -> None:
    truth = np.array([label for label, _ in samples])
    scores = np.array([float(score) for _, score in samples])
    assume(truth.any() and not truth.all())
    limit, best = best_threshold(truth, scores, beta)

    def at(value: float) -> float:
        above = scores >= value
        tp, fp = int((above & truth).sum()), int((above & ~truth).sum())
        return f_beta(tp, fp, int((~above & truth).sum()), beta)

    assert best == pytest.approx(at(limit))
    assert all(at(value) <= best + 1e-9 for value in scores)
