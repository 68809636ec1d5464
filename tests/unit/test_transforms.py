"""What transforms make of a series, and what they give back to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stream_detector.bundle import SeriesTable, Transform
from stream_detector.core.engine import Engine
from stream_detector.core.policy import Policy
from stream_detector.core.transforms import Transforms, transformed
from stream_detector.records import Status
from tests.fakes import NumpyScorer, batch, model
from tests.unit.trainer_cases import quick, series, wave
from trainer.config import TransformRule, Windows
from trainer.data import Dataset, SeriesData
from trainer.engine_run import run
from trainer.train import train

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.ports import Scores

TIMES = np.arange(6) * 2000
VALUES = np.array([[1.0], [3.0], [6.0], [2.0], [2.0], [4.0]])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Transform(kind="difference"), [0, 2, 3, -4, 0, 2]),
        (Transform(kind="trailing_mean", n=3), [1, 2, 10 / 3, 11 / 3, 10 / 3, 8 / 3]),
        (Transform(kind="rate"), [0, 1, 1.5, 1, 0, 1]),  # the counter began anew at 2
        (Transform(kind="log_difference"), np.log([1, 3, 2, 1 / 3, 1, 2])),
    ],
)
def test_each_transform_on_a_series_that_can_be_reckoned_by_hand(
    rule: Transform, expected: list[float]
) -> None:
    assert transformed([rule], VALUES, TIMES).values[:, 0] == pytest.approx(expected)


def test_a_chain_applies_its_rules_in_order() -> None:
    chain = [Transform(kind="difference"), Transform(kind="trailing_mean", n=2)]
    assert transformed(chain, VALUES, TIMES).values[:, 0] == pytest.approx([0, 1, 2.5, -0.5, -2, 1])


RULES = st.sampled_from(
    [
        Transform(kind="difference"),
        Transform(kind="log_difference"),
        Transform(kind="rate"),
        Transform(kind="trailing_mean", n=3),
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    rules=st.lists(RULES, max_size=3),
    values=arrays(np.float64, (12, 2), elements=st.floats(-1e6, 1e6)),
)
def test_where_the_model_expects_what_came_the_expected_value_is_what_was_sent(
    rules: list[Transform], values: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> None:
    stages = [values]
    for rule in rules:
        stages.append(transformed([rule], stages[-1], np.arange(12) * 1000).values)
    back = Transforms(rules).expected([stage[-1] for stage in stages], 1000.0, stages[-1][-1])
    np.testing.assert_allclose(back, values[-1])


def test_huge_values_stay_finite_through_a_chain() -> None:
    values = np.array([[1.7e308], [-1.7e308], [1.7e308], [0.0]])
    chain = [Transform(kind="difference"), Transform(kind="difference")]
    assert np.isfinite(transformed(chain, values, TIMES[:4]).values).all()


def test_events_speak_of_the_values_that_were_sent() -> None:
    engine = Engine("test", Policy(level=7.0))
    chain = [Transform(kind="difference")]
    engine.serve("g", model(known={"s": (0.0, 1.0)}, transforms=chain))
    steps = np.random.default_rng(0).normal(size=150)
    steps[-1] = 40.0
    climb = 1e6 + np.cumsum(steps)
    result = engine.process([batch(["s"] * 150, np.arange(150) * 60_000, climb)])
    [event] = [event for event in result.events if event.status is Status.OPENED]
    assert event.at == 149 * 60_000
    assert event.observed["value"] == climb[-1]
    assert event.expected["value"] == pytest.approx(climb[-2], rel=1e-9)


def test_a_model_with_other_transforms_is_not_swapped_in() -> None:
    engine = Engine("test", Policy())
    engine.serve("g", model())
    other = model(version="v2", transforms=[Transform(kind="difference")])
    assert engine.serve("g", other) == "incompatible"


def test_the_trainer_learns_on_what_the_detector_will_see() -> None:
    config = quick(epochs=1)
    rules = [TransformRule(kind="trailing_mean", n=3), TransformRule(kind="difference")]
    config = type(config)(model=config.model, fit=config.fit, windows=Windows(transforms=rules))
    climb = np.cumsum(wave(1500))
    trained = train(Dataset(["value"], [series("s", climb)]), config, quiet=True)
    assert [(rule.kind, rule.n) for rule in trained.manifest.transforms] == [
        ("trailing_mean", 3),
        ("difference", 1),
    ]
    table = SeriesTable.from_bytes(trained.files["series.npz"])
    assert table.center.item() == pytest.approx(10, abs=0.5)  # the slope, not the height


@pytest.mark.parametrize("kind", ["trailing_mean", "difference", "log_difference", "rate"])
def test_what_is_told_of_a_sample_is_in_the_units_that_were_sent(kind: str) -> None:
    """A scorer that expects what it sees: nothing is off, whatever was done to the values."""
    rng = np.random.default_rng(8)
    values = 100 + np.cumsum(rng.uniform(0, 1, 200))[:, None]
    rule = Transform(kind=kind, n=3)  # type: ignore[arg-type]  # parametrised
    served = model(known={"s": (0.0, 1.0)}, transforms=[rule], scorer=Echo())
    one = SeriesData("s", 1_700_000_000_000 + 60_000 * np.arange(200), values)
    (seen,) = run(served, [one], Policy(), detailed=True).seen
    np.testing.assert_array_equal(seen.observed, values)
    np.testing.assert_allclose(seen.expected[59:], values[59:], rtol=1e-5)


class Echo(NumpyScorer):
    def score(
        self,
        scale: int,
        windows: NDArray[np.float32],
        center: NDArray[np.float32],
        spread: NDArray[np.float32],
    ) -> Scores:
        answer = super().score(scale, windows, center, spread)
        return answer._replace(expected=np.ascontiguousarray(windows[:, -1]))
