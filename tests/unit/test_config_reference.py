"""config/detector.yaml says what the code does; config/trainer.yaml has its own test beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from stream_detector.config import (
    DetectorConfig,
    Input,
    Kafka,
    ModelRoute,
    Output,
    load_yaml,
    parse_yaml,
)
from tests.unit.config_reference import EXAMPLES, HEADER, reference, uncommented

FILE = Path(__file__).parents[2] / "config" / "detector.yaml"
DEFAULTS = DetectorConfig(
    kafka=Kafka(bootstrap_servers=["localhost:9092"], group_id="stream-detector"),
    input=Input(topics=["sensors"]),
    output=Output(topic="anomalies", dead_letter_topic="dead-letters"),
    model=ModelRoute(registry="registry"),
)


def keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: keys(part) for name, part in value.items()}
    return None


def test_the_file_repeats_every_key_description_default_and_choice_of_the_code() -> None:
    command = "python -m tests.unit.config_reference > config/detector.yaml"
    written = reference(DetectorConfig, EXAMPLES, HEADER)
    assert FILE.read_text("utf-8") == written, f"to write it anew: {command}"


def test_as_it_is_the_file_sets_only_what_has_no_default() -> None:
    raw = yaml.safe_load(FILE.read_text("utf-8"))
    found = {f"{name}.{key}": value for name, part in raw.items() for key, value in part.items()}
    assert found == EXAMPLES
    assert load_yaml(FILE, DetectorConfig, {}) == DEFAULTS


def test_with_every_key_live_the_file_still_means_the_defaults() -> None:
    text = uncommented(FILE.read_text("utf-8"))
    assert parse_yaml(text, DetectorConfig, "detector.yaml", {}) == DEFAULTS
    raw = yaml.safe_load(text)
    assert keys(raw) == keys(msgspec.to_builtins(DEFAULTS))


def test_the_file_names_no_key_twice_in_one_section() -> None:
    sections: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for line in uncommented(FILE.read_text("utf-8")).splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        sections[depth:] = [line.split(":")[0].strip()]
        assert tuple(sections) not in seen, line
        seen.add(tuple(sections))
