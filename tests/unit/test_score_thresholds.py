"""Rules that fix a score: when the engine raises an alarm, and what it says of it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.arrays import SeriesTable
from stream_detector.bundle import BundleError, Levels, Threshold, load_bundle
from stream_detector.core.calibration import MATURE, Tail, prior
from stream_detector.core.engine import Engine
from stream_detector.core.levels import just_above
from stream_detector.core.policy import HOUR, Policy
from stream_detector.core.serving import Serving
from stream_detector.records import Kind, Partition, Status
from tests.fakes import PARTITION, batch, model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stream_detector.core.engine import Result
    from stream_detector.records import AnomalyEvent, Batch

STEP = 60_000
KNOWN = {"s": (0.0, 1.0)}
ERROR = Threshold(method="error", value=4.0, score=4.0)


def engine(policy: Policy | None = None, **options: object) -> Engine:
    made = Engine("test", policy or Policy(), detailed=True)
    made.serve("g", model(**options))  # type: ignore[arg-type]
    return made


def noise(count: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=count)


def samples(values: NDArray[np.float64], start: int = 0, series: str = "s") -> Batch:
    times = np.arange(start, start + len(values)) * STEP
    return batch([series] * len(values), times, values, first_offset=start)


def opened(result: Result) -> list[AnomalyEvent]:
    return [e for e in result.events if (e.kind, e.status) == (Kind.ANOMALY, Status.OPENED)]


def scores(values: NDArray[np.float64], **options: object) -> NDArray[np.float32]:
    """[n] fused scores of a stream; NaN before the first."""
    [detail] = engine(Policy(level=90.0), **options).process([samples(values)]).details
    return detail.score


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    growth=st.sampled_from([0.0, 0.004]),
    series=st.sampled_from(["s", "stranger"]),
    scales=st.sampled_from([(1,), (3,)]),
    share=st.floats(0.0, 1.0),
)
def test_an_alarm_is_raised_at_exactly_the_declared_score_whatever_was_learnt(
    seed: int, growth: float, series: str, scales: tuple[int, ...], share: float
) -> None:
    values = noise(700, seed) * np.exp(growth * np.arange(700))
    whole = samples(values, series=series)
    # The location that the engine follows, and with it the level of a score, moves all the time.
    [seen] = engine(Policy(level=90.0), known=KNOWN, scales=scales).process([whole]).details
    bound = float(np.nanquantile(seen.score[400:], share, method="nearest"))
    made = engine(Policy(error=bound, min_length=1), known=KNOWN, scales=scales)
    result = made.process([whole])
    [detail] = result.details
    np.testing.assert_array_equal(detail.score, seen.score)
    judged = np.isfinite(detail.score)
    level = result.verdicts[0].level.astype(np.float64)
    above = (level >= detail.threshold)[judged]
    np.testing.assert_array_equal(above, detail.score[judged] >= np.float32(bound))
    for event in opened(result):
        assert event.score >= np.float32(bound)
        assert event.level >= event.threshold
    never = Policy(error=float(just_above(np.nanmax(seen.score))))
    assert not opened(engine(never, known=KNOWN, scales=scales).process([whole]))


def test_the_next_smaller_score_raises_no_alarm() -> None:
    values = np.append(noise(300), 9.0)
    last = scores(values, known=KNOWN)[-1]
    for bound, alarms in ((float(last), 1), (float(just_above(last)), 0)):
        result = engine(Policy(error=bound), known=KNOWN).process([samples(values)])
        assert len(opened(result)) == alarms
        assert [e.at for e in opened(result)] == [300 * STEP] * alarms


def test_an_alarm_teaches_nothing_and_a_score_below_the_bound_does() -> None:
    values = np.concatenate([noise(300), np.full(180, 3.0)])
    usual, alarmed = (
        engine(Policy(error=bound), known=KNOWN) for bound in (1e6, scores(values)[-1])
    )
    for made in (usual, alarmed):
        made.process([samples(values)])
    location = [made._slabs["g", PARTITION].location[0] for made in (usual, alarmed)]
    assert location[0] > location[1]


def test_a_series_raises_nothing_before_it_is_mature_however_large_its_score() -> None:
    wild = np.append(noise(170), 500.0)
    assert not opened(engine(Policy(error=1.0)).process([samples(wild)]))
    assert MATURE > 50


@pytest.mark.parametrize(
    "threshold",
    [
        Threshold(method="error", value=9.0, score=9.0),
        Threshold(method="pot", scope="global", score=9.0),
    ],
)
def test_one_score_for_all_series_holds_for_series_that_the_bundle_does_not_know(
    threshold: Threshold,
) -> None:
    values = np.append(noise(400), 30.0)
    for series in ("s", "stranger"):
        made = engine(known=KNOWN, threshold=threshold)
        result = made.process([samples(values, series=series)])
        assert [e.at for e in opened(result)] == [400 * STEP]
        assert made._slabs["g", PARTITION].bound[0] == 9.0


def test_each_series_own_score_is_its_own_and_others_get_the_usual_level() -> None:
    known = {"low": (0.0, 1.0), "high": (0.0, 1.0), "middle": (0.0, 1.0), "unheld": (0.0, 1.0)}
    # z of the first three: 1, 3 and 2 spreads above the location.
    bounds = [*np.exp([0.3, 0.9, 0.6]).tolist(), np.nan]
    threshold = Threshold(method="quantile", value=0.999)
    served = model(known=known, threshold=threshold, score_threshold=bounds)
    serving, slab = Serving(served, Policy()), Serving(served, Policy()).slab()
    for name in known:
        serving.welcome(slab, slab.add(name))
    serving.learnt(slab, np.array([slab.add("stranger")]))
    np.testing.assert_allclose(slab.bound[:5], [*bounds[:3], np.inf, np.inf], rtol=1e-6)
    usual = -np.log10(0.03)  # z = 2 is the anchor
    np.testing.assert_allclose(slab.wanted[:5], [np.nan] * 3 + [usual] * 2, rtol=1e-6)


def test_sigma_is_the_mean_and_so_many_deviations_of_the_held_out_scores() -> None:
    # The mean is 1 and the deviation 0.3; ln(1.6) / 0.3 spreads is the usual level of that score.
    serving = Serving(model(known=KNOWN), Policy(sigma=2.0))
    assert serving._bound[0] == just_above(np.array(1.6))
    expected = np.interp(np.log(1.6) / 0.3, [0, 2], [np.log10(2), -np.log10(0.03)])
    assert serving._usual_level == pytest.approx(expected, rel=1e-6)


def test_the_policy_overrules_the_scores_of_the_bundle() -> None:
    served = model(known=KNOWN, threshold=ERROR, score_threshold=[5.0])
    assert Serving(served, Policy(level=2.5))._level[0] == 2.5
    assert Serving(served, Policy(level=2.5))._bound[0] == np.inf
    assert Serving(served, Policy(error=7.0))._bound[0] == 7.0
    assert Serving(served, Policy(alarm_budget=1.0))._budget == 1.0
    assert Serving(served, Policy())._bound[0] == 4.0


def test_a_series_that_starts_a_new_life_keeps_no_score_of_its_old_one() -> None:
    policy = Policy(regime_change_after=3 * HOUR)
    values = np.concatenate([noise(150), 40 + noise(900, 1)])
    threshold = Threshold(method="quantile", value=0.999)
    made = engine(policy, known=KNOWN, threshold=threshold, score_threshold=[4.0])
    result = made.process([samples(values)])
    assert (Kind.ANOMALY, "regime_change") in {(e.kind, e.close_reason) for e in result.events}
    slab = made._slabs["g", PARTITION]
    assert slab.bound[0] == np.inf
    usual = Tail.of(prior(2.0, 0.3, 0.01, 0.0, 0.3), np.zeros(1), np.full(1, 0.3)).level(
        np.array([np.log(4)])
    )
    assert slab.wanted[0] == pytest.approx(usual[0], rel=1e-6)


def test_the_ratio_of_a_score_is_to_the_score_that_would_have_raised_an_alarm() -> None:
    values = noise(300)
    result = engine(Policy(error=4.0), known=KNOWN).process([samples(values)])
    [part] = result.scores
    fused = result.details[0].score
    np.testing.assert_allclose(part.ratio, fused[~np.isnan(fused)] / 4.0, rtol=1e-6)


def test_another_model_brings_its_own_scores_and_a_level_takes_their_place() -> None:
    made = engine(known=KNOWN, threshold=ERROR)
    made.process([samples(noise(200))])
    made.serve("g", model(version="v2", known=KNOWN, level=3.0))
    slab = made._slabs["g", PARTITION]
    assert (slab.bound[0], slab.wanted[0]) == (np.inf, 3.0)
    made.serve("g", model(version="v3", known=KNOWN, threshold=ERROR))
    assert slab.bound[0] == 4.0
    assert np.isnan(slab.wanted[0])
    result = made.process([samples(np.append(noise(80, 1), 30.0), 200)])
    [event] = opened(result)
    assert event.threshold == pytest.approx(
        serving_level(made, 4.0), rel=5e-3
    )  # as of the alarm, which has moved the edge a little


def serving_level(made: Engine, score: float) -> float:
    slab, serving = made._slabs["g", Partition("t", 0)], made._serving["g"]
    t = np.log(np.array([score]) + serving.levels.epsilon)
    return float(Tail.of(slab.memory[:1], slab.location[:1], slab.deviation[:1]).level(t)[0])


def test_a_table_with_and_without_scores_comes_back_from_its_bytes() -> None:
    for column in (None, [2.0]):
        table = model(known=KNOWN, score_threshold=column).bundle.series
        found = SeriesTable.from_bytes(table.to_bytes()).score_threshold
        assert (found is None) == (column is None)
        assert found is None or found.tolist() == column


def test_a_bundle_whose_rule_needs_no_scores_loads_without_and_another_does_not(
    tmp_path: Path,
) -> None:
    served = model(known=KNOWN).bundle
    golden = {"series.npz": served.series.to_bytes(), "golden.npz": b"-", "model-1.pt": b"-"}
    manifest = msgspec.to_builtins(served.manifest) | {"version": "v"}
    manifest["sha256"] = {name: hashlib.sha256(data).hexdigest() for name, data in golden.items()}
    folder = tmp_path / "v"
    folder.mkdir()
    for name, data in golden.items():
        (folder / name).write_bytes(data)

    def write(threshold: dict[str, object]) -> None:
        text = msgspec.json.encode(manifest | {"threshold": threshold})
        (folder / "manifest.json").write_bytes(text)

    write({"method": "sigma", "value": 3.0, "provenance": "old"})
    loaded = load_bundle(folder)
    assert loaded.manifest.threshold == Threshold(method="sigma", value=3.0, provenance="old")
    assert isinstance(loaded.manifest.levels, Levels)
    write({"method": "pot", "value": 1e-4})
    with pytest.raises(BundleError, match="lacks the scores that threshold pot chose"):
        load_bundle(folder)


def fleet(count: int, minutes: int, start: int = 0) -> Batch:
    values = np.random.default_rng(start).normal(size=count * minutes)
    names = [f"s{i}" for i in range(count)] * minutes
    times = np.repeat(np.arange(start, start + minutes), count) * STEP
    return batch(names, times.tolist(), values[:, None])


def test_series_share_the_total_budget_and_none_gets_more_than_its_own() -> None:
    policy = Policy(alarm_budget=1.0, alarm_budget_total=2.0)
    made = engine(policy)
    made.process([fleet(8, 200)])
    slab = made._slabs["g", PARTITION]
    np.testing.assert_allclose(slab.promised[slab.rows()], 2.0 / 8 / 1440, rtol=1e-6)
    made.process([fleet(16, 200, 200)])
    np.testing.assert_allclose(slab.promised[slab.rows()], 2.0 / 16 / 1440, rtol=1e-6)
    alone = engine(policy)
    alone.process([fleet(1, 200)])
    assert alone._slabs["g", PARTITION].promised[0] == pytest.approx(1.0 / 1440)


def test_a_total_budget_overrules_another_rule_of_the_bundle_and_is_split_by_share() -> None:
    served = model(known=KNOWN, threshold=Threshold(method="level", value=3.0))
    serving = Serving(served, Policy(alarm_budget_total=6.0, shares=3))
    slab = serving.slab()
    serving.census(slab, 0)
    serving.welcome(slab, slab.add("s"))
    assert slab.promised[0] == pytest.approx(2.0 / 1440)
    assert np.isnan(slab.wanted[0])
