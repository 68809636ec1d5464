from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stream_detector.bundle import Levels
from stream_detector.core.levels import (
    fuse,
    tail,
    transformed,
    untransformed,
)

floats = st.floats(0, 1e6, width=32)
rules = st.sampled_from(["sum", "max", "l2"])


@given(arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 5)), elements=floats), rules)
def test_levels_do_not_depend_on_how_a_batch_is_cut(
    excess: np.ndarray[tuple[int, int], np.dtype[np.float32]], rule: str
) -> None:
    weights = np.linspace(0.2, 1.7, excess.shape[1])
    levels = Levels(location=0.0, spread=1.0, anchor=2.0, excess=0.7, rate=0.01)

    def whole(part: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> bytes:
        score = fuse(part, rule, weights)  # type: ignore[arg-type]  # sampled from the rules
        return transformed(score, levels).tobytes()

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


@given(st.lists(floats, min_size=1, max_size=20), st.sampled_from(["log", "log1p", "identity"]))
def test_untransformed_inverts_transformed(scores: list[float], transform: str) -> None:
    levels = Levels(
        transform=transform,  # type: ignore[arg-type]  # sampled from the two
        epsilon=1e-3, location=0.0, spread=1.0, anchor=1.0, excess=1.0, rate=0.01,
    )  # fmt: skip
    score = np.array(scores)
    np.testing.assert_allclose(
        untransformed(transformed(score, levels), levels), score, rtol=1e-9, atol=1e-9
    )
