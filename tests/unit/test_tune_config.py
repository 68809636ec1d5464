"""The `tune` section: which dimensions there are, and which are refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_detector.config import ConfigError, parse_yaml
from trainer.config import TrainerConfig
from trainer.config.tune import Dimension


def one(text: str) -> Dimension:
    config = parse_yaml(f"tune: {{space: {{fit.epochs: {text}}}}}", TrainerConfig, "x", {})
    return config.tune.space["fit.epochs"]


@pytest.mark.parametrize(
    ("text", "whole", "candidates"),
    [
        ("{values: [32, 64]}", None, [32, 64]),
        ("{values: [[1], [1, 4], auto]}", None, [[1], [1, 4], "auto"]),
        ("{low: 1, high: 4}", True, [1, 2, 3, 4]),
        ("{low: 8, high: 32, step: 8}", True, [8, 16, 24, 32]),
        ("{low: 0.1, high: 0.4, step: 0.1}", False, [0.1, 0.2, 0.3, 0.4]),
        ("{low: 0, high: 0.5}", False, None),
        ("{low: 0.1, high: 0.3}", False, None),
        ("{low: 1e-4, high: 1e-2, log: true}", False, None),
        ("{low: 2, high: 64, log: true}", True, list(range(2, 65))),
    ],
)
def test_a_dimension_is_values_or_a_range_of_numbers_as_they_are_written(
    text: str,
    whole: bool | None,  # noqa: FBT001  # what is expected, not a switch
    candidates: list[Any] | None,
) -> None:
    found = one(text)
    assert found.candidates() == candidates
    if whole is not None:
        assert found.whole is whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "give `values`, or both `low` and `high`"),
        ("{low: 1}", "both `low` and `high`"),
        ("{values: []}", "length >= 1"),
        ("{values: [1], low: 1, high: 2}", "either `values` or `low` and `high`"),
        ("{values: [1, 2], log: true}", "either `values`"),
        ("{values: [a, a]}", "twice"),
        ("{low: 2, high: 2}", "`low` must be less than `high`"),
        ("{low: 1, high: .inf}", "`low` must be less than `high`"),
        ("{low: 0, high: 2, log: true}", "`log` needs `low` above 0"),
        ("{low: 1, high: 9, log: true, step: 2}", "no `step`"),
        ("{low: 1, high: 10, step: 2}", "`step` must lead from `low` to `high`"),
        ("{low: 1, high: 9, step: -2}", "`step` must be above 0"),
        ("{low: a, high: b}", "Expected `int | float | null`, got `str`"),
        ("{lo: 1, high: 2}", "unknown field `lo`"),
        ("[1, 2]", "Expected `object`"),
    ],
)
def test_a_dimension_that_cannot_be_drawn_from_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        one(text)


@given(st.integers(-50, 50), st.integers(1, 9), st.integers(1, 20))
def test_the_steps_of_a_range_begin_and_end_with_its_ends(low: int, step: int, count: int) -> None:
    for digits in (lambda part: part, lambda part: part / 100):
        first, last, distance = map(digits, (low, low + count * step, step))
        dimension = Dimension(low=first, high=last, step=distance)
        assert dimension.problem() is None
        found = dimension.candidates()
        assert found is not None
        assert len(found) == count + 1
        assert (found[0], found[-1]) == (first, last)


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("2E3", 2000.0), ("1.5e2", 150.0), ("-1e-3", -0.001)]
)
def test_numbers_with_an_exponent_are_numbers_in_every_configuration(
    text: str, value: float
) -> None:
    config = parse_yaml(f"model: {{options: {{x: {text}}}}}", TrainerConfig, "x", {})
    assert config.model.options == {"x": value}


@pytest.mark.parametrize("text", ["'1e-4'", "1e", "e4", "1e-4s", "a1e4"])
def test_what_only_looks_like_an_exponent_stays_text(text: str) -> None:
    config = parse_yaml(f"model: {{options: {{x: {text}}}}}", TrainerConfig, "x", {})
    assert config.model.options == {"x": text.strip("'")}
