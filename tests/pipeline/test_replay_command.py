"""`stream-detector replay` on a trained bundle: files and stdin in, events and a summary out."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml

from stream_detector.app import Settings
from stream_detector.bundle import Registry
from stream_detector.cli import execute
from stream_detector.commands import wiring
from stream_detector.formats.events import line_envelope
from tests.unit.trainer_cases import MINUTE, START, fleet, quick, wave
from trainer.config import Calibration
from trainer.config.threshold import ThresholdChoice
from trainer.train import publish, train

if TYPE_CHECKING:
    from pathlib import Path

LEARNT, STEPS = 1500, 600


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions; the second, of another seed, is CURRENT."""
    place = Registry(tmp_path_factory.mktemp("replay") / "registry")
    for seed in (0, 1):
        publish(train(fleet(LEARNT), quick(epochs=3, seed=seed), quiet=True), place)
    return place.path


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    """Two known series and a new one, a fault in each."""
    columns = [wave(LEARNT + STEPS, n, 10.0 ** (2 * n), (48.0, 60.0)[n])[LEARNT:] for n in (0, 1)]
    columns.append(wave(STEPS, 7, 3.0))
    for n, column in enumerate(columns):
        column[300 + 20 * n] += 3 * abs(column).max()
    return [
        json.dumps(
            {
                "series": f"s{n}" if n < 2 else "new",
                "timestamp": START + MINUTE * (LEARNT + step),
                "value": float(column[step]),
            }
        ).encode()
        for step in range(STEPS)
        for n, column in enumerate(columns)
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> Path:
    path = tmp_path_factory.mktemp("data") / "samples.ndjson"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def replay(*arguments: object) -> int:
    return execute(["replay", "--device", "cpu", *map(str, arguments)])


def events_of(path: Path) -> list[dict[str, Any]]:
    return [line_envelope(line) for line in path.read_bytes().splitlines()]


def test_the_faults_become_events_in_a_file_and_the_summary_counts_them(
    registry: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "events.ndjson"
    assert replay("--bundle", registry, "--input", data, "--output", out, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    events = events_of(out)
    opened = [event["data"] for event in events if event["data"]["status"] == "opened"]
    for n, name in enumerate(("s0", "s1", "new")):
        time = START + MINUTE * (LEARNT + 300 + 20 * n)
        assert (name, time) in [(event["series"], event["started_at"]) for event in opened]
    assert all(event["subject"] == event["data"]["series"] for event in events)
    assert {event["source"] for event in events} == {"stream-detector"}
    assert summary["records"] == 3 * STEPS
    assert summary["samples"] == {"accepted": 3 * STEPS} | dict.fromkeys(
        ("late", "duplicate", "future", "unheld", "refused"), 0
    )
    assert summary["windows"] == 2 * (STEPS - 59) + STEPS - 119
    assert summary["events"] == len(events)
    assert summary["episodes"] == len(opened)
    assert summary["rejected"] == 0
    assert summary["seconds"] > 0
    assert summary["windows_per_second"] > 0
    assert {"decode", "engine", "score"} <= summary["stages"].keys()


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_size_of_the_batches_changes_nothing(
    batch: int,
    registry: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual, cut = tmp_path / "usual", tmp_path / "cut"
    assert replay("--bundle", registry, "--input", data, "--output", usual) == 0
    monkeypatch.setattr(
        wiring, "Settings", lambda **given: Settings(**given | {"max_batch": batch})
    )
    assert replay("--bundle", registry, "--input", data, "--output", cut) == 0
    assert usual.read_bytes() == cut.read_bytes() != b""


def test_stdin_and_stdout_are_dashes_and_give_the_same_events(
    registry: Path, data: Path, tmp_path: Path, lines: list[bytes]
) -> None:
    out = tmp_path / "events.ndjson"
    assert replay("--bundle", registry, "--input", data, "--output", out) == 0
    command = [sys.executable, "-m", "stream_detector", "replay", "--bundle", str(registry)]
    done = subprocess.run(
        [*command, "--input", "-", "--output", "-", "--device", "cpu"],
        input=b"\n".join(lines),
        capture_output=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    ids = [line_envelope(line)["id"] for line in done.stdout.splitlines()]
    assert ids == [event["id"] for event in events_of(out)]
    assert done.stderr.count(b"\n") == 1
    assert b"1800 records (1800 accepted; 0 rejected)" in done.stderr


def test_the_source_is_part_of_every_id(registry: Path, data: Path, tmp_path: Path) -> None:
    ids = []
    for name in ("plant-1", "plant-2"):
        out = tmp_path / name
        assert replay("--bundle", registry, "--input", data, "--output", out, "--source", name) == 0
        assert {event["source"] for event in events_of(out)} == {name}
        ids.append({event["id"] for event in events_of(out)})
    assert not ids[0] & ids[1]


def test_a_configuration_sets_groups_fields_threshold_and_name(
    registry: Path, tmp_path: Path, lines: list[bytes]
) -> None:
    data = tmp_path / "odd.ndjson"
    odd = [json.loads(line) for line in lines]
    data.write_text(
        "\n".join(
            json.dumps({"tags": {"id": s["series"]}, "at": s["timestamp"] / 1000, "v": s["value"]})
            for s in odd
        )
    )
    config = tmp_path / "detector.yaml"
    settings = {
        "source": "line-4",
        "kafka": {"bootstrap_servers": ["nobody:9092"], "group_id": "g"},
        "output": {"topic": "a", "dead_letter_topic": "b"},
        "input": {
            "topics": ["t"],
            "fields": {"series": "tags.id", "timestamp": "at", "time_unit": "s", "value": "v"},
        },
        "models": [{"match": "s*", "registry": str(registry), "name": "pumps"}],
    }
    letters = tmp_path / "letters.ndjson"
    counts = []
    for level in (2.0, 60.0):
        config.write_text(yaml.safe_dump(settings | {"threshold": {"level": level}}))
        out = tmp_path / f"events-{level}"
        arguments = ["--config", config, "--input", data, "--output", out]
        assert replay(*arguments, "--dead-letters", letters) == 0
        found = events_of(out)
        assert {event["source"] for event in found} <= {"line-4"}
        assert {event["data"]["threshold"] for event in found} <= {level}
        counts.append(len(found))
        refused = [json.loads(line) for line in letters.read_bytes().splitlines()]
        assert len(refused) == STEPS
        assert {letter["reason"] for letter in refused} == {"no_model"}
    assert counts[0] > counts[1]


def test_what_cannot_be_used_goes_to_the_file_of_dead_letters(
    registry: Path, tmp_path: Path, lines: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    data, letters = tmp_path / "some.ndjson", tmp_path / "letters.ndjson"
    bad = [b'{"series": "s0"}', b"not json", b'{"series": "s0", "timestamp": 5, "value": "x"}']
    data.write_bytes(b"\n".join([*lines[:30], *bad, *lines[30:60]]))
    assert replay("--bundle", registry, "--input", data, "--dead-letters", letters, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["rejected"] == 3
    assert summary["samples"]["accepted"] == 60
    found = [json.loads(line) for line in letters.read_bytes().splitlines()]
    assert [letter["offset"] for letter in found] == [30, 31, 32]
    assert {letter["topic"] for letter in found} == {"some.ndjson"}
    reasons = [letter["reason"] for letter in found]
    assert "malformed" in reasons
    assert {name: one["count"] for name, one in summary["reasons"].items()} == Counter(reasons)
    assert all(one["first"] for one in summary["reasons"].values())


def test_a_replay_tells_people_why_records_could_not_be_used(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "wrong.csv"
    rows = "".join(f"{1764201600 + 60 * step},1.5\n" for step in range(70))
    data.write_text(f"timestamp,pressure\n{rows}", "utf-8")
    assert replay("--bundle", registry, "--input", data, "--output", tmp_path / "events") == 0
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("70 records (no samples; 70 rejected)")
    assert told[1].startswith("rejected, missing_field: 70, first: no value for")


def test_against_tells_which_episodes_only_one_of_two_bundles_saw(
    registry: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = Registry(registry).versions()
    assert (
        replay(
            "--bundle", registry / first, "--against", registry / first, "--input", data, "--json"
        )
        == 0
    )
    same = json.loads(capsys.readouterr().out)
    assert same["against"] == {
        "both": same["episodes"],
        "only_bundle": [],
        "only_against": [],
    }
    assert same["episodes"] >= 3
    assert (
        replay("--bundle", registry / first, "--against", registry / second, "--input", data) == 0
    )
    printed = capsys.readouterr()
    assert "both bundles: " in printed.err
    assert all(json.loads(line)["specversion"] == "1.0" for line in printed.out.splitlines())


def test_against_lists_what_the_other_bundle_misses(
    registry: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deaf = Registry(tmp_path / "deaf")
    never = Calibration(threshold=ThresholdChoice(level=99.5))  # levels end at 99
    settings = msgspec.structs.replace(quick(epochs=1), calibration=never)
    publish(train(fleet(LEARNT), settings, quiet=True), deaf)
    assert replay("--bundle", registry, "--against", deaf.path, "--input", data, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    diff = summary["against"]
    assert (diff["both"], diff["only_against"]) == (0, [])
    assert len(diff["only_bundle"]) == summary["episodes"] >= 3
    assert {"series": "new", "started_at": START + MINUTE * (LEARNT + 340)} in diff["only_bundle"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--input", "DATA"], 2, "give --bundle, or a --config"),
        (["--bundle", "REGISTRY"], 2, "Missing option '--input'"),
        (["--bundle", "REGISTRY", "--input", "DATA", "--json", "--output", "-"], 2, "both want"),
        (["--bundle", "REGISTRY", "--input", "-", "--against", "REGISTRY"], 2, "stdin"),
        (["--bundle", "nowhere", "--input", "DATA"], 1, "nowhere: no CURRENT bundle"),
        (["--bundle", "REGISTRY", "--input", "no.csv"], 1, "no.csv"),
        (["--bundle", "REGISTRY", "--input", "DATA", "--output", "no/e"], 1, "no/e: No such file"),
        (["--config", "no.yaml", "--input", "DATA"], 2, "no.yaml: No such file"),
        (["--bundle", "REGISTRY", "--input", "DATA", "--device", "gpu"], 2, "device"),
    ],
)
def test_errors_are_one_line_with_the_contracts_exit_code(
    arguments: list[str],
    code: int,
    words: str,
    registry: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    known = {"DATA": str(data), "REGISTRY": str(registry)}
    assert execute(["replay", *(known.get(part, part) for part in arguments)]) == code
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.startswith("stream-detector: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_file_of_which_nothing_can_be_used_stops_with_a_clear_line(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "strange.ndjson", tmp_path / "events.ndjson"
    data.write_bytes(b'{"sensor": 1, "t": 2}\n' * 12_000)
    assert replay("--bundle", registry, "--input", data, "--output", out) == 1
    printed = capsys.readouterr()
    assert "of the last 10000 records cannot be used" in printed.err
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [data]


def test_a_reader_that_leaves_early_ends_the_replay_in_silence(registry: Path, data: Path) -> None:
    command = f"{sys.executable} -m stream_detector replay --bundle {registry} --input {data}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} --device cpu | head -c 1"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == b"{", done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Broken" not in done.stderr
