from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from stream_detector.bundle import Registry
from tests.unit.trainer_cases import START, wave
from trainer.cli import run

if TYPE_CHECKING:
    from pathlib import Path

QUICK = """
model: {name: dense_autoencoder}
fit: {epochs: 1, threads: 1, device: cpu}
"""


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "pump.csv"
    rows = "".join(f"{START + 60_000 * i},{v}\n" for i, v in enumerate(wave(700)))
    path.write_text("timestamp,value\n" + rows)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "trainer.yaml"
    path.write_text(QUICK)
    return path


def fit(history: Path, config: Path, registry: Path, capsys: pytest.CaptureFixture[str]) -> str:
    arguments = ["fit", "--data", history, "--config", config, "--out", registry, "--json"]
    assert run([str(part) for part in arguments]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["series"] == 1
    assert answer["rows"] == 700
    return str(answer["version"])


def test_fit_makes_a_bundle_current_and_the_registry_commands_move_it(
    history: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = tmp_path / "registry"
    first = fit(history, config, registry, capsys)
    config.write_text(QUICK + "scaling: robust\n")
    second = fit(history, config, registry, capsys)
    assert Registry(registry).current() == second

    where = ["--registry", str(registry)]
    assert run(["rollback", *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"current": first, "previous": second}
    assert run(["promote", second, *where]) == 0
    assert capsys.readouterr().out == f"CURRENT is {second}, was {first}\n"
    assert run(["list", *where, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["current"] == second
    assert {one["version"] for one in listed["versions"]} == {first, second}
    assert run(["list", *where]) == 0
    assert f"* {second}  dense_autoencoder" in capsys.readouterr().out


def test_fit_says_how_much_was_left_out_near_known_anomalies(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pump.csv"
    rows = "".join(f"{START + 60_000 * i},{v},{i == 50}\n" for i, v in enumerate(wave(900)))
    path.write_text("timestamp,value,fault\n" + rows)
    config.write_text(QUICK + "data: {labels: {column: fault}, margin: 10}\n")
    arguments = ["fit", "--data", str(path), "--config", str(config), "--out"]
    assert run([*arguments, str(tmp_path / "first"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["rows"], answer["left_out_samples"]) == (879, 21)
    assert answer["features"] == ["value"]
    assert run([*arguments, str(tmp_path / "second")]) == 0
    assert "21 samples in or near known anomalies left out" in capsys.readouterr().out


def test_a_damaged_bundle_is_not_promoted_and_listed_with_its_fault(
    history: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = tmp_path / "registry"
    version = fit(history, config, registry, capsys)
    (registry / version / "model-1.pt").write_bytes(b"")
    assert run(["promote", version, "--registry", str(registry)]) == 1
    assert "was damaged or changed" in capsys.readouterr().err
    assert run(["list", "--registry", str(registry)]) == 0
    assert "was damaged or changed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fit"], 2, "Missing option '--out'"),
        (["fit", "--out", "R"], 2, "give --data PATH"),
        (["fit", "--out", "R", "--data", "nowhere"], 2, "nowhere: no such file or folder"),
        (["fit", "--out", "R", "--config", "nowhere.yaml"], 2, "nowhere.yaml: No such file"),
        (["fit", "--out", "R", "--config", "CONFIG"], 2, "unknown field `speed`"),
        (["fit", "--out", "R", "--config", "LABELS"], 2, "data.labels.file: nowhere: no such file"),
        (["fit", "--out", "R", "--data", "CUT.csv.gz"], 1, "CUT.csv.gz: damaged"),
        (["fit", "--out", "R", "--data", "SHORT"], 1, "has 3 complete samples"),
        (["rollback", "--registry", "R"], 1, "no CURRENT bundle"),
        (["promote", "--registry", "R"], 1, "stream-trainer fit"),
        (["bogus"], 2, "No such command"),
    ],
)
def test_errors_are_one_line_with_the_contracts_exit_code(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "CONFIG").write_text("fit: {speed: 3}\n")
    (tmp_path / "LABELS").write_text("data: {path: SHORT, labels: {file: nowhere}}\n")
    (tmp_path / "CUT.csv.gz").write_bytes(gzip.compress(b"timestamp,value\n1,1\n")[:-9])
    (tmp_path / "SHORT").mkdir()
    (tmp_path / "SHORT" / "x.csv").write_text("timestamp,value\n1,1\n2,2\n3,3\n")
    assert run(arguments) == code
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("stream-trainer: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize("command", ["fit", "promote", "rollback", "list", "tune"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert f"stream-trainer {command}" in capsys.readouterr().out


def test_no_command_prints_the_help_and_counts_as_bad_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([]) == 2
    assert "Commands" in capsys.readouterr().out
