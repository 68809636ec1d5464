"""`stream-detector demo` end to end: simulate, train, detect and report, in memory."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stream_detector.bundle import Registry
from stream_detector.cli import execute
from stream_detector.formats.events import parse_event_line

SMALL = ["demo", "--series", "3", "--minutes", "2400", "--seed", "5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def summary(folder: Path) -> dict[str, Any]:
    """Of one small demo; standard output must hold its one JSON object and nothing else."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert execute([*SMALL, "--output", str(folder), "--json"]) == 0
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


def test_the_summary_has_the_keys_that_scripts_rely_on(summary: dict[str, Any]) -> None:
    keys = {"series", "samples", "windows", "episodes", "delay_steps", "windows_per_second"}
    assert keys | {"seconds", "outputs"} <= summary.keys()
    assert {"true", "found", "missed", "false"} <= summary["episodes"].keys()
    assert summary["delay_steps"].keys() == {"median", "p90"}
    assert summary["seconds"].keys() == {"train", "detect", "total"}


def test_every_sample_of_the_tested_part_was_taken_and_scored(summary: dict[str, Any]) -> None:
    steps = 2400 - round(2400 * 0.65)
    assert summary["series"] == 3
    assert summary["samples"] == 3 * steps
    # The first 59 steps of a series fill its first window.
    assert summary["windows"] == 3 * (steps - 59)


def test_found_and_missed_add_up_and_some_faults_are_found(summary: dict[str, Any]) -> None:
    episodes = summary["episodes"]
    assert episodes["found"] + episodes["missed"] == episodes["true"]
    assert episodes["found"] >= 1
    assert sum(kind["true"] for kind in summary["kinds"].values()) == episodes["true"]
    assert summary["seconds"]["total"] >= summary["seconds"]["train"]


def test_the_events_file_tells_of_the_episodes_that_the_summary_counts(
    summary: dict[str, Any], folder: Path
) -> None:
    lines = (folder / "events.ndjson").read_bytes().splitlines()
    bodies = [parse_event_line(line) for line in lines]
    opened = [b for b in bodies if b["kind"] == "anomaly" and b["status"] == "opened"]
    episodes = summary["episodes"]
    assert len(opened) == episodes["found"] + episodes["false"] + episodes["repeats"]
    labels = (folder / "labels.ndjson").read_text().splitlines()
    assert len(labels) == episodes["true"]


def test_every_output_that_is_named_exists_and_the_bundles_verify(
    summary: dict[str, Any], folder: Path
) -> None:
    paths = [Path(path) for path in summary["outputs"]]
    assert all(path.exists() for path in paths)
    pictures = [path for path in paths if path.suffix == ".png"]
    assert {path.name for path in pictures} == {
        "episodes.png", "observed-expected.png", "scores.png",
    }  # fmt: skip
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    models = {
        group: Registry(folder / "models" / group).load().manifest.model
        for group in ("pump", "turbine", "web")
    }
    assert models["web"] == "lstm_autoencoder"


def test_without_the_trainer_the_demo_names_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from stream_detector.cli import execute\n"
        "sys.exit(execute(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *SMALL, "--output", str(tmp_path / "out")]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "matplotlib is not installed" in ended.stderr
    assert 'pip install "stream-detector[trainer]"' in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not ended.stdout
    assert not (tmp_path / "out").exists()


def test_too_little_time_to_learn_from_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert execute(["demo", "--minutes", "600"]) == 2
    error = capsys.readouterr().err
    assert "--minutes" in error
    assert error.count("\n") == 1
