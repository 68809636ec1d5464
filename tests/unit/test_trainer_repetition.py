"""Whether windows repeat, and which experts and scales follow from it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.unit.trainer_cases import quick, series, wave
from trainer.choice.experts import suited
from trainer.choice.repetition import REPEATING, news, repeats
from trainer.config import ExpertRule, TrainerConfig, Windows
from trainer.config.recipes import load_config
from trainer.data import Dataset
from trainer.train import train

RULES = [
    ExpertRule(name="newest", scales="coarsest"),
    ExpertRule(name="nearest_shape", scales="finest", when="repeating"),
]
BEATS = series("s", np.sin(2 * np.pi * np.arange(4000) / 40) + 0.02 * wave(4000))
NOISE = series("s", np.random.default_rng(0).normal(size=4000))


def config(**windows: object) -> TrainerConfig:
    wanted = Windows(**{"scales": "auto", "aperiodic": [4], **windows})  # type: ignore[arg-type]  # keywords of mixed types
    return msgspec.structs.replace(quick(epochs=1), experts=RULES, windows=wanted)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e9])
def test_little_of_a_season_is_new_and_nearly_all_of_noise_whatever_the_size(size: float) -> None:
    beats, noise = (series("s", size * one.values) for one in (BEATS, NOISE))
    assert news([beats], config()) < 0.1 * REPEATING
    assert news([noise], config()) > 2 * REPEATING


def test_a_constant_repeats_and_too_short_a_series_does_not() -> None:
    assert repeats([series("s", np.full(2000, 7.0))], config())
    assert not repeats([series("s", wave(200))], config())


def test_shapes_count_only_where_windows_repeat() -> None:
    rules, choice = suited([BEATS], config())
    assert rules == RULES
    assert choice.scales == [1, 4]  # 60 samples see the whole period
    assert "60 samples see that" in choice.reason
    rules, choice = suited([NOISE], config())
    assert rules == RULES[:1]
    assert choice.scales == [4]  # of those suggested, the one that has an expert
    assert choice.reason.startswith("windows do not repeat")


def test_a_period_that_needs_a_coarse_scale_gets_its_own() -> None:
    slow = series("s", np.sin(2 * np.pi * np.arange(9000) / 300))
    assert suited([slow], config(span=1.0))[1].scales == [1, 5]


def test_scales_for_which_the_data_is_too_short_are_not_taken() -> None:
    short = series("s", NOISE.values[:1500])
    assert suited([short], config())[1].scales == [1]


def test_experts_that_depend_on_repeating_windows_stay_where_no_others_are() -> None:
    alone = msgspec.structs.replace(config(), experts=RULES[1:])
    assert suited([NOISE], alone)[0] == RULES[1:]


def test_the_default_recipe_keeps_the_shapes_of_a_season_and_drops_those_of_noise() -> None:
    recipe = load_config(Path("default"))
    fit = msgspec.structs.replace(recipe.fit, epochs=1, least_steps=1, threads=1, device="cpu")
    recipe = msgspec.structs.replace(recipe, fit=fit)
    for data, shapes in ((BEATS, True), (NOISE, False)):
        manifest = train(Dataset(["value"], [data]), recipe, quiet=True).manifest
        names = {one.name for one in manifest.experts}
        assert {"newest", "departure", "autoregression"} <= names
        assert ("nearest_shape" in names) == shapes
        assert manifest.scales == [1, 4]
