"""What a recipe does with histories too short to keep a part back."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.config import ConfigError, parse_yaml
from tests.unit.trainer_cases import fleet, quick, series, wave
from trainer import models
from trainer.benchmarks.detect import with_room
from trainer.calibrate import INSIDE, RunScores, calibrate, experts_of
from trainer.choice.repetition import repeats
from trainer.config import Calibration, ExpertRule, Split, TrainerConfig, Windows
from trainer.config.recipes import load_config
from trainer.data import Dataset
from trainer.models.dense_ensemble import DenseEnsemble, Options
from trainer.reading.rows import read
from trainer.runs import split
from trainer.scaling import fit_scaling
from trainer.train import train

DEFAULT = load_config(Path("default"))
WHOLE = Split(order="whole")
SHORT = """
fit: {epochs: 3}
multivariate: {fit: {epochs: 5}}
short: {below: 800, fit: {epochs: 7}, split: {order: whole}}
"""


@settings(deadline=None)
@given(st.integers(0, 800 - 1), st.integers(800, 1 << 40))
def test_the_short_sections_are_used_below_so_many_samples_of_one_feature(
    few: int, many: int
) -> None:
    config = parse_yaml(SHORT, TrainerConfig, "trainer.yaml", {})
    assert config.of(["a"], few).fit.epochs == 7
    assert config.of(["a"], many).fit.epochs == 3
    assert config.of(["a", "b"], few).fit.epochs == config.of(["a", "b"], many).fit.epochs == 5
    assert config.choice(["a"], few) == [f"{few} samples: split, fit from `short`"]
    assert config.choice(["a"], many) == []
    chosen = config.of(["a"], few)
    assert (chosen.short, chosen.multivariate) == (None, None)
    assert chosen.of(["a"], few) == chosen


@settings(deadline=None)
@given(st.integers(1000, 1 << 40))
def test_a_thousand_samples_get_what_the_default_recipe_has_for_long_histories(
    samples: int,
) -> None:
    alone = msgspec.structs.replace(DEFAULT, short=None, multivariate=None)
    assert DEFAULT.of(["value"], samples) == alone


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("short: {below: 500}", "needs one of split, windows, model"),
        ("short: {below: 0, split: {order: whole}}", "short.below"),
        ("split: {order: whole, overlap: true}", "leave out `order: whole`"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, TrainerConfig, "trainer.yaml", {})


def test_undivided_every_part_is_all_of_each_series() -> None:
    parts = split(fleet(300).series, WHOLE, 4)
    for runs in (parts.train, parts.validation, parts.held_out):
        assert [(run.series, run.first, len(run)) for run in runs] == [
            (number, 0, 300) for number in range(3)
        ]
        for run, one in zip(runs, fleet(300).series, strict=True):
            assert np.array_equal(read(run.values), one.values)


def test_a_suite_does_not_divide_what_a_recipe_leaves_whole() -> None:
    config = msgspec.structs.replace(quick(), split=WHOLE)
    assert with_room(config, Split(train=0.5, validation=0.2), 300) == config


def test_what_was_fitted_does_not_tell_whether_windows_repeat() -> None:
    season = series("s", np.sin(2 * np.pi * np.arange(900) / 40))
    windows = Windows(scales="auto", aperiodic=[4])
    config = msgspec.structs.replace(quick(), windows=windows)
    assert repeats([season], config)
    assert not repeats([season], msgspec.structs.replace(config, split=WHOLE))


@pytest.mark.parametrize("shape", ["linear", "ratio"])
def test_scores_of_what_was_fitted_count_for_more_in_what_is_usual(shape: str) -> None:
    raw = np.exp(np.random.default_rng(1).normal(size=(600, 1))).astype(np.float32)
    wanted = experts_of({1: ["newest"]}, [ExpertRule(name="newest")])
    data = [series("s", np.arange(700.0))]
    scaling = fit_scaling(split(data, WHOLE).train, 1, "standard")
    rule = Calibration(tail=0.95, shape=shape)  # type: ignore[arg-type]  # parametrised
    kept_back, fitted = (
        calibrate([RunScores(0, raw)], wanted, data, scaling, rule, fitted=inside)
        for inside in (False, True)
    )
    assert fitted.experts == kept_back.experts
    assert fitted.series.score_mean == pytest.approx(INSIDE * kept_back.series.score_mean)
    if shape == "ratio":
        away = fitted.series.score_location - kept_back.series.score_location
        assert away == pytest.approx(np.log(INSIDE), abs=1e-3)
        assert fitted.series.score_spread == pytest.approx(kept_back.series.score_spread, rel=1e-3)
    assert "held-out windows of 1 series, none of them fitted" in kept_back.threshold.provenance
    assert "training windows of 1 series, all of them fitted" in fitted.threshold.provenance


@pytest.mark.parametrize(("samples", "scales"), [(169, [1]), (240, [1, 2]), (600, [1, 4])])
def test_the_default_recipe_learns_from_all_of_a_short_history(
    samples: int, scales: list[int]
) -> None:
    assert DEFAULT.short is not None
    assert DEFAULT.short.fit is not None
    fit = msgspec.structs.replace(
        DEFAULT.short.fit, epochs=1, least_steps=1, threads=1, device="cpu"
    )
    short = msgspec.structs.replace(DEFAULT.short, fit=fit)
    recipe = msgspec.structs.replace(DEFAULT, short=short)
    data = Dataset(["value"], [series("s", wave(samples))])
    manifest = train(data, recipe, quiet=True).manifest
    assert manifest.scales == scales
    assert manifest.model == "dense_ensemble"
    assert {one.name for one in manifest.experts} == {"newest"}
    assert manifest.notes[0].startswith(f"{samples} samples: split, ")
    assert manifest.metrics["held_out_windows"] == samples - scales[-1] * 60 + 1


def test_early_scores_of_a_fine_scale_count_in_its_tail_alone() -> None:
    rng = np.random.default_rng(2)
    raw = np.exp(rng.normal(size=(400, 2))).astype(np.float32)
    raw[:150, 0] *= 5.0
    raw[:150, 1] = np.nan  # a coarse scale's, which has none yet
    wanted = experts_of({1: ["newest"], 4: ["newest"]}, [ExpertRule(name="newest")])
    data = [series("s", np.arange(500.0))]
    scaling = fit_scaling(split(data, WHOLE).train, 1, "standard")
    rule = Calibration(tail=0.95, shape="ratio", fusion="max")
    found, later = (
        calibrate([RunScores(0, some)], wanted, data, scaling, rule, fitted=True)
        for some in (raw, raw[150:])
    )
    assert found.windows == later.windows == 250
    early, coarse = (one.tail for one in found.experts)
    assert early is not None
    assert later.experts[0].tail is not None
    assert early.excess > 2 * later.experts[0].tail.excess
    assert coarse == later.experts[1].tail


def test_an_ensemble_says_the_mean_of_what_its_members_say_and_each_learns_by_itself() -> None:
    torch.manual_seed(3)
    one = models.build("dense_ensemble", 2, {"members": 3}).eval()
    assert isinstance(one, DenseEnsemble)
    windows = torch.randn(20, 60, 2)
    estimates, target, penalty = one.learn(windows)
    assert estimates.shape == target.shape == (3, 20, 120)
    assert not torch.allclose(estimates[0], estimates[1])
    torch.testing.assert_close(one(windows).flatten(1), estimates.mean(dim=0))
    torch.testing.assert_close(target[2], windows.flatten(1))
    assert penalty.item() == 0
    apart = (estimates - target).square().mean()
    assert apart > (one(windows) - windows).square().mean()


def test_members_of_an_ensemble_do_not_depend_on_each_other() -> None:
    torch.manual_seed(4)
    several = DenseEnsemble(1, 60, Options(members=3)).eval()
    alone = DenseEnsemble(1, 60, Options(members=1)).eval()
    state = {name: value[1:2] for name, value in several.state_dict().items()}
    alone.load_state_dict(state)
    windows = torch.randn(16, 60, 1)
    torch.testing.assert_close(alone.each(windows)[0], several.each(windows)[1])
