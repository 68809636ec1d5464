"""What the births recipe generates: abnormal days, altered days, rows of channels."""

from __future__ import annotations

import numpy as np
import pytest

from stream_detector.core.policy import DAY
from trainer.data import SeriesData
from trainer.recipes import births, births_anomalies, correlated_channels
from trainer.recipes.base import Recipe
from trainer.recipes.correlated_channels import CONSTANT, KINDS, LIVE, Kind, Plant, drawn, spoilt
from trainer.recipes.labelled import Stream, accuracies


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def year() -> SeriesData:
    """Day n has the value 1000 + n, so that what was altered shows."""
    days = np.arange(365)
    return SeriesData("births", days * DAY, np.arange(1000.0, 1365.0)[:, None])


def test_abnormal_days_are_whole_amplitudes_of_fifty_to_fifty_nine_times_a_sine() -> None:
    k = np.arange(1, 2000)
    amplitude = births_anomalies.abnormal(rng(), k) / np.sin(k)
    np.testing.assert_allclose(amplitude, np.round(amplitude), atol=1e-9)
    assert (round(amplitude.min()), round(amplitude.max())) == (50, 59)


def test_jitter_adds_noise_of_its_own_to_every_day() -> None:
    added = births_anomalies.jitter(rng(), np.full(20_000, 40.0)) - 40
    assert added.std() == pytest.approx(8.0, rel=0.03)
    assert abs(np.corrcoef(added[1:], added[:-1])[0, 1]) < 0.03


def test_scaling_has_one_factor_for_all_days_and_another_each_time() -> None:
    days, draw = np.array([30.0, 40.0, 50.0]), rng()
    factors = np.array([births_anomalies.scaling(draw, days) / days for _ in range(5000)])
    assert np.ptp(factors, axis=1).max() < 1e-12
    assert factors[:, 0].mean() == pytest.approx(1.0, abs=0.03)
    assert factors[:, 0].std() == pytest.approx(0.5, rel=0.05)


def test_a_magnitude_warp_is_a_smooth_curve_of_factors() -> None:
    days = np.full(200, 40.0)
    curve = births_anomalies.magnitude_warp(rng(), days) / days
    assert np.abs(np.diff(curve, 2)).max() < 0.01
    assert np.ptp(curve) > 0.1
    draw = rng()
    first = [births_anomalies.magnitude_warp(draw, days)[0] / 40 for _ in range(3000)]
    assert np.std(first) == pytest.approx(0.3, rel=0.06)
    alone = births_anomalies.magnitude_warp(rng(), days[:1])
    assert alone[0] / 40 == pytest.approx(curve[0])


def test_a_sequence_is_two_hundred_days_after_the_year_and_all_test_days_are_normal(
    year: SeriesData,
) -> None:
    made = births.sequences(year, 3)
    assert len(made) == births.SEQUENCES * 4
    one = made[0]
    values = one.series.values[:, 0]
    assert values[: births.LEAD].tolist() == (1000 + np.arange(80, 200)).tolist()
    assert values[one.judged["normal"]].tolist() == (1000 + np.arange(200, 365)).tolist()
    assert len(one.judged["abnormal"]) == 200
    assert np.abs(values[one.judged["abnormal"]]).max() < 60
    assert set(np.diff(one.series.timestamp)) == {DAY}
    assert not np.array_equal(made[4].series.values, values[:, None])


def test_single_days_lie_apart_and_nothing_else_is_changed(year: SeriesData) -> None:
    made = births.singles(year, 3)
    assert len(made) == births.COPIES + 3 * births.ALTERED
    for one in made[:40]:
        truth = np.arange(1080.0, 1365.0)
        changed = np.flatnonzero(one.series.values[:, 0] != truth)
        (kind,) = set(one.judged) - {"normal"}
        assert changed.tolist() == one.judged[kind].tolist()
        assert changed.min() >= births.LEAD
        assert np.diff(changed).min() >= 10
        assert np.diff(changed).max() <= 20
        if "normal" in one.judged:
            assert len(one.judged["normal"]) + len(changed) == 165


def test_channels_are_correlated_wander_on_and_two_never_change() -> None:
    plant = Plant(rng(5))
    values, causes = plant.rows(rng(6), 4000)
    assert values.shape == (4000, LIVE + CONSTANT)
    assert (np.ptp(values[:, LIVE:], axis=0) == 0).all()
    pairs = np.abs(np.corrcoef(values[:, :LIVE].T))[np.triu_indices(LIVE, 1)]
    assert np.median(pairs) > 0.3
    assert pairs.max() > 0.8
    share = np.linalg.eigvalsh(np.corrcoef(values[:, :LIVE].T))
    assert share[-3:].sum() > 0.9 * LIVE  # three causes
    steps = [
        np.linalg.norm(
            (plant.rows(rng(seed), 1, 4000, causes)[0][0] - values[-1])[:LIVE] / plant.size
        )
        for seed in range(200)
    ]
    anew = [
        np.linalg.norm((plant.rows(rng(seed), 1, 4000)[0][0] - values[-1])[:LIVE] / plant.size)
        for seed in range(200)
    ]
    assert np.mean(steps) < 0.6 * np.mean(anew)


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoilt_row_is_what_its_kind_says(kind: Kind) -> None:
    values, _ = Plant(rng(5)).rows(rng(6), 2000)
    draw = rng(7)
    for row in range(100):
        found = spoilt(draw, values, row, kind)
        at = np.flatnonzero(found != values[row])
        if kind == "mixture":
            assert len(at) == 4
            assert at.max() < LIVE
            for one in at:
                assert found[one] in values[:, one]
        elif kind == "spike":
            (one,) = at
            off = abs(found[one] - values[row, one]) / values[:, one].std()
            assert one < LIVE
            assert 4 <= off <= 8
        else:
            (one,) = at
            assert one >= LIVE
            assert 0.2 <= abs(found[one] / values[row, one] - 1) <= 0.5


def test_data_sets_of_channels_share_what_is_learnt_and_have_the_rate_of_anomalies() -> None:
    learn, streams = drawn(1)
    assert len(learn) == 38_000
    assert len(streams) == correlated_channels.SETS
    for one in streams:
        assert np.array_equal(one.series.values[:120], learn.values[-120:])
        assert one.series.timestamp[120] == learn.timestamp[-1] + 60_000
        rows = np.concatenate((one.judged["normal"], one.judged["abnormal"]))
        assert sorted(rows.tolist()) == list(range(120, 2120))
        kinds = np.concatenate([one.judged[kind] for kind in KINDS])
        assert sorted(kinds.tolist()) == one.judged["abnormal"].tolist()
    assert sum(len(one.judged["abnormal"]) for one in streams) == 90
    assert [sum(len(one.judged[kind]) for one in streams) for kind in KINDS] == [30, 30, 30]
    assert not np.array_equal(streams[0].series.values[120:], streams[1].series.values[120:])
    again = drawn(1)[1][7]
    assert np.array_equal(again.series.values, streams[7].series.values)


def test_accuracy_is_the_share_of_right_verdicts_pooled_over_streams(year: SeriesData) -> None:
    streams = [
        Stream(year, {"normal": np.array([0, 1, 2]), "abnormal": np.array([4])}),
        Stream(year, {"normal": np.array([3]), "odd": np.array([5])}),
    ]
    said = np.zeros(365, np.bool_)
    said[[1, 4]] = True
    found = accuracies(streams, [said, ~said])
    assert found == {"normal_accuracy": 0.5, "abnormal_accuracy": 1.0, "odd_accuracy": 1.0}


def test_what_was_published_of_one_protocol_is_told_of_no_other() -> None:
    recipe = Recipe("r", "", (), {}, {"f1": 0.5, "a.recall": 0.7, "b.recall": 0.1})
    assert recipe.reported("a") == {"f1": 0.5, "recall": 0.7}
    assert recipe.reported("c") == {"f1": 0.5}
