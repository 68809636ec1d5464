from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from trainer.promise.anomalies import ANOMALIES, Injection
from trainer.promise.cases import (
    AMPLITUDE,
    CASES,
    LEARNT_DAYS,
    SECOND_HARMONIC,
    STEPS_A_DAY,
    Fleet,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

SERIES = 6


def noise(name: str, first: int, last: int) -> tuple[Fleet, NDArray[np.float64]]:
    """Days of a fleet in units of its noise, the mean of each and two harmonics taken off."""
    fleet = Fleet(CASES[name], 3, SERIES)
    fleet.block((LEARNT_DAYS + first) * STEPS_A_DAY)
    steps = (last - first) * STEPS_A_DAY
    values = fleet.block(steps) / fleet.scale
    values -= values.mean(axis=0)
    angle = 2 * np.pi * np.arange(steps)[:, None] / STEPS_A_DAY
    waves = [np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)]
    for wave in waves:
        values -= wave * (2 * (wave * values).mean(axis=0))
    return fleet, values


def lag(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = (values[1:] * values[:-1]).mean(axis=0) / (values**2).mean(axis=0)
    return result


@pytest.mark.parametrize(("name", "correlation"), [("iid", 0.0), ("season", 0.9), ("heavy", 0.9)])
def test_noise_has_a_sd_of_one_scale_and_the_correlation_of_its_case(
    name: str, correlation: float
) -> None:
    _, values = noise(name, 0, 10)
    assert values.std(axis=0) == pytest.approx(np.ones(SERIES), abs=0.2)
    assert values.std() == pytest.approx(1, abs=0.05)
    assert lag(values) == pytest.approx(np.full(SERIES, correlation), abs=0.03)


def test_a_season_repeats_itself_daily_with_its_own_phase_and_amplitude() -> None:
    fleet = Fleet(CASES["season"], 3, SERIES)
    values = fleet.block(20 * STEPS_A_DAY).reshape(20, STEPS_A_DAY, SERIES)
    day = (values.mean(axis=0) - values.mean(axis=(0, 1))) / fleet.scale
    power = fleet.amplitude**2 * (1 + SECOND_HARMONIC**2) / 2
    assert (day**2).mean(axis=0) == pytest.approx(power, rel=0.15)
    assert fleet.amplitude.min() >= AMPLITUDE[0]
    assert len(np.unique(day.argmax(axis=0))) == SERIES


def test_heavy_tails_have_shocks_that_normal_noise_never_has() -> None:
    largest = {}
    for name in ("season", "heavy"):
        _, values = noise(name, 0, 10)
        shocks = values[1:] - 0.9 * values[:-1]
        largest[name] = np.abs(shocks).max() / np.sqrt(1 - 0.81)
    assert largest["season"] < 6
    assert largest["heavy"] > 10


def test_drift_makes_the_noise_half_as_strong_again_between_its_days() -> None:
    before, during, after = (
        noise("drift", *days)[1].std() for days in ((10, 20), (32, 36), (48, 58))
    )
    assert before == pytest.approx(1, abs=0.05)
    assert during == pytest.approx(1.25, abs=0.06)
    assert after == pytest.approx(1.5, abs=0.08)


def test_a_level_step_moves_each_series_for_good_at_a_moment_of_its_own() -> None:
    fleet = Fleet(CASES["step"], 3, SERIES)
    fleet.block(LEARNT_DAYS * STEPS_A_DAY)
    days = fleet.block(60 * STEPS_A_DAY)
    assert (fleet.shifted_at >= 30 * STEPS_A_DAY).all()
    assert (fleet.shifted_at < 50 * STEPS_A_DAY).all()
    assert len(np.unique(fleet.shifted_at)) == SERIES
    for series, at in enumerate(fleet.shifted_at.tolist()):
        near = STEPS_A_DAY * 8
        before, after = days[at - near : at, series], days[at : at + near, series]
        moved = (after.mean() - before.mean()) / fleet.scale[series]
        assert moved == pytest.approx(fleet.shift[series], abs=0.4)
        assert 4 <= abs(fleet.shift[series]) <= 8


def test_noise_by_day_is_three_times_that_by_night() -> None:
    _, values = noise("day_night", 0, 10)
    hours = values.reshape(10, 24, 60, SERIES).std(axis=(0, 2))  # [24, S]
    ordered = np.sort(hours, axis=0)
    assert ordered[-10:].mean() / ordered[:10].mean() == pytest.approx(3, rel=0.1)


def test_equal_seeds_give_equal_series_and_other_seeds_or_streams_give_others() -> None:
    def values(seed: int, stream: int) -> NDArray[np.float64]:
        return Fleet(CASES["heavy"], seed, 2, stream=stream).block(50)

    np.testing.assert_array_equal(values(1, 0), values(1, 0))
    assert not np.isclose(values(1, 0), values(2, 0)).any()
    assert not np.isclose(values(1, 0), values(1, 1)).any()


@pytest.mark.parametrize(("name", "steps", "size"), [("spike", 1, 8), ("shift", 120, 4)])
def test_an_anomaly_moves_its_steps_by_so_many_sd_and_nothing_else(
    name: str, steps: int, size: float
) -> None:
    fleet = Fleet(CASES["season"], 3, SERIES)
    injection = Injection(ANOMALIES[name], fleet, 3, (1, 3))
    added = np.zeros((3 * STEPS_A_DAY, SERIES))
    for start in range(0, len(added), 100):  # an anomaly may lie across blocks
        injection.add(added[start : start + 100], start)
    assert len(injection.all) == 2 * SERIES
    assert np.count_nonzero(added) == 2 * SERIES * steps
    for one in injection.all:
        assert one.first >= STEPS_A_DAY
        assert one.last - one.first == steps - 1
        part = added[one.first : one.last + 1, one.series] / fleet.scale[one.series]
        np.testing.assert_allclose(part, part[0])
        np.testing.assert_allclose(np.abs(part), size)


def test_a_burst_is_white_noise_of_its_size_on_top() -> None:
    fleet = Fleet(CASES["season"], 3, SERIES)
    added = np.zeros((3 * STEPS_A_DAY, SERIES))
    Injection(ANOMALIES["burst"], fleet, 3, (1, 3)).add(added, 0)
    burst = (added / fleet.scale)[added != 0]
    assert len(burst) == 2 * SERIES * 300
    assert burst.std() == pytest.approx(1.5, rel=0.05)
