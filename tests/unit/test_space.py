"""Dotted keys -> recipes -> YAML: what is taken, what is refused and why."""

from __future__ import annotations

import re
from typing import Any

import pytest

from stream_detector.config import ConfigError, parse_yaml
from trainer.config import TrainerConfig
from trainer.tuning.space import Space, contract, merged, to_yaml


def config(text: str) -> TrainerConfig:
    return parse_yaml(text, TrainerConfig, "trainer.yaml", {})


def space(dimensions: str, rest: str = "", objective: str = "average_precision") -> Space:
    return Space(config(f"{rest}\ntune: {{objective: {objective}, space: {{{dimensions}}}}}"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("fit.learning_rate", 0.01),
        ("scaling", "robust"),
        ("windows.scales", [1, 4]),
        ("windows.transforms", [{"kind": "rate"}]),
        ("model.options.hidden", 64),
        ("model", {"name": "pca", "options": {"components": 3}}),
        ("calibration.smoothing", 3),
    ],
)
def test_a_value_lands_at_its_dotted_key_and_nothing_else_changes(path: str, value: Any) -> None:
    base = config("model: {name: dense_autoencoder, options: {code: 8}}\nscaling: minmax")
    *sections, last = path.split(".")
    lines = f"{last}: {value}"
    for name in reversed(sections):
        lines = f"{name}: {{{lines}}}"
    found = merged(base, {path: value})
    assert found != base
    changed = config(lines)
    for section in ("data", "split", "windows", "fit", "calibration", "refresh", "tune"):
        wanted = changed if path.startswith(section) else base
        assert getattr(found, section) == getattr(wanted, section)
    assert found.scaling == (changed if path == "scaling" else base).scaling
    if path == "model.options.hidden":
        assert found.model.options == {"code": 8, "hidden": 64}
    elif path == "model":
        assert found.model == changed.model
    else:
        assert found.model == base.model


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        ("", "name what to search"),
        ("fit.speed: {values: [1]}", "fit.speed: 1: Object contains unknown field `speed`"),
        ("fits.epochs: {values: [1]}", "there is no section `fits`"),
        ("scaling.kind: {values: [1]}", "there is no section `scaling`"),
        ("fit.epochs: {values: [many]}", "fit.epochs: many: Expected `int`, got `str`"),
        ("fit.epochs: {low: 1.5, high: 9.0}", "fit.epochs: 1.5: Expected `int`, got `float`"),
        ("fit.epochs: {low: 0, high: 9}", "fit.epochs: 0: Expected `int` >= 1"),
        ("scaling: {values: [standard, log]}", "scaling: log: Invalid enum value 'log'"),
        ("model.name: {values: [lstm]}", "model.name: lstm: model.name: 'lstm' is unknown"),
        ("model.options.hiden: {values: [1]}", "hiden: 1: no option of lstm_autoencoder"),
        ("model.options.hidden: {values: [x]}", "Expected `int`, got `str` - at `$.hidden`"),
        (
            "model: {values: [{name: pca}]}, model.name: {values: [pca]}",
            "model.name lies within model",
        ),
        ("split.train: {values: [0.5]}", "split is what all trials have in common"),
        ("data.features: {values: [[a]]}", "data is what all trials have in common"),
        ("tune.seed: {values: [1]}", "tune is what all trials have in common"),
        ("calibration: {values: [{}]}", "calibration.alarm_budget is what all trials"),
        ("calibration.threshold.level: {values: [4]}", "calibration.threshold is what all"),
    ],
)
def test_a_space_that_does_not_fit_is_refused_in_one_line(dimensions: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        space(dimensions)
    assert str(caught.value).startswith("tune.space: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "dimensions",
    [
        "model.name: {values: [lstm_autoencoder, pca]}",
        "windows.scales: {values: [[1], [2]]}",
        "scaling: {values: [standard, robust]}",
        "fit.loss: {values: [mse, mae]}",
        "windows.clip: {values: [5.0, 100.0]}",
        "windows.local: {values: [false, true]}",
        "windows.transforms: {values: [[], [{kind: rate}]]}",
        "model: {values: [{name: lstm_forecaster, options: {forecast: 5}}]}",
    ],
)
def test_what_makes_validation_errors_incomparable_needs_another_objective(dimensions: str) -> None:
    assert space(dimensions).dimensions
    with pytest.raises(ConfigError, match=r"set tune\.objective to average_precision or recall"):
        space(dimensions, objective="validation_error")


@pytest.mark.parametrize(
    "dimensions",
    ["calibration.smoothing: {values: [1, 5]}", "experts: {values: [[{name: newest}]]}"],
)
def test_what_does_not_change_the_validation_error_is_not_searched_for_it(dimensions: str) -> None:
    assert space(dimensions).dimensions
    with pytest.raises(ConfigError, match="does not change the validation error"):
        space(dimensions, objective="validation_error")


def test_options_apply_to_the_architectures_that_know_them_and_are_chosen_after_them() -> None:
    found = space(
        "model.options.components: {values: [3]}, model.options.code: {values: [4, 8]}, "
        "model.name: {values: [pca, dense_autoencoder]}"
    )
    assert next(iter(found.dimensions)) == "model.name"
    assert found.grid(10) == [
        {"model.name": "pca", "model.options.components": 3},
        {"model.name": "dense_autoencoder", "model.options.code": 4},
        {"model.name": "dense_autoencoder", "model.options.code": 8},
    ]
    assert found.grid(2) == found.grid(10)[:2]


def test_an_option_of_the_recipe_that_another_architecture_does_not_know_is_refused() -> None:
    rest = "model: {name: dense_autoencoder, options: {code: 4}}"
    with pytest.raises(ConfigError, match=r"pca: model\.options: Object contains unknown field"):
        space("model.name: {values: [dense_autoencoder, pca]}", rest)


def test_a_grid_needs_ranges_with_steps() -> None:
    with pytest.raises(
        ConfigError, match=r"fit\.learning_rate: a grid needs `values`, or a `step`"
    ):
        space("fit.learning_rate: {low: 0.001, high: 0.01}").grid(5)


def test_like_models_have_one_contract_whatever_their_size_and_how_they_are_fitted() -> None:
    base = config("model: {name: dense_autoencoder}")
    alike = merged(base, {"model.options.hidden": 8, "fit.learning_rate": 0.1, "fit.epochs": 2})
    assert contract(alike) == contract(base)
    assert contract(merged(base, {"fit.loss": "mae"})) != contract(base)


def test_a_recipe_is_written_with_what_differs_from_the_defaults_alone() -> None:
    recipe = config(
        "model: {name: dense_autoencoder, options: {hidden: 32}}\n"
        "fit: {epochs: 40, learning_rate: 1e-5}\n"
        "refresh: {model: {registry: r, match: '*'}}\n"
        "calibration: {threshold: {level: 4.0}}\n"
        "windows: {transforms: [{kind: rate, n: 1}]}\n"
    )
    text = to_yaml(recipe)
    assert " ".join(text.split()) == (
        "windows: transforms: - kind: rate "
        "model: name: dense_autoencoder options: hidden: 32 "
        "fit: learning_rate: 1.0e-05 "
        "calibration: threshold: level: 4.0 "
        "refresh: model: registry: r"
    )
    assert config(text) == recipe
    assert to_yaml(TrainerConfig()) == "{}\n"


def test_every_scale_and_every_grid_of_a_space_is_looked_at_beforehand() -> None:
    grids = "[[], [{kind: resample, every: 5m}]]"
    some = space(
        f"windows.scales: {{values: [[1], [1, 4]]}}, windows.transforms: {{values: {grids}}}"
    )
    recipes = [some.recipe(chosen) for chosen in some.shapes()]
    assert [(recipe.windows.scales, recipe.windows.every) for recipe in recipes] == [
        ([1], 0), ([1], 300_000), ([1, 4], 0), ([1, 4], 300_000),
    ]  # fmt: skip
    assert "  transforms:\n  - kind: resample\n    every: 5m\n" in to_yaml(recipes[-1])
