"""`stream-detector check --offline`: configuration and bundles, without a broker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from stream_detector.bundle import Registry
from stream_detector.cli import execute
from tests.unit.trainer_cases import fleet, quick
from trainer.train import publish, train

if TYPE_CHECKING:
    from pathlib import Path

USUAL = {
    "kafka": {"bootstrap_servers": ["127.0.0.1:9"], "group_id": "g"},
    "input": {"topics": ["sensors"]},
    "output": {"topic": "anomalies", "dead_letter_topic": "letters"},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = Registry(tmp_path_factory.mktemp("check") / "registry")
    publish(train(fleet(1000), quick(epochs=1), quiet=True), place)
    return place.path


def check(path: Path, settings: dict[str, Any] | str, *more: str) -> int:
    file = path / "detector.yaml"
    file.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
    return execute(["check", "--config", str(file), *more])


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("stream-detector: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_every_group_is_verified_and_its_capacity_measured(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version = Registry(registry).current()
    routes = [
        {"match": "s*", "registry": str(registry), "name": "pumps"},
        {"match": "*", "registry": str(registry)},
    ]
    assert check(tmp_path, USUAL | {"models": routes}, "--offline", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [group["group"] for group in report["groups"]] == ["pumps", "*"]
    for group in report["groups"]:
        assert group["version"] == version
        assert (group["features"], group["scales"]) == (["value"], [1])
        assert group["known_series"] == 3
        assert group["windows_per_second"] == group["samples_per_second"] > 0
        assert 60 * 4 < group["bytes_per_series"] < 1000
    assert report["topics"] == {}


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({}, "the bundle's: alarm_budget 1 (1 false episodes per series and day, from"),
        ({"alarm_budget": 0.5}, "alarm budget of 0.5 episodes per series and day"),
        ({"threshold": {"quantile": 0.999}}, "threshold: quantile 0.999"),
        ({"threshold": {"sigma": 3}}, "threshold: sigma 3"),
        ({"threshold": {"error": 0.5}}, "threshold: error 0.5"),
    ],
)
def test_it_tells_people_what_decides_about_alarms(
    rule: dict[str, Any],
    words: str,
    registry: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert check(tmp_path, USUAL | rule | {"model": {"registry": str(registry)}}, "--offline") == 0
    printed = capsys.readouterr()
    assert words in printed.out
    assert "series at one sample a minute" in printed.out
    assert printed.out.splitlines()[-1] == "ready to run"
    assert printed.err == ""


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("[", "detector.yaml"),
        ("kafka: {}", "detector.yaml"),
        (USUAL, "give either `model` or `models`"),
        (USUAL | {"speed": 3}, "unknown field `speed`"),
        (USUAL | {"treads": 3}, "unknown field `treads`; did you mean `threads`?"),
        (
            USUAL | {"snapshots": {"evry": "1m"}},
            "unknown field `evry` - at `$.snapshots`; did you mean `every`?",
        ),
        (USUAL | {"model": {"registry": "${NO_SUCH_VARIABLE}"}}, "NO_SUCH_VARIABLE is not set"),
        (USUAL | {"model": {"registry": "x"}, "alarm_budget": -1}, "alarm_budget"),
        (USUAL | {"model": {"registry": "x"}, "device": "gpu"}, "device"),
        (
            USUAL | {"model": {"registry": "x"}, "threshold": {"error": 1.0, "sigma": 3.0}},
            "`threshold` needs one of level, quantile, sigma, error",
        ),
        (USUAL | {"model": {"registry": "x"}, "threshold": {"error": 0.0}}, "threshold.error"),
        (USUAL | {"model": {"registry": "x"}, "commit_every": "soon"}, "commit_every"),
    ],
    ids=str,
)
def test_a_wrong_configuration_is_one_line_and_code_2(
    settings: dict[str, Any] | str,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert check(tmp_path, settings, "--offline") == 2
    assert words in one_line(capsys)


def test_wrong_fields_are_found_before_the_service_starts(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {"topics": ["sensors"], "fields": {"series": "a..b"}}
    settings = USUAL | {"model": {"registry": str(registry)}, "input": fields}
    assert check(tmp_path, settings, "--offline") == 2
    assert "input.fields.series" in one_line(capsys)


def test_a_missing_or_damaged_bundle_is_one_line_and_code_1(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = USUAL | {"model": {"registry": str(tmp_path / "nowhere")}}
    assert check(tmp_path, settings, "--offline") == 1
    assert "no CURRENT bundle" in one_line(capsys)

    damaged = Registry(tmp_path / "damaged")
    version = publish(train(fleet(1000), quick(epochs=1), quiet=True), damaged)
    module = damaged.path / version / "model-1.pt"
    module.write_bytes(module.read_bytes()[:-10])
    settings = USUAL | {"model": {"registry": str(damaged.path)}}
    assert check(tmp_path, settings, "--offline") == 1
    assert "model-1.pt: sha256" in one_line(capsys)
    assert registry.exists()


def test_snapshots_that_cannot_be_written_are_found(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    settings = USUAL | {"model": {"registry": str(registry)}}
    for url, code in ((str(tmp_path / "file" / "x"), 1), ("nosuch://bucket", 2)):
        assert check(tmp_path, settings | {"snapshots": {"url": url}}, "--offline") == code
        assert "snapshots.url" in one_line(capsys)


def test_it_says_that_a_local_path_of_snapshots_serves_one_worker(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = USUAL | {"model": {"registry": str(registry)}}
    for url, words in ((str(tmp_path / "new"), "it serves one worker"), (None, "snapshots: none")):
        assert check(tmp_path, settings | {"snapshots": {"url": url}}, "--offline") == 0
        assert words in capsys.readouterr().out


def test_a_store_that_cannot_be_written_is_found(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    settings = USUAL | {
        "model": {"registry": str(registry)},
        "store": {"url": str(tmp_path / "file" / "store")},
    }
    assert check(tmp_path, settings, "--offline") == 1
    assert "store" in one_line(capsys)
