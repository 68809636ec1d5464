"""`stream-detector simulate`: files hold what the fleet holds, and mistakes end in one line."""

from __future__ import annotations

import csv
import json
import time
from typing import TYPE_CHECKING

import pytest

from stream_detector.adapters.memory import MemoryBroker, MemorySink
from stream_detector.cli import execute
from stream_detector.simulation import Fleet

if TYPE_CHECKING:
    from pathlib import Path

    from stream_detector.config import Kafka, Output

FLEET = ["simulate", "--series", "5", "--minutes", "2000", "--seed", "3", "--anomalies", "6"]


def test_ndjson_and_labels_are_the_fleets_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, labels = tmp_path / "sub" / "fleet.ndjson", tmp_path / "labels.ndjson"
    assert execute([*FLEET, "--output", str(samples), "--labels", str(labels), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    fleet = Fleet(series=5, minutes=2000, seed=3, anomaly_rate=6)
    lines = samples.read_bytes().splitlines()
    assert lines == [wire.value for wire in fleet.records(0, fleet.steps)]
    bodies = [json.loads(line) for line in labels.read_text().splitlines()]
    assert bodies == [label.body() for label in fleet.labels]
    assert (summary["samples"], summary["labels"]) == (len(lines), len(bodies))
    assert summary["labels"] > 0


def test_csv_of_one_machine_type_has_its_features_as_columns(tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    assert execute([*FLEET, "--only", "turbine", "--output", str(path)]) == 0
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * 2000
    assert list(rows[0]) == [
        "series", "timestamp", "power", "speed", "bearing_temperature", "vibration",
    ]  # fmt: skip
    assert all(row["power"] for row in rows)


def test_normal_only_has_no_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "fleet.ndjson")
    assert execute([*FLEET, "--normal-only", "--output", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == 0


def test_the_first_sample_lies_where_start_says(tmp_path: Path) -> None:
    path = tmp_path / "fleet.ndjson"
    start = ["--start", "2026-03-01T12:00:00+00:00", "--minutes", "3"]
    assert execute([*FLEET, *start, "--output", str(path)]) == 0
    first = json.loads(path.read_text().splitlines()[0])["timestamp"]
    assert 0 <= first - 1_772_366_400_000 < 60_000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give either --output"),
        (["--output", "x.csv", "--kafka", "localhost:1"], "give either --output"),
        (["--kafka", "localhost:1"], "--topic"),
        (["--output", "-", "--json"], "stdout"),
        (["--output", "x.csv", "--only", "boat"], "no machine type boat"),
        (["--output", "x.csv", "--interval", "soon"], "not a duration"),
        (["--output", "x.csv", "--start", "tomorrow"], "not a time"),
        (["--output", "x.csv", "--minutes", "0"], "must be above 0"),
        (["--output", "x.csv", "--rate", "0"], "--rate"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["simulate", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_an_unwritable_output_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert execute(["simulate", "--output", str(tmp_path / "file" / "x.csv")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_topic_gets_keyed_records_that_end_now_unless_start_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = MemoryBroker(partitions=2)

    def sink(brokers: Kafka, output: Output) -> MemorySink:
        assert brokers.bootstrap_servers == ["one:9092", "two:9092"]
        assert output.topic == "sensors"
        return broker.sink()

    monkeypatch.setattr("stream_detector.adapters.kafka.KafkaSink", sink)
    before = time.time() * 1000
    to = ["--kafka", "one:9092,two:9092", "--topic", "sensors", "--minutes", "10"]
    assert execute([*FLEET, *to]) == 0
    messages = broker.messages("sensors")
    assert len(messages) == 5 * 10
    for message in messages:
        sample = json.loads(message.value or b"")
        assert message.key == sample["series"].encode()
        assert message.timestamp == sample["timestamp"]
        assert before - 600_000 <= sample["timestamp"] <= time.time() * 1000


def test_rate_paces_the_samples_in_real_time(tmp_path: Path) -> None:
    path = tmp_path / "fleet.ndjson"
    began = time.monotonic()
    assert execute([*FLEET, "--minutes", "4", "--rate", "100", "--output", str(path)]) == 0
    assert time.monotonic() - began >= 5 * 4 / 100
