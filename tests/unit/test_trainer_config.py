from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from stream_detector.config import ConfigError, Section, load_yaml, parse_yaml
from trainer.config import ExpertRule, Fit, Instead, Split, TrainerConfig
from trainer.config.recipes import load_config
from trainer.config.threshold import ThresholdChoice

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


def test_the_documented_file_explains_every_rule_for_the_threshold() -> None:
    lines = [line.strip() for line in YAML.read_text().splitlines()]
    for key, text in described(ThresholdChoice):
        assert f"# {key}: {text}" in lines


def test_the_rules_for_the_threshold_that_the_file_shows_can_be_used() -> None:
    (line,) = [line for line in YAML.read_text().splitlines() if "threshold: null #" in line]
    for example in line.split("# ")[1].split(" | ")[:-1]:
        text = f"calibration: {{threshold: {example}}}"
        assert parse_yaml(text, TrainerConfig, "trainer.yaml", {}).calibration.threshold


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("calibration: {threshold: {}}", "a threshold needs one of level, error, sigma"),
        ("calibration: {threshold: {pot: 0.1}}", "calibration.threshold.pot"),
        ("calibration: {threshold: {sigma: 3, scope: all}}", "calibration.threshold.scope"),
        ("calibration: {threshold: {level: 3, scope: global}}", "leave out `scope: global`"),
        ("calibration: {threshold: {vote: {least: 1, of: [{sigma: 3}]}}}", "threshold.vote.of"),
        (
            "calibration: {threshold: {vote: {least: 3, of: [{sigma: 3}, {maximum: 1}]}}}",
            "`least` asks for 3 of 2 rules",
        ),
        (
            "calibration: {threshold: {vote: {least: 1, of: [{level: 3}, {maximum: 1}]}}}",
            "unknown field `level`",
        ),
        ("split: {train: 0.9, validation: 0.2}", "must leave a held-out part"),
        ("split: {order: blocks, blocks: 4}", "so many that each part gets one"),
        ("data: {labels: {}}", "needs one of column, file, names"),
        ("data: {labels: {names: skab}}", "data.labels.names"),
        ("windows: {scales: []}", "windows.scales"),
        ("scaling: log", "scaling"),
        ("calibration: {threshold: {level: 1, sigma: 3}}", "needs one of level, error, sigma"),
        ("fit: {device: tpu}", "fit.device"),
        ("speed: 1", "unknown field `speed`"),
        ("multivariate: {}", "needs one of split, windows, model"),
        ("multivariate: {data: {path: x}}", "unknown field `data` - at `$.multivariate`"),
        ("multivariate: {fit: {epoch: 1}}", "did you mean `epochs`"),
        ("multivariate: {experts: []}", "multivariate.experts"),
        ("multivariate: {fit: {epochs: 0}}", "multivariate.fit.epochs"),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_yaml(text, TrainerConfig, "trainer.yaml", {})


def test_with_several_features_the_multivariate_sections_replace_the_others_as_a_whole() -> None:
    text = """
fit: {epochs: 3, batch: 7}
scaling: robust
multivariate: {fit: {epochs: 5}, experts: [{name: stuck}]}
"""
    config = parse_yaml(text, TrainerConfig, "trainer.yaml", {})
    one, two = config.of(["a"], 9), config.of(["a", "b"], 9)
    assert (one.fit, one.experts) == (Fit(epochs=3, batch=7), None)
    assert (two.fit, two.experts) == (Fit(epochs=5), [ExpertRule(name="stuck")])
    assert (two.scaling, two.calibration) == ("robust", config.calibration)
    assert (one.multivariate, two.multivariate) == (None, None)
    assert two.of(["a", "b"], 9) == two


def test_what_is_replaced_is_told_and_only_then() -> None:
    config = TrainerConfig(multivariate=Instead(fit=Fit(epochs=5), split=Split()))
    assert config.choice(["a", "b"], 9) == ["2 features: split, fit from `multivariate`"]
    assert config.choice(["a"], 9) == TrainerConfig().choice(["a", "b"], 9) == []


def test_the_default_recipe_is_what_is_taken_where_none_is_named() -> None:
    assert load_config(None) == load_config(Path("default"))
    assert load_config(None).multivariate is not None
