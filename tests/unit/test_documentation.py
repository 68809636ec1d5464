"""README and CHANGELOG promise only what is there: commands, keys, defaults, metrics, files."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml
from prometheus_client import CollectorRegistry
from typer.main import get_command

from stream_detector.adapters.prometheus.catalogue import Catalogue
from stream_detector.cli import app as detector
from stream_detector.config import (
    DetectorConfig,
    Fields,
    Input,
    Kafka,
    ModelRoute,
    Output,
    parse_yaml,
)
from stream_detector.formats.events import dead_letter
from stream_detector.formats.json import JsonDecoder
from stream_detector.records import (
    Reason,
    Record,
    Rejected,
)
from tests.fakes import event
from trainer.cli import app as trainer
from trainer.config import TrainerConfig
from trainer.tuning.space import Space

if TYPE_CHECKING:
    import typer

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
PROGRAMS: dict[str, typer.Typer] = {"stream-detector": detector, "stream-trainer": trainer}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(match[1], match[2]) for match in FENCE.finditer(README)]
DEFAULTS: dict[str, Any] = msgspec.to_builtins(
    DetectorConfig(
        kafka=Kafka(bootstrap_servers=["localhost:9092"], group_id="group"),
        input=Input(topics=["sensors"]),
        output=Output(topic="anomalies", dead_letter_topic="dead-letters"),
        model=ModelRoute(registry="registry"),
    )
)

EVENT = event()


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def command_lines() -> list[list[str]]:
    """Calls of our programs in the README's blocks."""
    lines = [line for text in blocks("") for line in text.splitlines()]
    calls = [call.strip() for line in lines for call in line.split("&&")]
    return [shlex.split(call) for call in calls if call.split(" ")[0] in PROGRAMS]


def rows(first_cell: str) -> list[list[str]]:
    """Cells of the rows of the table whose head begins with this cell."""
    lines = README.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_cell} |"))
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def commands(program: str) -> dict[str, Any]:
    group: Any = get_command(PROGRAMS[program])
    return dict(group.commands)


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_every_call_in_the_readme_parses(words: list[str]) -> None:
    program, command, *arguments = words
    commands(program)[command].make_context(command, arguments)


def test_the_readme_or_the_changelog_names_every_command() -> None:
    for program in PROGRAMS:
        for command in commands(program):
            assert f"`{program} {command}" in CHANGELOG or f"`{command}`" in CHANGELOG, command


def test_the_readme_begins_with_two_commands_and_the_second_is_what_the_build_runs() -> None:
    first, second = [text.strip() for text in blocks("") if text.startswith("pip install ")][:2]
    assert first == 'pip install ".[trainer]" && stream-detector demo'
    build = (ROOT / ".ci" / "run").read_text("utf-8")
    for part in second.split(" && "):
        assert part in build


def test_the_configurations_in_the_readme_load() -> None:
    first, second, searched, groups = blocks("yaml")
    assert parse_yaml(first, DetectorConfig, "detector.yaml", {}).alarm_budget == 0.1
    assert parse_yaml(second, TrainerConfig, "trainer.yaml", {}).refresh.store == "store"
    assert Space(parse_yaml(searched, TrainerConfig, "trainer.yaml", {})).dimensions
    config = yaml.safe_load(first) | yaml.safe_load(groups)
    del config["model"]
    routes = msgspec.convert(config, DetectorConfig).routes
    assert [route.name for route in routes] == ["pump", "web"]


def test_the_keys_in_the_readme_exist_and_have_those_defaults() -> None:
    for key, default, _ in rows("key"):
        value: Any = DEFAULTS
        for part in names(key)[0].split("."):
            value = value[part]
        if names(key) != ["input.fields"]:  # a section; its keys are in detector.yaml
            assert yaml.safe_load(names(default)[0]) == value, key


def test_the_metrics_in_the_readme_exist() -> None:
    registry = CollectorRegistry()
    Catalogue(registry)
    known = {family.name for family in registry.collect()}
    for cell, _ in rows("metric"):
        for name in names(cell):
            assert f"stream_detector_{name.removesuffix('_total')}" in known


def test_the_event_in_the_readme_has_the_fields_that_events_have() -> None:
    shown = next(json.loads(text) for text in blocks("json") if "episode_id" in text)
    assert list(shown) == list(EVENT.body())
    explained = {name for cell, _ in rows("field") for name in names(cell)}
    assert explained <= shown.keys()


def test_the_reasons_and_headers_of_dead_letters_in_the_readme_exist() -> None:
    record = Record("topic", 0, 0, 0, b"key", b"value")
    headers = dict(dead_letter(Rejected(Reason.MALFORMED, "", record, 1), "letters").headers)
    assert set(re.findall(r"\bdlq_[a-z]+", README)) <= headers.keys()
    for reason in re.findall(r"dlq_reason=([a-z_]+)", README):
        assert Reason(reason)


def test_the_sample_in_the_readme_is_a_sample() -> None:
    decoder = JsonDecoder(Fields(), max_record_bytes=10_000, max_samples=10, max_series_length=100)
    value = blocks("json")[0].encode()
    samples, rejected = decoder.decode([Record("sensors", 0, 0, 1_764_201_600_000, None, value)])
    assert not rejected
    assert [sample.series for sample in samples] == ["plant-3/pump-7"]


@pytest.mark.parametrize("text", [README, CHANGELOG], ids=["README", "CHANGELOG"])
def test_files_that_are_linked_exist(text: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", text)
    local = [link for link in links if not link.startswith("http")]
    assert all((ROOT / link).exists() for link in local), local


def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    first = re.search(r"^## \[(.+?)\]", CHANGELOG, re.MULTILINE)
    assert first is not None
    assert first[1] == project["version"]


def test_all_installs_what_every_extra_but_dev_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]

    def needs(extra: str) -> set[str]:
        found: set[str] = set()
        for need in extras[extra]:
            inner = re.fullmatch(r"stream-detector\[(\w+)\]", need)
            found |= needs(inner[1]) if inner else {need}
        return found

    for extra in extras:
        if extra != "dev":
            assert needs(extra) <= needs("all"), extra
        assert needs(extra) <= needs("dev") | needs("all")
