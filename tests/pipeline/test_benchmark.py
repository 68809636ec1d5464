"""`stream-trainer benchmark` from files to figures, through processes, bundles and the engine."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from stream_detector.adapters.torch_scorer import load_model
from tests.unit.benchmark_cases import write_ucr
from trainer.benchmarks.cases import Case
from trainer.benchmarks.detect import detect
from trainer.benchmarks.ucr import Ucr
from trainer.cli import run
from trainer.config.recipes import load_config

if TYPE_CHECKING:
    from pathlib import Path

    from stream_detector.bundle import Bundle
    from stream_detector.ports import Model

RECIPE = "model: {name: dense_autoencoder}\nfit: {epochs: 4, device: cpu}\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files to learn from and one that is too short; beside them a recipe."""
    root = tmp_path_factory.mktemp("benchmark")
    for number in (1, 2):
        write_ucr(root / "ucr", number)
    write_ucr(root / "ucr", 3, train=150, n=500, name="SHORT")
    (root / "quick.yaml").write_text(RECIPE)
    return root


def load(bundle: Bundle) -> Model:
    return load_model(bundle, device="cpu", threads=1)


def benchmark(data: Path, *more: str) -> dict[str, Any]:
    said = io.StringIO()
    recipe = ["--recipe", str(data / "quick.yaml")]
    with contextlib.redirect_stdout(said):
        assert run(["benchmark", "ucr", "--data", str(data), *recipe, "--json", *more]) == 0
    body = msgspec.json.decode(said.getvalue())
    assert isinstance(body, dict)
    return body


@pytest.fixture(scope="module")
def two_jobs(data: Path) -> dict[str, Any]:
    return benchmark(data, "--jobs", "2", "--report", str(data / "board.md"))


def test_files_run_in_processes_of_their_own_and_a_short_one_is_a_miss_with_its_reason(
    data: Path, two_jobs: dict[str, Any]
) -> None:
    body = two_jobs
    assert (body["suite"], body["recipe"], body["files"]) == ("ucr", "quick", 3)
    assert body["metrics"]["accuracy"] == pytest.approx(2 / 3)
    assert [one["hit"] for one in body["per_file"]] == [True, True, False]
    assert {one["detector"] for one in body["failed"]} == {"ours", "pca"}
    assert all("SHORT" in one["file"] and "samples" in one["reason"] for one in body["failed"])
    assert body["baselines"].keys() == {
        "pca", "mahalanobis", "knn", "knn_centred_smoothed", "random", "difference",
        "moving_average",
    }  # fmt: skip
    assert body["baselines"]["knn"]["metrics"]["accuracy"] == 1
    assert 0.5 < body["cpu_us_per_window"] < 10_000
    assert "| accuracy | 0.667 |" in (data / "board.md").read_text()


def test_one_process_gives_the_same_results_as_several_and_seeds_are_summed_up(
    data: Path, two_jobs: dict[str, Any], tmp_path: Path
) -> None:
    alone = benchmark(data, "--no-baselines", "--seeds", "2", "--jobs", "1")
    assert alone["seeds"]["values"] == [0, 1]
    assert alone["baselines"] == {}
    hits = [one["peak"] for one in alone["per_file"] if one["hit"]]
    assert hits[:2] == [one["peak"] for one in two_jobs["per_file"] if one["hit"]]
    assert len(hits) == 4
    results = [tmp_path / "first.json", tmp_path / "second.json"]
    for path, body in zip(results, (alone, two_jobs), strict=True):
        path.write_bytes(msgspec.json.encode(body))
    board = tmp_path / "board.html"
    assert run(["benchmark", "report", *map(str, results), "--out", str(board)]) == 0
    assert board.read_text().count("<section") == 2


def test_a_summary_for_people_names_what_failed(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    quick = ["--recipe", str(data / "quick.yaml"), "--jobs", "1"]
    assert run(["benchmark", "ucr", "--data", str(data), *quick, "--no-baselines"]) == 0
    said = capsys.readouterr().out
    assert "accuracy: 0.667 (0.208 to 0.939)" in said
    assert "failed, a miss: 003_UCR_Anomaly_SHORT" in said


def test_bad_arguments_end_with_one_clear_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, code, words in (
        (["smd", "--data", str(data)], 1, "https://github.com/NetManAIOps/OmniAnomaly"),
        (["ucr", "--data", str(tmp_path / "none")], 2, "no such folder"),
        (["ucr", "--data", str(data), "--recipe", "nonsense"], 2, "no recipe of that name"),
        (["ucr", "--data", str(data), "--report", "board.txt"], 2, ".md or .html"),
        (["report", str(data / "quick.yaml"), "--out", "x.md"], 1, "not a result"),
    ):
        assert run(["benchmark", *arguments]) == code
        error = capsys.readouterr().err
        assert words in error
        assert len(error.splitlines()) == 1


def test_verdicts_on_the_tested_part_do_not_depend_on_what_comes_later(data: Path) -> None:
    whole = Ucr().read(min((data / "ucr").iterdir()))
    cut = Case(
        whole.name, whole.features, whole.timestamp[:-150], whole.values[:-150], whole.train, []
    )
    config = load_config(data / "quick.yaml")
    long, short = detect(whole, config, None, load), detect(cut, config, None, load)
    assert len(short.score) == len(long.score) - 150 == cut.tested
    np.testing.assert_array_equal(short.score, long.score[:-150])
    np.testing.assert_array_equal(short.level, long.level[:-150])
    assert long.above.any()
    assert long.level[long.above].min() > 1.5  # each sample at the threshold of its time
    assert np.isfinite(long.score).all()
    assert long.windows >= whole.tested  # the first tested row has one, from the training part
    for first, last in long.episodes:
        assert long.inside[first : last + 1].mean() > 0.9


def test_a_recipe_that_resamples_has_scored_windows_from_the_first_tested_row_on(
    data: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "grid.yaml"
    recipe.write_text(RECIPE + "windows: {transforms: [{kind: resample, every: 2s}]}\n")
    case = Ucr().read(min((data / "ucr").iterdir()))  # a point a second
    answer = detect(case, load_config(recipe), None, load)
    assert case.tested // 2 <= answer.windows <= case.tested // 2 + 5
    assert answer.score[0] != answer.score.min()
    (anomaly,) = case.truth
    assert anomaly[0] <= np.argmax(answer.score) <= anomaly[1] + 120
