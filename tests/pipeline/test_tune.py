"""`stream-trainer tune`: from a search space and files to a recipe that `fit` takes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from stream_detector.adapters.store import ParquetStoreReader
from stream_detector.adapters.torch_scorer import load_model
from stream_detector.bundle import Registry
from stream_detector.config import load_yaml, parse_yaml
from tests.unit.trainer_cases import START, fleet, series, wave
from trainer.cli import run
from trainer.commands.refresh import Ports
from trainer.commands.tune import run as tune_command
from trainer.config import TrainerConfig
from trainer.data import DataError, Dataset
from trainer.tuning import tune
from trainer.tuning.objective import Objective
from trainer.tuning.space import Space, merged

if TYPE_CHECKING:
    from pathlib import Path

QUICK = "fit: {epochs: 4, windows_per_epoch: 256, threads: 1, device: cpu}\n"
DENSE = "model: {name: dense_autoencoder, options: {code: 8}}\nscaling: robust\n" + QUICK
SPACE = "fit.learning_rate: {low: 1e-4, high: 1e-2, log: true}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = "".join(f"{START + 60_000 * i},{v}\n" for i, v in enumerate(wave(2000)))
    (tmp_path / "pump.csv").write_text("timestamp,value\n" + rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, section: str, rest: str = DENSE) -> None:
    (folder / "trainer.yaml").write_text(f"{rest}tune: {section}\n")


def tuned(*more: str) -> int:
    arguments = ["tune", "--config", "trainer.yaml", "--data", "pump.csv", "--out", "best.yaml"]
    return run([*arguments, *more])


def body(capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert tuned("--json", *more) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    found: dict[str, Any] = json.loads(printed.out)
    return found


def test_the_best_recipe_is_written_and_fit_takes_it_and_more_trials_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, f"{{trials: 4, space: {{{SPACE}, model.options.hidden: {{values: [8, 32]}}}}}}")
    first = body(capsys)
    assert first["objective"] == "validation_error"
    assert first["trials"] == {"complete": 4, "pruned": 0, "failed": 0, "cut_off": 0}
    assert first["facts"] == {"validation_error": first["value"]}
    assert (folder / "best.study").exists()

    text = (folder / "best.yaml").read_text()
    assert text.startswith("# Found by stream-trainer tune, ")
    assert f"# validation_error {first['value']:.6g} on the validation part of pump.csv" in text
    wanted = merged(parse_yaml(DENSE, TrainerConfig), first["params"])
    assert load_yaml(folder / "best.yaml", TrainerConfig) == wanted
    assert set(yaml.safe_load(text)) == {"model", "scaling", "fit"}

    second = body(capsys, "--trials", "6")
    assert second["trials"]["complete"] + second["trials"]["pruned"] == 6
    assert second["value"] <= first["value"]

    fit = ["fit", "--config", "best.yaml", "--data", "pump.csv", "--out", "registry", "--json"]
    assert run(fit) == 0
    metrics = Registry(folder / "registry").load().manifest.metrics
    assert metrics["validation_error_1"] == second["value"], "the very model that was found best"


def test_architectures_compare_by_injected_anomalies_and_the_table_for_people_tells_the_best(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "model.name: {values: [dense_autoencoder, pca]}"
    options = "model.options.components: {values: [4]}, model.options.code: {values: [1, 16]}"
    section = (
        "{objective: average_precision, sampler: grid, injections: 6, "
        f"space: {{{names}, {options}}}}}"
    )
    write(folder, section, QUICK)
    assert tuned() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("average_precision 0.")
    assert "the best of 3 trials (3 complete)" in lines[0]
    assert lines[1].startswith("  model.name: ")
    found = body(capsys)
    assert 0.2 < found["value"] < 1.0
    assert found["trials"]["complete"] == 3


def test_a_fit_that_falls_behind_is_ended_and_the_next_one_is_none_the_worse(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "LIKE_TRIALS", 1)
    monkeypatch.setattr(tune, "FIRST_PASS", 1)
    rates = "fit.learning_rate: {values: [0.01, 1e-7, 0.02]}"
    write(folder, f"{{sampler: grid, space: {{{rates}}}}}")
    found = body(capsys)
    assert found["trials"]["pruned"] >= 1
    unpruned = f"{{sampler: grid, pruner: none, space: {{{rates}}}}}"
    write(folder, unpruned)
    alone = body(capsys, "--study", "other.study")
    assert alone["trials"]["complete"] == 3
    assert (found["value"], found["params"]) == (alone["value"], alone["params"])


OBJECTIVES = ("validation_error", "average_precision", "recall")


def objective(data: Dataset, kind: str, more: str = "") -> tuple[Objective, TrainerConfig]:
    config = parse_yaml(
        f"{DENSE}tune: {{objective: {kind}, injections: 5, strength: 0.1, "
        f"space: {{{SPACE}{more}}}}}",
        TrainerConfig,
    )
    return Objective(data, config, Space(config), load_model), config


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_an_objective_looks_at_the_validation_part_and_never_at_what_follows(kind: str) -> None:
    data = fleet(2000)
    rng = np.random.default_rng(0)
    wild, other = [], []
    for one in data.series:
        values = one.values.copy()
        values[1600:] = rng.normal(0, 1e9, values[1600:].shape)
        wild.append(replace(one, values=values))
        values = one.values.copy()
        values[1400:1600] += 3 * rng.normal(0, values.std(), values[1400:1600].shape)
        other.append(replace(one, values=values))
    found = []
    for some in (data.series, wild, other):
        measure, config = objective(Dataset(data.features, some), kind)
        found.append(measure(config, lambda *_: None))
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_average_precision_is_less_for_a_model_that_takes_longer_to_recover_or_learnt_nothing() -> (
    None
):
    data = Dataset(["value"], [series("s", wave(4000))])
    scales = ", windows.scales: {values: [[1], [2]]}"
    measure, config = objective(data, "average_precision", scales)
    found = {
        name: measure(merged(config, chosen), lambda *_: None).value
        for name, chosen in (
            ("fine", {}),
            ("coarse", {"windows.scales": [2]}),
            ("unlearnt", {"fit.learning_rate": 1e-9}),
        )
    }
    assert 1.0 > found["fine"] > found["coarse"] + 0.05
    assert found["fine"] > found["unlearnt"] + 0.05


def test_a_loud_model_finds_nothing_within_its_alarm_budget() -> None:
    measure, config = objective(fleet(3000), "recall")
    loud = parse_yaml("threshold: {level: 0.1}", type(config.calibration))
    quiet = measure(config, lambda *_: None)
    assert quiet.value == quiet.facts["recall"] > 0
    found = measure(replace_calibration(config, loud), lambda *_: None)
    assert found.facts["alarms_per_series_day"] > 5
    assert found.value == 0.0


def replace_calibration(config: TrainerConfig, calibration: Any) -> TrainerConfig:
    return type(config)(model=config.model, fit=config.fit, calibration=calibration)


def test_all_recipes_face_the_same_anomalies_at_the_largest_scale_of_the_space() -> None:
    data = Dataset(["value"], [series("s", wave(4000))])
    both, _ = objective(data, "recall", ", windows.scales: {values: [[1], [2, 1]]}")
    assert {case.length for case in both._cases if case.kind == "level_shift"} == {120}
    wide = ", windows.scales: {values: [[1], [4]]}"
    with pytest.raises(DataError, match=r"605 samples in its validation part.*at scale 4; raise"):
        objective(Dataset(["value"], [series("s", wave(6040))]), "recall", wide)
    assert objective(Dataset(["value"], [series("s", wave(6050))]), "recall", wide)[0]._cases


def test_anomalies_last_as_long_as_the_longest_steps_need_within_the_validation_part() -> None:
    data = Dataset(["value"], [series("s", wave(6000))])
    resampled = "[{kind: resample, every: 3m}]"
    measure, config = objective(
        data, "average_precision", f", windows.transforms: {{values: [[], {resampled}]}}"
    )
    assert {case.length for case in measure._cases if case.kind == "flatline"} == {180}
    times = data.series[0].timestamp
    for case in measure._cases:
        assert times[4200] <= case.stretch.timestamp[0]
        assert case.stretch.timestamp[-1] < times[4800]
    coarse = merged(config, {"windows.transforms": [{"kind": "resample", "every": "3m"}]})
    assert 0 < measure(coarse, lambda *_: None).value < 1


def test_the_date_in_the_recipe_is_the_clocks(folder: Path) -> None:
    write(folder, f"{{trials: 1, space: {{{SPACE}}}}}")
    ports = Ports(load=load_model, store=ParquetStoreReader)
    tune_command(
        load_yaml(folder / "trainer.yaml", TrainerConfig),
        folder / "pump.csv", ports, folder / "out.yaml", folder / "a.study",
        quiet=True, now=lambda: datetime(2026, 11, 24, 12, tzinfo=UTC),
    )  # fmt: skip
    first = (folder / "out.yaml").read_text().splitlines()[0]
    assert first == (
        "# Found by stream-trainer tune, 2026-11-24T12:00:00+00:00: "
        "the best of 1 trial (1 complete)."
    )


@pytest.mark.parametrize(
    ("section", "arguments", "code", "message"),
    [
        ("{}", [], 2, "tune.space: name what to search"),
        ("{space: {fit.speed: {values: [1]}}}", [], 2, "unknown field `speed`"),
        ("{space: {fit.epochs: {low: 3}}}", [], 2, "fit.epochs: give `values`, or both `low`"),
        (f"{{space: {{{SPACE}}}}}", ["--trials", "0"], 2, "Expected `int` >= 1 - at `$.trials`"),
        (f"{{space: {{{SPACE}}}}}", ["--timeout", "soon"], 2, "at `$.timeout`"),
        (f"{{space: {{{SPACE}}}}}", ["--data", "nowhere"], 2, "nowhere: no such file or folder"),
        (f"{{space: {{{SPACE}}}}}", ["--out", "trainer.yaml"], 2, "would overwrite --config"),
        (f"{{space: {{{SPACE}}}}}", ["--out", "a.study"], 2, "is the study file too"),
        (f"{{space: {{{SPACE}}}}}", ["--out", "no/b.yaml"], 2, "there is no folder no"),
        (f"{{space: {{{SPACE}}}}}", ["--study", "pump.csv"], 2, "pump.csv: not a study"),
        (f"{{space: {{{SPACE}}}}}", ["--data", "short.csv"], 1, "none of 30 trials came to an end"),
    ],
)
def test_errors_are_one_line_with_the_contracts_exit_code(
    folder: Path,
    section: str,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "short.csv").write_text("timestamp,value\n1,1\n2,2\n3,3\n")
    write(folder, section)
    before = (folder / "pump.csv").read_bytes()
    assert tuned(*arguments) == code
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert (folder / "pump.csv").read_bytes() == before


def test_without_optuna_one_line_says_what_to_install(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, f"{{space: {{{SPACE}}}}}")
    monkeypatch.delitem(sys.modules, "trainer.tuning.tune")
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert tuned() == 2
    assert capsys.readouterr().err == (
        'stream-trainer: tune needs optuna: pip install "stream-detector[tune]"\n'
    )
