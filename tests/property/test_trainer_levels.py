from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stream_detector.bundle import Levels
from stream_detector.core.levels import (
    fuse,
    level_of,
    tail,
    transformed,
    untransformed,
    usual,
    z_of,
)

floats = st.floats(0, 1e6, width=32)
rules = st.sampled_from(["sum", "max", "l2"])


def knots_of(steps: list[float]) -> tuple[list[float], list[float]]:
    z = np.cumsum(steps).tolist()
    return z, (np.arange(1, len(z) + 1) / 4).tolist()


@given(st.lists(st.floats(0.01, 3), min_size=2, max_size=12), st.floats(0.1, 5), st.data())
def test_z_of_inverts_level_of_and_levels_rise_with_z(
    steps: list[float], slope: float, data: st.DataObject
) -> None:
    z, level = knots_of(steps)
    wanted = data.draw(st.lists(st.floats(level[0], 30), min_size=1, max_size=20))
    back = level_of(z_of(wanted, z, level, slope), z, level, slope)
    np.testing.assert_allclose(back, wanted, rtol=1e-6, atol=1e-6)
    grid = level_of(np.linspace(z[0] - 5, z[-1] + 5, 400), z, level, slope)
    assert (np.diff(grid) >= 0).all()
    assert grid[0] == level[0]


@given(arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 5)), elements=floats), rules)
def test_levels_do_not_depend_on_how_a_batch_is_cut(
    excess: np.ndarray[tuple[int, int], np.dtype[np.float32]], rule: str
) -> None:
    weights = np.linspace(0.2, 1.7, excess.shape[1])
    levels = Levels(location=0.0, spread=1.0, z=[0.0, 1.0], level=[0.1, 1.0], slope=0.7)

    def whole(part: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> bytes:
        score = fuse(part, rule, weights)  # type: ignore[arg-type]  # sampled from the rules
        return level_of(transformed(score, levels), levels.z, levels.level, 0.7).tobytes()

    one_by_one = b"".join(whole(excess[i : i + 1]) for i in range(len(excess)))
    assert whole(excess) == one_by_one
    assert whole(np.asfortranarray(excess)) == one_by_one


@given(st.lists(floats, min_size=2, max_size=50), st.floats(0, 1e3), st.floats(1e-3, 1e3))
def test_a_tail_keeps_the_order_of_scores(scores: list[float], at: float, excess: float) -> None:
    ordered = np.sort(np.array(scores, np.float32))
    found = tail(ordered, at, excess, 0.02)
    assert (np.diff(found) >= 0).all()
    assert found.dtype == np.float32


@pytest.mark.parametrize(("rule", "expected"), [("sum", 8.0), ("max", 6.0), ("l2", 22**0.5)])
def test_each_rule_fuses_as_its_name_says(rule: str, expected: float) -> None:
    excess = np.array([[2.0, 3.0]], np.float32)
    fused = fuse(excess, rule, [1.0, 2.0])  # type: ignore[arg-type]  # parametrised
    assert fused[0] == pytest.approx(expected)


@given(st.lists(floats, min_size=1, max_size=20), st.sampled_from(["log", "identity"]))
def test_untransformed_inverts_transformed(scores: list[float], transform: str) -> None:
    levels = Levels(
        transform=transform,  # type: ignore[arg-type]  # sampled from the two
        epsilon=1e-3, location=0.0, spread=1.0, z=[0.0, 1.0], level=[0.0, 1.0], slope=1.0,
    )  # fmt: skip
    score = np.array(scores)
    np.testing.assert_allclose(
        untransformed(transformed(score, levels), levels), score, rtol=1e-9, atol=1e-9
    )


def test_the_usual_spread_of_normal_values_is_their_standard_deviation() -> None:
    values = np.random.default_rng(0).normal(3, 2, 200_000)
    location, spread = usual(values)
    assert location == pytest.approx(3, abs=0.05)
    assert spread == pytest.approx(2, rel=0.03)


def test_a_few_held_out_anomalies_hardly_move_what_is_usual() -> None:
    values = np.random.default_rng(0).normal(0, 1, 2000)
    values[:40] += 50
    location, spread = usual(values)
    assert abs(location) < 0.1
    assert spread < 1.3


def test_values_all_alike_have_the_least_spread() -> None:
    assert usual(np.full(10, 4.0), 0.05) == (4.0, 0.05)
