from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream_detector.bundle import Smoothing
from stream_detector.core import levels as core
from stream_detector.core.calibration import Tail
from stream_detector.core.levels import fuse, transformed
from stream_detector.ports import Scores
from tests.unit.trainer_cases import series
from trainer.calibrate import RunScores, calibrate, experts_of, score_runs, smoothed
from trainer.config import Calibration, ExpertRule, Split
from trainer.config.threshold import ThresholdChoice
from trainer.data import DataError
from trainer.runs import split
from trainer.scaling import fit_scaling
from trainer.score_memory import usual_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.bundle import Levels, SeriesTable
    from trainer.calibrate import Calibrated


def noise(n: int, seed: int, size: float) -> NDArray[np.float32]:
    """Two experts' scores [n, 2]: log-normal, autocorrelated, of one size."""
    rng = np.random.default_rng(seed)
    log = np.zeros((n, 2))
    shocks = rng.normal(size=(n, 2))
    for i in range(1, n):
        log[i] = 0.8 * log[i - 1] + 0.6 * shocks[i]
    return (size * np.exp(log * (0.4, 0.8))).astype(np.float32)


OUTPUTS = ["reconstruction", "newest", "stuck"]
RULES = [ExpertRule(name="reconstruction"), ExpertRule(name="newest")]
BOTH = experts_of({1: OUTPUTS}, RULES)


def calibrated(scored: list[RunScores], config: Calibration | None = None) -> Calibrated:
    data = [series(f"s{i}", np.arange(200.0)) for i in range(1 + max(s.series for s in scored))]
    scaling = fit_scaling(split(data, Split()).train, len(data), "standard")
    return calibrate(scored, BOTH, data, scaling, config or Calibration())


def levels_of(result: Calibrated, raw: NDArray[np.float32], row: int) -> NDArray[np.float64]:
    levels: Levels = result.levels
    table: SeriesTable = result.series
    t = transformed(fuse(raw, "sum", [one.weight for one in result.experts]), levels)
    one = slice(row, row + 1)
    return Tail.of(table.memory[one], table.score_location[one], table.score_spread[one]).level(t)


def test_the_realised_tail_on_fresh_normal_data_is_near_the_promised_one() -> None:
    sizes = (1e-4, 1.0, 1e3)
    result = calibrated([RunScores(i, noise(20_000, i, size)) for i, size in enumerate(sizes)])
    for row, size in enumerate(sizes):
        fresh = levels_of(result, noise(200_000, 100 + row, size), row)
        for level in (1.0, 2.0, 3.0):
            realised = float((fresh >= level).mean())
            assert 0.6 < realised / 10.0**-level < 1.6, (row, level, realised)


def test_beyond_what_was_seen_the_tail_is_extrapolated_sensibly() -> None:
    result = calibrated([RunScores(0, noise(6000, 0, 1.0))])
    fresh = levels_of(result, noise(400_000, 5, 1.0), 0)
    # An exponential tail beyond four days of scores: these, the logarithm of a sum, fall faster.
    assert 0.05 < float((fresh >= 3.5).mean()) / 10.0**-3.5 < 3


def test_experts_are_weighted_so_that_their_tails_count_alike() -> None:
    raw = noise(20_000, 0, 1.0)
    raw[:, 1] *= 50
    first, second = calibrated([RunScores(0, raw)]).experts
    reach = np.quantile(raw, 0.99, axis=0) * (first.weight, second.weight)
    assert first.weight == 1.0
    assert reach[0] == pytest.approx(reach[1], rel=0.01)


def test_one_held_out_anomaly_does_not_hide_the_next_one() -> None:
    raw = noise(4000, 0, 1.0)
    clean = calibrated([RunScores(0, raw)])
    spoilt = raw.copy()
    spoilt[2000:2060] *= 1000
    level = levels_of(calibrated([RunScores(0, spoilt)]), spoilt, 0)[2000:2060].max()
    assert level > 4
    assert levels_of(clean, spoilt, 0)[2000:2060].max() > level


def test_a_series_without_held_out_scores_gets_the_fleets_usual_ones() -> None:
    data = [series(f"s{i}", np.arange(200.0)) for i in range(2)]
    scaling = fit_scaling(split(data, Split()).train, 2, "standard")
    scored = [RunScores(0, noise(3000, 0, 1.0))]
    result = calibrate(scored, BOTH, data, scaling, Calibration())
    assert result.series.score_location[1] == result.levels.location
    assert result.series.score_spread[1] == result.levels.spread
    assert result.series.interval.tolist() == [60_000, 60_000]


def test_faulty_scores_are_left_out_and_none_at_all_is_an_error() -> None:
    raw = noise(3000, 0, 1.0)
    raw[5] = np.nan
    assert calibrated([RunScores(0, raw)]).windows == 2999
    with pytest.raises(DataError, match="no held-out window"):
        calibrated([RunScores(0, raw[5:6])])


def test_scores_that_never_change_still_give_levels() -> None:
    result = calibrated([RunScores(0, np.zeros((500, 2), np.float32))])
    assert np.isfinite(levels_of(result, np.ones((5, 2), np.float32), 0)).all()
    assert min(result.levels.anchor, result.levels.excess, result.levels.spread) > 0


def test_a_cluster_of_overlapping_windows_counts_once_in_what_is_usual() -> None:
    z = np.zeros(3000)
    z[[500, 1500, 2500]] = 4.0  # three peaks, each alone
    z[1000:1090] = 4.0  # one more, in 90 windows
    fleet = usual_scores({0: z + np.random.default_rng(0).normal(size=3000) / 100}, 1).fleet
    assert fleet["anchor"] < 4.0 / fleet["spread"]
    assert fleet["rate"] < 20 / 3000


class Counting:
    """A scorer whose score is the window's newest value and its mean."""

    rungs = (256,)

    def score(
        self,
        scale: int,
        windows: NDArray[np.float32],
        center: NDArray[np.float32],
        spread: NDArray[np.float32],
    ) -> Scores:
        assert scale in (1, 4)
        newest = windows[:, -1, 0]
        return Scores(np.stack([newest, windows.mean(axis=(1, 2))], 1), center, spread)


def test_a_coarse_scale_holds_its_score_between_two_windows() -> None:
    data = [series("s", np.arange(2000.0))]
    parts = split(data, Split(train=0.5, validation=0.1))
    scaling = fit_scaling(parts.train, 1, "standard")
    experts = experts_of({1: OUTPUTS, 4: OUTPUTS}, RULES)
    (scored,) = score_runs(Counting(), experts, parts.held_out, scaling, 10_000)
    run = parts.held_out[0]
    fine = scored.raw[:, 0] + scaling.center.item()
    assert np.diff(fine).tolist() == pytest.approx([1.0] * (len(fine) - 1))
    assert fine[0] == run.first + 4 * 60 - 1
    coarse = scored.raw[:, 2] + scaling.center.item()
    held = 4 * ((fine + 1) // 4) - 4 + 1.5
    np.testing.assert_allclose(coarse, held)


def test_runs_are_scored_from_the_first_window_of_the_finest_scale_where_that_is_asked() -> None:
    data = [series("s", np.arange(300.0))]
    runs = split(data, Split(order="whole")).train
    scaling = fit_scaling(runs, 1, "standard")
    wanted = experts_of({1: ["newest"], 4: ["newest"]}, [ExpertRule(name="newest")])
    (usual,) = score_runs(Counting(), wanted, runs, scaling, 1000)
    (early,) = score_runs(Counting(), wanted, runs, scaling, 1000, early=True)
    assert (len(usual.raw), len(early.raw)) == (61, 241)
    assert np.array_equal(early.raw[-61:], usual.raw)
    assert np.isfinite(early.raw[:, 0]).all()
    assert np.isnan(early.raw[:-61, 1]).all()


def test_smoothing_is_causal_and_begins_with_what_there_is() -> None:
    scores = np.array([4.0, 0.0, 2.0, 6.0], np.float32)
    assert smoothed(scores, Smoothing(kind="mean", n=2)).tolist() == [4.0, 2.0, 1.0, 4.0]
    assert smoothed(scores, Smoothing(kind="max", n=3)).tolist() == [4.0, 4.0, 4.0, 6.0]
    assert smoothed(scores, Smoothing(kind="median", n=3)).tolist() == [4.0, 2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    "rule", [{"level": 4.0}, {"quantile": 0.999}, {"sigma": 5.0}, None], ids=str
)
def test_the_threshold_says_where_it_comes_from(rule: dict[str, float] | None) -> None:
    config = Calibration(threshold=ThresholdChoice(**rule) if rule else None)  # type: ignore[arg-type]  # parametrised
    threshold = calibrated([RunScores(0, noise(900, 0, 1.0))], config).threshold
    assert (threshold.method, threshold.value) == (*rule.items(),)[0] if rule else True
    assert "900 held-out windows of 1 series" in threshold.provenance


def test_a_series_of_larger_errors_is_as_unusual_where_multiples_are_fused() -> None:
    raw = noise(4000, 3, 2.0)
    result = calibrated([RunScores(0, raw)], Calibration(tail=0.95, shape="ratio"))
    for one, scores in zip(result.experts, raw.T.astype(np.float64), strict=True):
        assert one.tail is not None
        above = scores[scores > np.quantile(scores, 0.95)]
        mean = above.mean() - np.quantile(scores, 0.95)
        assert core.excess_of(np.array([mean], np.float32), one.tail) == pytest.approx(1.0)

    def t(times: float) -> NDArray[np.float64]:
        columns = zip(raw.T * np.float32(times), result.experts, strict=True)
        excess = np.column_stack([core.excess_of(scores, one.tail) for scores, one in columns])
        score = core.fuse(excess, "sum", [one.weight for one in result.experts])
        return core.transformed(score, result.levels)

    assert t(9.0) - t(1.0) == pytest.approx(np.log(9.0), abs=1e-4)


def test_a_logarithmic_tail_keeps_the_order_and_is_ln_2_where_it_begins() -> None:
    raw = noise(4000, 3, 2.0)
    config = Calibration(tail=0.99, shape="log", fusion="l2")
    result = calibrated([RunScores(0, raw)], config)
    assert result.levels.transform == "identity"  # a logarithm already
    for one, scores in zip(result.experts, raw.T, strict=True):
        assert one.tail is not None
        assert one.tail.at == pytest.approx(float(np.quantile(scores.astype(float), 0.99)))
        ordered = np.sort(scores)
        excess = core.excess_of(ordered, one.tail)
        assert (np.diff(excess) >= 0).all()
        at = np.array([one.tail.at], np.float32)
        assert core.excess_of(at, one.tail).item() == pytest.approx(np.log(2), rel=1e-6)
