"""`stream-trainer promise` from simulated samples to figures, through bundles and the engine."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stream_detector.adapters.torch_scorer import load_model
from stream_detector.core.engine import Engine
from stream_detector.core.policy import Policy
from stream_detector.records import Status
from tests.service import until
from trainer.cli import run
from trainer.config.recipes import load_config
from trainer.promise.cases import LEARNT_DAYS, SEASON, STEPS_A_DAY, Fleet
from trainer.promise.work import GROUP, Setup, Task, batches, chosen, dataset, work
from trainer.recipes.base import changed
from trainer.train import in_memory, train

if TYPE_CHECKING:
    from stream_detector.bundle import Bundle
    from stream_detector.ports import Model

RECIPE = """
model: {name: dense_autoencoder}
fit: {epochs: 2, threads: 1, device: cpu}
experts: [{name: newest}, {name: departure}]
calibration: {tail: 0.99, shape: log, fusion: l2}
"""
SERIES, DAYS = 2, 32


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("promise") / "quick.yaml"
    path.write_text(RECIPE)
    return path


def load(bundle: Bundle) -> Model:
    return load_model(bundle, device="cpu", threads=1)


def promise(recipe: Path, *more: str) -> dict[str, Any]:
    said = io.StringIO()
    size = ["--series", str(SERIES), "--days", str(DAYS)]
    with contextlib.redirect_stdout(said):
        assert run(["promise", "--recipe", str(recipe), *size, "--json", *more]) == 0
    body = msgspec.json.decode(said.getvalue())
    assert isinstance(body, dict)
    return body


@pytest.fixture(scope="module")
def body(recipe: Path) -> dict[str, Any]:
    cases = ["--case", "season", "--case", "step", "--case", "spike", "--start", "both"]
    return promise(recipe, *cases, "--jobs", "2", "--report", str(recipe.parent / "promise.html"))


def test_every_case_start_and_budget_has_a_cell_with_what_was_promised(
    body: dict[str, Any],
) -> None:
    assert (body["recipe"], body["series"], body["days"]) == ("quick", SERIES, DAYS)
    cells = {(one["case"], one["start"], round(1 / one["budget"])): one for one in body["cases"]}
    assert cells.keys() == {
        (case, start, days)
        for case in ("season", "step")
        for start in ("new", "known")
        for days in (1, 7, 30)
    }
    for (_, _, days), one in cells.items():
        first = 7 if days == 1 else 30
        assert one["promised"] == pytest.approx(SERIES * (DAYS - first) / days)
        assert one["warm_up"]["promised"] == pytest.approx(SERIES * first / days)
        assert one["ratio"] == pytest.approx(one["realised"] / one["promised"])
        assert one["interval"][0] <= one["ratio"] <= one["interval"][1]
    assert sum(one["realised"] + one["warm_up"]["realised"] for one in body["cases"]) > 0
    assert body["samples"] == 6 * SERIES * DAYS * STEPS_A_DAY
    assert 0.1 < body["cpu_us_per_sample"] < 10_000
    assert body["seconds"] > 0


def test_what_is_found_stands_beside_a_static_threshold(body: dict[str, Any]) -> None:
    assert [(one["anomaly"], one["start"]) for one in body["found"]] == [
        *[("spike", "new")] * 3,
        *[("spike", "known")] * 3,
    ]
    for one in body["found"]:
        assert one["injected"] == 2 * SERIES
        assert one["share"] == one["found"] / one["injected"]
        assert one["oracle"]["share"] == 1.0
        assert one["oracle"]["delay_steps"]["median"] <= 1
        assert one["beside"]["promised"] > 0
    thresholds = [one["oracle"]["threshold"] for one in body["found"][:3]]
    assert thresholds == sorted(thresholds)  # the smaller the budget the higher
    assert body["found"][0]["share"] == 1.0


def test_the_report_has_the_picture_and_both_tables(recipe: Path, body: dict[str, Any]) -> None:
    page = (recipe.parent / "promise.html").read_text()
    assert page.count("<table>") == 3
    assert "data:image/svg+xml" in page
    assert f"{len(body['cases'])} cells" in page


def test_one_process_gives_the_same_figures_and_a_table_for_people(
    recipe: Path, body: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--series", str(SERIES), "--days", str(DAYS), "--jobs", "1"]
    capsys.readouterr()
    assert run(["promise", "--recipe", str(recipe), "--case", "season", *size]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split()[:3] == ["case", "start", "budget"]
    for line, one in zip(said[1:4], body["cases"][:3], strict=True):
        assert line.startswith(f"season  new    {one['name']}")
        assert line.split()[-1] == str(one["warm_up"]["realised"])
    assert "recipe quick" in said[-1]


def test_engines_side_by_side_open_what_one_alone_opens(recipe: Path) -> None:
    config = load_config(recipe)
    setup = Setup(config, SERIES, DAYS, 5)
    done = work(Task(SEASON, "known", setup), load)
    fleet = Fleet(SEASON, 5, SERIES)
    data = dataset(fleet.names, fleet.block(LEARNT_DAYS * STEPS_A_DAY))
    config = changed(config, fit=changed(config.fit, seed=5))
    engine = Engine(GROUP, Policy(alarm_budget=1.0))
    engine.serve(GROUP, load(in_memory(train(data, config, quiet=True))))
    opened = 0
    for batch in batches(fleet.names, fleet.block(DAYS * STEPS_A_DAY), 0):
        events = engine.process([batch]).events
        opened += sum(event.status is Status.OPENED for event in events)
    assert opened == len(done.episodes["1 a day"])
    assert opened > 0


def test_cases_and_anomalies_are_chosen_by_name(recipe: Path) -> None:
    setup = Setup(load_config(recipe), SERIES, DAYS, 0)
    assert len(chosen((), "new", setup)) == 9
    tasks = chosen(("burst", "iid"), "both", setup)
    assert [(t.case.name, t.anomaly and t.anomaly.name, t.start) for t in tasks] == [
        ("iid", None, "new"),
        ("iid", None, "known"),
        ("season", "burst", "new"),
        ("season", "burst", "known"),
    ]


def test_bad_arguments_end_with_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--case", "seasonal"], "no case 'seasonal'; there are iid, season, heavy"),
        (["--recipe", "nonsense"], "no recipe of that name"),
        (["--report", "promise.md"], "must be .html"),
        (["--days", "30"], "greater than or equal to 31"),
    ):
        assert run(["promise", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.splitlines()) == 1


def test_an_interrupt_from_a_terminal_ends_all_processes_without_a_traceback(recipe: Path) -> None:
    command = [sys.executable, "-m", "trainer", "promise", "--recipe", str(recipe), "--jobs", "2"]
    with subprocess.Popen(
        [*command, "--series", "200"], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while len(_group(process.pid)) < 3:  # itself and its two
            time.sleep(0.05)
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert process.returncode in {1, 130}  # as typer's versions have it
    assert "Traceback" not in error
    assert len(error.splitlines()) <= 1
    until(lambda: not _group(process.pid), "its processes to be gone")


def _group(leader: int) -> list[int]:
    """Processes of its group that run still, but for the one that cleans up behind them."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, group = (path / "stat").read_text().rpartition(")")[2].split()[:3]
            helper = b"resource_tracker" in (path / "cmdline").read_bytes()
            if int(group) == leader and state != "Z" and not helper:
                found.append(int(path.name))
    return found
