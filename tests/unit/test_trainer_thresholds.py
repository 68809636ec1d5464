"""Each rule against a result worked out by other means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

from stream_detector.config import ConfigError
from stream_detector.core.levels import just_above
from tests.unit.trainer_cases import fleet, series
from trainer.calibrate import RunScores, calibrate, experts_of
from trainer.config import Calibration, ExpertRule, Split, TrainerConfig
from trainer.config.threshold import ScoreRule, ThresholdChoice, Vote
from trainer.data import DataError
from trainer.runs import split
from trainer.scaling import fit_scaling
from trainer.scored import About, Scored
from trainer.thresholds import SeriesScores, choose, settled
from trainer.thresholds.extremes import LEAST_PEAKS, cluster_peaks, generalised_pareto, tail_of
from trainer.train import train

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.thresholds import Chosen


def scores(values: Any, truth: Any = None) -> SeriesScores:
    score = np.asarray(values, np.float32)
    known = np.zeros(len(score)) if truth is None else np.asarray(truth)
    return SeriesScores(score, known.astype(np.bool_))


A = [1.0, 2.0, 3.0, 4.0, 10.0]
B = [0.5, 0.5, 0.5, 0.9]
BOTH = {"a": scores(A), "b": scores(B)}


def chosen(rule: ThresholdChoice, given: dict[str, SeriesScores] | None = None) -> Chosen:
    return choose(rule, given or BOTH, ["a", "b"], "from a test")


@pytest.mark.parametrize(
    ("rule", "a", "b", "together"),
    [
        # Squares: of A 130, of B 1.56; sums: 20 and 2.4.
        (
            {"sigma": 2.0},
            4 + 2 * (130 / 5 - 4**2) ** 0.5,
            0.6 + 2 * (1.56 / 4 - 0.6**2) ** 0.5,
            22.4 / 9 + 2 * (131.56 / 9 - (22.4 / 9) ** 2) ** 0.5,
        ),
        ({"quantile": 0.75}, 4.0, 0.6, 3.0),
        ({"maximum": 1.5}, 15.0, 1.35, 15.0),
        ({"quantile": 0.75, "times": 3.0}, 12.0, 1.8, 9.0),
    ],
    ids=str,
)
def test_rules_on_normal_scores_give_what_one_works_out_by_hand(
    rule: dict[str, float], a: float, b: float, together: float
) -> None:
    own = chosen(ThresholdChoice(**rule))  # type: ignore[arg-type]  # parametrised
    assert own.each is not None
    np.testing.assert_allclose(own.each, [a, b], rtol=1e-6)
    assert own.threshold.score is None
    pooled = chosen(ThresholdChoice(**rule, scope="global"))  # type: ignore[arg-type]
    assert pooled.each is None
    assert pooled.threshold.score == pytest.approx(together, rel=1e-6)
    assert (pooled.threshold.scope, own.threshold.scope) == ("global", "series")


def test_the_score_that_was_exceeded_least_is_itself_no_alarm() -> None:
    for rule in ({"quantile": 0.9}, {"sigma": 3.0}, {"maximum": 1.0}, {"pot": 0.001}):
        given = {"a": scores(np.full(500, 0.25)), "b": scores(B)}
        own = chosen(ThresholdChoice(**rule), given)  # type: ignore[arg-type]  # by name
        assert own.each is not None
        assert own.each[0] == just_above(np.array(0.25)) > 0.25


def test_an_error_is_the_score_as_given_whatever_the_scope() -> None:
    found = chosen(ThresholdChoice(error=0.75))
    assert (found.threshold.score, found.each) == (0.75, None)
    assert "set directly, for all series: 0.75; from a test" in found.threshold.provenance


def test_a_level_stays_a_level() -> None:
    found = chosen(ThresholdChoice(level=4.0))
    assert (found.threshold.method, found.threshold.value) == ("level", 4.0)
    assert (found.threshold.score, found.each) == (None, None)


def test_labelled_anomalies_are_no_normal_scores() -> None:
    given = {"a": scores(A, [0, 0, 0, 0, 1]), "b": scores(B)}
    found = chosen(ThresholdChoice(maximum=1.0), given)
    assert found.each is not None
    assert found.each.tolist() == just_above(np.array([4.0, 0.9])).tolist()


def test_a_series_without_scores_has_none_of_its_own_and_no_scores_at_all_is_an_error() -> None:
    found = choose(ThresholdChoice(maximum=1.0), {"a": scores(A)}, ["b", "a"], "from a test")
    assert found.each is not None
    assert np.isnan(found.each).tolist() == [True, False]
    for scope in ("series", "global"):
        rule = ThresholdChoice(maximum=1.0, scope=scope)
        with pytest.raises(DataError, match="needs scores of normal samples, and found none from"):
            chosen(rule, {"a": scores(A, np.ones(5))})


def f_beta_at(limit: float, score: NDArray[Any], truth: NDArray[Any], beta: float) -> float:
    above = score >= limit
    tp, fp = float((above & truth).sum()), float((above & ~truth).sum())
    fn = float((~above & truth).sum())
    return (1 + beta**2) * tp / ((1 + beta**2) * tp + beta**2 * fn + fp)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_f_beta_is_the_best_that_any_score_gives(beta: float) -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(400) < 0.1
    score = (rng.normal(size=400) + 1.5 * truth).round(2).astype(np.float32)
    rule = ThresholdChoice(f_beta=beta, scope="global")
    found = chosen(
        rule, {"a": scores(score[:150], truth[:150]), "c": scores(score[150:], truth[150:])}
    )
    by_all = {float(limit): f_beta_at(limit, score, truth, beta) for limit in np.unique(score)}
    assert found.threshold.score is not None
    assert by_all[found.threshold.score] == pytest.approx(max(by_all.values()))
    above = score >= np.float32(found.threshold.score)
    precision, recall = truth[above].mean(), above[truth].mean()
    assert f"precision {precision:.3f} and recall {recall:.3f}" in found.threshold.provenance


def test_a_larger_beta_never_chooses_a_higher_score() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(3000) < 0.1
    given = {"a": scores(rng.normal(size=3000) + truth, truth)}
    limits = [
        chosen(ThresholdChoice(f_beta=beta, scope="global"), given).threshold.score
        for beta in (0.25, 0.5, 1.0, 2.0, 4.0)
    ]
    assert limits == sorted(limits, reverse=True)  # type: ignore[type-var]  # none is None
    assert limits[0] != limits[-1]


def test_a_series_without_anomalies_gets_the_best_of_all_and_no_labels_are_an_error() -> None:
    given = {"a": scores([1, 2, 3, 9, 8], [0, 0, 0, 1, 1]), "b": scores([1, 2, 7.0])}
    found = chosen(ThresholdChoice(f_beta=1.0), given)
    assert found.each is not None
    assert found.each.tolist() == [8.0, 8.0]
    with pytest.raises(DataError, match="f_beta: needs scores of normal and anomalous labelled"):
        chosen(ThresholdChoice(f_beta=1.0))


def test_samples_right_after_an_anomaly_are_left_out() -> None:
    n = 10
    truth = np.zeros(n, np.bool_)
    truth[3:5] = True
    counts = np.ones(n, np.bool_)
    counts[0] = False
    score = np.arange(n, dtype=np.float32)
    score[1] = np.nan
    about = About(
        version="v", features=["x"], series=["a", "empty", "b"], intervals=[1.0] * 3, days=1.0,
        grace=2, events=0, labels="a test",
    )  # fmt: skip
    wide, exact = np.zeros((n, 1), np.float32), np.zeros((n, 1))
    given = Scored(
        about, np.repeat([0, 2], [8, 2]), np.arange(n), score, score, np.ones(n), truth, truth,
        counts, exact, wide, wide,
    )  # fmt: skip
    found = settled(given)
    assert list(found) == ["a", "b"]
    assert found["a"].score.tolist() == [2.0, 3.0, 4.0, 7.0]
    assert found["a"].truth.tolist() == [False, True, True, False]
    assert found["b"].score.tolist() == [8.0, 9.0]


@pytest.mark.parametrize(
    "law",
    [stats.expon(), stats.norm(), stats.genpareto(0.2), stats.genpareto(-0.2)],
    ids=lambda law: f"{law.dist.name}{law.args}",
)
def test_peaks_over_threshold_finds_quantiles_that_were_never_seen(law: Any) -> None:
    limits = [
        tail_of([law.rvs(20_000, random_state=seed)]).exceeded_with(1e-5) for seed in range(40)
    ]
    true = law.isf(1e-5)
    assert np.median(limits) == pytest.approx(true, rel=0.06)
    assert np.mean(np.abs(np.array(limits) / true - 1) < 0.3) > 0.85


def test_the_fit_agrees_with_maximum_likelihood_on_many_excesses() -> None:
    for shape in (-0.2, 0.0, 0.3):
        excess = stats.genpareto.rvs(shape, scale=2.0, size=8000, random_state=1)
        mine = generalised_pareto(excess)
        theirs = stats.genpareto.fit(excess, floc=0.0)
        assert mine == pytest.approx((theirs[0], theirs[2]), abs=0.06)
        far = stats.genpareto.isf(1e-3, theirs[0], scale=theirs[2])
        assert stats.genpareto.isf(1e-3, mine[0], scale=mine[1]) == pytest.approx(far, rel=0.12)


def test_excursions_above_the_threshold_come_as_often_as_promised_where_scores_are_dependent() -> (
    None
):
    def walk(n: int, seed: int) -> NDArray[np.float64]:
        """Log-normal, autocorrelated over about 50 samples."""
        shocks = np.random.default_rng(seed).normal(size=n) * (1 - 0.98**2) ** 0.5
        found = np.empty(n)
        last = 0.0
        for i, shock in enumerate(shocks.tolist()):
            last = 0.98 * last + shock
            found[i] = last
        return np.exp(0.5 * found)

    fresh = walk(400_000, 99)
    rates = []
    for seed in range(8):
        limit = tail_of([walk(20_000, seed)]).exceeded_with(2e-4)
        above = np.flatnonzero(fresh > limit)
        rates.append(((np.diff(above) >= 60).sum() + 1) / len(fresh))
    assert 1e-4 < np.median(rates) < 4e-4


def test_a_few_peaks_are_taken_for_an_exponential_tail() -> None:
    run = stats.expon.rvs(size=600, random_state=0)
    tail = tail_of([run])
    assert tail.peaks < LEAST_PEAKS
    over = run[run > tail.begin] - tail.begin
    assert tail.shape == 0.0
    assert tail.scale == pytest.approx(over.mean())
    by_hand = tail.begin + over.mean() * np.log(tail.peaks / 600 / 1e-4)
    assert tail.exceeded_with(1e-4) == pytest.approx(by_hand)


def test_a_bounded_tail_never_ends_before_the_largest_score_that_was_seen() -> None:
    made = 0
    for seed in range(200):
        excess = np.random.default_rng(seed).beta(1.0, 3.0, size=LEAST_PEAKS)
        shape, scale = generalised_pareto(excess)
        end = -scale / shape if shape < 0 else np.inf
        assert end >= excess.max() * (1 - 1e-12)
        made += end == pytest.approx(excess.max(), rel=1e-9)
    assert made, "the moments alone would have put no end too low, and the test says nothing"


def test_one_excursion_is_one_peak_and_independent_scores_are_nearly_all_their_own() -> None:
    quiet = np.zeros(2000)
    for start in (100, 700, 1500):
        quiet[start : start + 20] = [*range(1, 11), *range(10, 0, -1)]
    assert cluster_peaks(quiet, 0.5).tolist() == [10.0, 10.0, 10.0]
    run = stats.norm.rvs(size=5000, random_state=0)
    begin = float(np.quantile(run, 0.98))
    assert len(cluster_peaks(run, begin)) > 0.85 * (run > begin).sum()
    assert len(cluster_peaks(run, run.max())) == 0


def test_a_probability_that_peaks_exceed_already_gives_where_the_tail_begins() -> None:
    tail = tail_of([stats.expon.rvs(size=3000, random_state=0)])
    assert tail.exceeded_with(0.5) == tail.begin


def test_a_vote_of_two_of_three_is_the_middle_one() -> None:
    rules = [ScoreRule(maximum=1.0), ScoreRule(error=5.0), ScoreRule(quantile=0.5)]
    found = chosen(ThresholdChoice(vote=Vote(least=2, of=rules)))
    assert found.each is not None
    assert found.each.tolist() == [5.0, just_above(np.array(0.9))]
    assert "2 of 3 agree (1 times the largest; set directly; quantile 0.5)" in (
        found.threshold.provenance
    )


def held_out(seed: int = 0) -> NDArray[np.float32]:
    return np.exp(np.random.default_rng(seed).normal(size=(3000, 2))).astype(np.float32)


EXPERTS = experts_of(
    {1: ["reconstruction", "newest"]},
    [ExpertRule(name="reconstruction"), ExpertRule(name="newest")],
)


def calibrated(runs: list[RunScores], rule: ThresholdChoice) -> Any:
    data = [series(f"s{i}", np.arange(200.0)) for i in range(2)]
    scaling = fit_scaling(split(data, Split()).train, 2, "standard")
    return calibrate(runs, EXPERTS, data, scaling, Calibration(threshold=rule))


def test_the_bundle_gets_the_scores_that_the_engine_would_have_seen() -> None:
    raw = held_out()
    result = calibrated([RunScores(1, raw)], ThresholdChoice(maximum=1.0))
    weights = [expert.weight for expert in result.experts]
    largest = (raw * np.array(weights, np.float32)).sum(axis=1).max()
    assert np.isnan(result.series.score_threshold[0])
    assert result.series.score_threshold[1] == pytest.approx(largest, rel=1e-6)
    assert "3000 held-out windows of 1 series, none of them fitted" in result.threshold.provenance


def test_labelled_anomalies_among_held_out_runs_choose_f_beta_and_teach_no_level() -> None:
    raw, truth = held_out(), np.zeros(3000, np.bool_)
    raw[1000:1100] *= 50
    truth[1000:1100] = True
    clean = calibrated([RunScores(0, raw[~truth])], ThresholdChoice(level=3.0))
    result = calibrated([RunScores(0, raw, truth)], ThresholdChoice(f_beta=1.0))
    assert result.levels == clean.levels
    assert result.windows == 2900
    fused = raw @ np.array([expert.weight for expert in result.experts], np.float32)
    limit = result.series.score_threshold[0]
    assert f_beta_at(limit, fused, truth, 1.0) > 0.9


def test_fit_refuses_f_beta_before_it_spends_time_on_a_model() -> None:
    rule = ThresholdChoice(vote=Vote(least=1, of=[ScoreRule(f_beta=1.0), ScoreRule(error=1.0)]))
    with pytest.raises(ConfigError, match="f_beta needs labels") as error:
        train(fleet(400), TrainerConfig(calibration=Calibration(threshold=rule)))
    assert "\n" not in str(error.value)
