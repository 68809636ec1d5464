"""Which scales the data suggests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.trainer_cases import quick, series, wave
from trainer.choice.scales import SPAN, choose, dominant_period
from trainer.config import Split, Windows
from trainer.data import Dataset
from trainer.train import train


@settings(max_examples=30, deadline=None)
@given(
    period=st.integers(20, 300),
    seed=st.integers(0, 1000),
    drift=st.floats(-0.01, 0.01),
    size=st.sampled_from([1e-6, 1.0, 1e9]),
)
def test_the_period_of_a_noisy_season_is_found_whatever_its_size_and_trend(
    period: int, seed: int, drift: float, size: float
) -> None:
    values = wave(3000, seed, period=period) + drift * np.arange(3000)
    found = dominant_period(size * values)
    assert found is not None
    assert found[0] == pytest.approx(period, rel=0.06, abs=2)


def test_a_heartbeat_with_two_bumps_is_one_period_and_not_half_of_it() -> None:
    rng = np.random.default_rng(0)
    phase = np.arange(4000) % 210 / 210
    beat = np.exp(-(((phase - 0.3) / 0.03) ** 2)) + 0.4 * np.exp(-(((phase - 0.6) / 0.08) ** 2))
    found = dominant_period(beat + 0.02 * rng.normal(size=4000))
    assert found is not None
    assert found[0] == pytest.approx(210, abs=2)


@pytest.mark.parametrize("seed", range(5))
def test_noise_a_constant_and_a_ramp_have_no_period(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert dominant_period(rng.normal(size=3000)) is None
    assert dominant_period(np.full(3000, 7.0)) is None
    assert dominant_period(np.arange(3000.0)) is None


def test_the_coarse_window_spans_about_1_7_periods_of_most_series() -> None:
    some = [series(f"s{i}", wave(12_000, i, period=210)) for i in range(3)]
    noise = series("noise", np.random.default_rng(9).normal(size=12_000))
    choice = choose([*some, noise], Split())
    assert choice.scales == [1, 6]
    assert choice.period == pytest.approx(210, abs=2)
    assert choice.scales[1] * 60 / 210 == pytest.approx(SPAN, abs=0.1)
    assert "3 of 4 series" in choice.reason
    assert "60 steps of 6 span 1.7" in choice.reason


@pytest.mark.parametrize(
    ("length", "period", "said"),
    [(6000, 30, "60 samples see that"), (1000, 200, "too little data for scale 6")],
)
def test_scale_1_alone_is_kept_where_it_is_enough_or_data_is_short(
    length: int, period: int, said: str
) -> None:
    choice = choose([series("s", wave(length, period=period))], Split())
    assert choice.scales == [1]
    assert said in choice.reason


def test_a_period_in_the_later_parts_alone_is_not_looked_at() -> None:
    values = np.random.default_rng(1).normal(size=9000)
    values[6300:] += 20 * np.sin(np.arange(2700) / 20)
    assert choose([series("s", values)], Split()).scales == [1]


def test_auto_is_resolved_in_training_and_its_reason_kept_in_the_manifest() -> None:
    config = quick(epochs=1)
    config = type(config)(model=config.model, fit=config.fit, windows=Windows(scales="auto"))
    data = Dataset(["value"], [series("s", wave(4000, period=100))])
    manifest = train(data, config, quiet=True).manifest
    assert manifest.scales == [1, 3]
    assert "every 100 samples" in manifest.scales_reason
