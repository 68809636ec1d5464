"""The search: what is tried, what a study keeps, how it goes on. Nothing is fitted here."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.config import ConfigError, parse_yaml
from trainer.config import TrainerConfig
from trainer.data import DataError
from trainer.tuning import tune
from trainer.tuning.objective import Measured
from trainer.tuning.space import Space
from trainer.tuning.study_file import held
from trainer.tuning.tune import Best, search

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.fit import OnPass

RATE = "fit.learning_rate: {low: 1e-4, high: 1e-1, log: true}"
OPTIONS = "model.options.hidden: {values: [16, 32, 64]}, model.options.code: {low: 2, high: 9}"


class Bench:
    """A study in a folder, and the recipes that were measured for it."""

    def __init__(self, folder: Path, dimensions: str = f"{RATE}, {OPTIONS}", **given: Any) -> None:
        given = {"trials": 8} | given
        self.config = parse_yaml(
            f"model: {{name: dense_autoencoder}}\ntune: {{space: {{{dimensions}}}}}",
            TrainerConfig, "x", {},
        )  # fmt: skip
        self.given = given
        self.path = folder / "best.study"
        self.measured: list[TrainerConfig] = []
        self.about = {"recipe": "this"}

    def run(
        self, measure: Callable[[TrainerConfig, OnPass], float] | None = None, **more: Any
    ) -> Best:
        chosen = {name: more.pop(name) for name in tuple(more) if name in TUNE}
        section = msgspec.convert(
            msgspec.to_builtins(self.config.tune) | self.given | chosen, type(self.config.tune)
        )
        config = msgspec.structs.replace(self.config, tune=section)

        def value(recipe: TrainerConfig, on_pass: OnPass) -> Measured:
            self.measured.append(recipe)
            result = (measure or error_of)(recipe, on_pass)
            return Measured(result, {"validation_error": result})

        return search(Space(config), value, section, self.path, self.about, quiet=True, **more)

    def trials(self) -> list[tuple[dict[str, Any], Any]]:
        """Parameters and value of every trial that came to an end, from the file."""
        with tune._opened(self.path, self.config.tune, self.about) as study:
            return [(one.params, one.value) for one in tune._ended(study)]


TUNE = set(TrainerConfig().tune.__struct_fields__) - {"timeout"}  # which search is given


def error_of(recipe: TrainerConfig, on_pass: OnPass) -> float:
    """The error is least where the rate is 0.01, and falls by half from pass to pass."""
    hidden: int = recipe.model.options.get("hidden", 0)
    error = abs(recipe.fit.learning_rate - 0.01) + hidden / 1000
    for number in range(1, 5):
        on_pass(number, error + 0.5**number)
    return error


def test_the_best_of_all_trials_is_found_and_told_as_its_dotted_keys(tmp_path: Path) -> None:
    bench = Bench(tmp_path, pruner="none")
    best = bench.run()
    values = [error_of(recipe, lambda *_: None) for recipe in bench.measured]
    assert best.value == min(values)
    assert best.facts == {"validation_error": best.value}
    recipe = bench.measured[values.index(best.value)]
    assert best.params == {
        "fit.learning_rate": recipe.fit.learning_rate,
        "model.options.hidden": recipe.model.options["hidden"],
        "model.options.code": recipe.model.options["code"],
    }
    assert best.trials == {"complete": 8, "pruned": 0, "failed": 0, "cut_off": 0}


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_equal_seeds_try_equal_recipes_and_others_other_ones(tmp_path: Path, sampler: str) -> None:
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name, trials=14, sampler=sampler)
        bench.run(seed=seed)
        found.append(bench.trials())
    assert found[0] == found[1]
    assert found[0] != found[2]
    rates = [params["fit.learning_rate"] for params, _ in found[0]]
    assert len(set(rates)) == 14, "each trial draws anew"


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_study_that_was_cut_off_goes_on_with_what_it_would_have_tried(
    tmp_path: Path, sampler: str
) -> None:
    (tmp_path / "whole").mkdir()
    steps = "fit.learning_rate: {values: [0.1, 0.2, 0.3, 0.4]}"
    dimensions = f"{steps if sampler == 'grid' else RATE}, {OPTIONS}"
    whole = Bench(tmp_path / "whole", dimensions, trials=13, sampler=sampler)
    trials = whole.run().trials
    bench = Bench(tmp_path, dimensions, trials=13, sampler=sampler)

    def killed(recipe: TrainerConfig, on_pass: OnPass) -> float:
        if len(bench.measured) in {3, 12}:
            raise KeyboardInterrupt
        return error_of(recipe, on_pass)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            bench.run(killed)
    best = bench.run()
    assert bench.trials() == whole.trials()
    assert best.trials == trials | {"cut_off": 2}
    assert best.trials["pruned"] > 0
    assert len(bench.measured) == 13 + 2, "what was finished is not done again"


def test_more_trials_go_on_from_those_that_are_there(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(trials=4)
    first = bench.trials()
    best = bench.run(trials=6)
    assert bench.trials()[:4] == first
    assert len(bench.trials()) == len(bench.measured) == 6
    assert bench.run(trials=5) == best, "enough are there"
    assert len(bench.measured) == 6


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[Any]]:
    bench = Bench(tmp_path_factory.mktemp("whole"))
    bench.run(trials=4)
    content = bench.path.read_bytes()
    return content, bench.trials()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_study_file_that_ends_anywhere_is_continued_to_the_same_trials(
    whole: tuple[bytes, list[Any]], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content, trials = whole
    bench = Bench(tmp_path_factory.mktemp("cut"))
    bench.path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    bench.run(trials=4)
    assert bench.trials() == trials


def test_a_grid_tries_every_combination_once_and_ends(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        "fit.batch: {values: [16, 32]}, model.options.code: {low: 2, high: 6, step: 2}",
        sampler="grid",
        trials=50,
    )
    best = bench.run()
    tried = [(one.fit.batch, one.model.options["code"]) for one in bench.measured]
    assert tried == list(itertools.product((16, 32), (2, 4, 6)))
    assert best.trials["complete"] == 6


def test_a_recipe_that_comes_again_is_not_fitted_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "fit.batch: {values: [16, 32]}", sampler="random", trials=9)
    best = bench.run()
    assert best.trials["complete"] == 9
    assert len(bench.measured) == 2


def test_values_that_are_lists_and_sections_come_back_as_they_were(tmp_path: Path) -> None:
    values = [{"name": "pca", "options": {"components": 3}}, {"name": "dense_autoencoder"}]
    dimensions = f"model: {{values: {json.dumps(values)}}}, windows.scales: {{values: [[1, 4]]}}"
    bench = Bench(tmp_path, dimensions, objective="recall", sampler="grid")
    best = bench.run(lambda recipe, _: float(recipe.model.name == "pca"))
    assert best.params == {"model": values[0], "windows.scales": [1, 4]}
    assert best.value == 1.0, "recall is better when it is more"


def test_a_trial_that_fails_keeps_its_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    def sometimes(recipe: TrainerConfig, on_pass: OnPass) -> float:
        if len(bench.measured) % 2:
            raise DataError("too short\nfor this")
        return error_of(recipe, on_pass)

    best = bench.run(sometimes)
    assert best.trials == {"complete": 4, "pruned": 0, "failed": 4, "cut_off": 0}
    assert best.errors == ["too short for this"]
    assert len({one.fit.learning_rate for one in bench.measured}) == 8


def test_an_error_that_is_not_finite_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of 8 trials came to an end: .* not finite"):
        Bench(tmp_path).run(lambda *_: float("inf"))


def test_no_trial_begins_after_the_timeout(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    now = iter(range(0, 1000, 10))
    best = bench.run(timeout=25, monotonic=lambda: next(now))
    assert best.trials["complete"] == 2
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="allow more time with --timeout"):
        Bench(tmp_path / "other").run(timeout=0)


def test_each_better_recipe_is_told_of_when_it_is_found(tmp_path: Path) -> None:
    told: list[float] = []
    values = iter([5.0, 7.0, 3.0, 3.0, 1.0, 2.0, 9.0, 4.0])
    best = Bench(tmp_path).run(
        lambda *_: next(values), on_better=lambda better: told.append(better.value)
    )
    assert told == [5.0, 3.0, 1.0]
    assert best.value == 1.0


def passes(errors: list[float], value: float) -> Callable[[TrainerConfig, OnPass], float]:
    def measure(_: TrainerConfig, on_pass: OnPass) -> float:
        for number, error in enumerate(errors, 1):
            on_pass(number, error)
        return value

    return measure


@pytest.mark.parametrize("objective", ["validation_error", "recall"])
def test_a_fit_that_is_worse_than_the_median_ends_early_whatever_is_searched_for(
    tmp_path: Path, objective: str
) -> None:
    bench = Bench(tmp_path, objective=objective)
    good, bad = [0.5, 0.4, 0.3, 0.2], [0.9, 0.9, 0.9, 0.9]
    bench.run(passes(good, 0.2), trials=tune.LIKE_TRIALS)
    heard = []

    def listening(recipe: TrainerConfig, on_pass: OnPass) -> float:
        def hear(number: int, error: float) -> None:
            heard.append(number)
            on_pass(number, error)

        return passes(bad, 0.9)(recipe, hear)

    best = bench.run(listening, trials=tune.LIKE_TRIALS + 1)
    assert best.trials == {"complete": tune.LIKE_TRIALS, "pruned": 1, "failed": 0, "cut_off": 0}
    assert heard == list(range(1, tune.FIRST_PASS + 1))
    best = bench.run(passes(good, 0.1), trials=tune.LIKE_TRIALS + 2)
    assert best.trials["complete"] == tune.LIKE_TRIALS + 1, "a good one is not ended"


def test_without_a_pruner_every_fit_runs_to_its_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path, pruner="none")
    bench.run(passes([0.5, 0.4, 0.3, 0.2], 0.2), trials=tune.LIKE_TRIALS)
    best = bench.run(passes([0.9, 0.9, 0.9, 0.9], 0.9), trials=tune.LIKE_TRIALS + 1)
    assert best.trials["complete"] == tune.LIKE_TRIALS + 1


def test_a_fit_is_compared_with_like_models_only(tmp_path: Path) -> None:
    names = "model.name: {values: [dense_autoencoder, lstm_forecaster]}"
    bench = Bench(tmp_path, f"{names}, {RATE}", objective="recall", trials=30)

    def measure(recipe: TrainerConfig, on_pass: OnPass) -> float:
        size = 1.0 if recipe.model.name == "dense_autoencoder" else 1000.0
        for number in range(1, 5):
            on_pass(number, size / number)
        return 0.5

    best = bench.run(measure)
    assert {one.model.name for one in bench.measured} == {"dense_autoencoder", "lstm_forecaster"}
    assert best.trials["complete"] == 30


def test_scales_are_compared_pass_by_pass_each_with_its_own(tmp_path: Path) -> None:
    """The second scale of a trial is not held against the first of another."""
    bench = Bench(tmp_path)
    fine, coarse = [0.5, 0.4, 0.3, 0.2], [0.05, 0.04, 0.03, 0.02]

    def both(first: list[float], second: list[float]) -> Callable[..., float]:
        def measure(recipe: TrainerConfig, on_pass: OnPass) -> float:
            passes(first, 0.0)(recipe, on_pass)
            return passes(second, 0.2)(recipe, on_pass)

        return measure

    bench.run(both(coarse, fine), trials=tune.LIKE_TRIALS)
    best = bench.run(both(coarse, fine), trials=tune.LIKE_TRIALS + 1)
    assert best.trials["complete"] == tune.LIKE_TRIALS + 1
    best = bench.run(both(fine, fine), trials=tune.LIKE_TRIALS + 2)
    assert best.trials["pruned"] == 1


def test_a_study_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(trials=2)
    trials, bench.about = bench.trials(), {"recipe": "another"}
    with pytest.raises(ConfigError, match="begun with another recipe; give another --study"):
        bench.run()
    bench.about = {"recipe": "this"}
    assert bench.trials() == trials


@pytest.mark.parametrize("content", [b"fit: {epochs: 3}", b'{"a": 1}\n', b"\x00"])
def test_a_file_that_is_no_study_is_refused_and_left_as_it_is(
    tmp_path: Path, content: bytes
) -> None:
    bench = Bench(tmp_path)
    bench.path.write_bytes(content)
    with pytest.raises(ConfigError, match="not a study of stream-trainer tune"):
        bench.run()
    assert bench.path.read_bytes() == content


def test_a_damaged_study_is_refused_in_one_line(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.path.write_bytes(b'{"op_code":0,"worker_id":\n{"op_code":9}\n')
    with pytest.raises(ConfigError, match="damaged study"):
        bench.run()


def test_a_study_is_for_one_process_at_a_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with held(bench.path), pytest.raises(ConfigError, match="another process tunes with this"):
        bench.run()
    assert len(bench.measured) == 0
    bench.run()
    assert len(bench.measured) == 8
