from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from stream_detector.config import ConfigError, Section, load_yaml, parse_yaml
from trainer.config import TrainerConfig

YAML = Path(__file__).parents[2] / "config" / "trainer.yaml"


def described(section: type[Section]) -> list[tuple[str, str]]:
    """Key and description of every field, depth first, as the YAML file has them."""
    result = []
    hints = typing.get_type_hints(section, include_extras=True)
    for one in msgspec.structs.fields(section):
        hint = hints[one.name]
        texts = [m.description for m in hint.__metadata__ if isinstance(m, msgspec.Meta)]
        result.append((one.name, next(text for text in texts if text)))
        inner = typing.get_args(hint)[0]
        if isinstance(inner, type) and issubclass(inner, Section):
            result += described(inner)
    return result


def test_the_documented_file_holds_every_default() -> None:
    assert load_yaml(YAML, TrainerConfig, {}) == TrainerConfig()


def test_the_documented_file_names_every_key() -> None:
    raw = yaml.safe_load(YAML.read_text())

    def keys(part: Any) -> Any:
        return {k: keys(v) for k, v in part.items()} if isinstance(part, dict) else None

    assert keys(raw) == keys(msgspec.to_builtins(TrainerConfig()))


def test_the_documented_file_repeats_the_descriptions() -> None:
    lines = [line.strip() for line in YAML.read_text().splitlines()]
    for key, text in described(TrainerConfig):
        place = next(
            (
                at
                for at, line in enumerate(lines)
                if line == f"# {text}" and lines[at + 1].startswith(f"{key}:")
            ),
            None,
        )
        assert place is not None, f"{key}: {text}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("split: {train: 0.9, validation: 0.2}", "must leave a held-out part"),
        ("split: {order: blocks, blocks: 4}", "so many that each part gets one"),
        ("data: {labels: {}}", "needs one of column, file, names"),
        ("data: {labels: {names: skab}}", "data.labels.names"),
        ("windows: {scales: []}", "windows.scales"),
        ("scaling: log", "scaling"),
        ("calibration: {threshold: {level: 1, sigma: 3}}", "needs one of level, quantile, sigma"),
        ("fit: {device: tpu}", "fit.device"),
        ("speed: 1", "unknown field `speed`"),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        parse_yaml(text, TrainerConfig, "trainer.yaml", {})
