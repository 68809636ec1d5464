"""What must hold of levels, and of what scores teach, for every input."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.core.calibration import (
    MEMORY,
    Heights,
    Limits,
    Rules,
    State,
    Terms,
    judge,
    prior,
)
from stream_detector.core.calibration.heights import TOP_LEVEL
from stream_detector.core.segments import Segments


@st.composite
def heights(draw: st.DrawFn) -> Heights:
    memory = prior(
        draw(st.floats(0.25, 20)), draw(st.floats(0.1, 10)), draw(st.floats(1e-5, 1 / 60))
    )
    memory["peaks"], memory["anchor_peaks"] = draw(st.integers(0, 200)), draw(st.integers(0, 200))
    memory["rarest"] = draw(st.floats(-2, 2))
    memory["excess"] *= draw(st.floats(0.1, 3))
    return Heights.of(memory)


@given(heights(), st.lists(st.floats(0.31, 60), min_size=1, max_size=20))
def test_a_level_and_its_z_are_one_and_levels_rise_with_z(
    one: Heights, wanted: list[float]
) -> None:
    for level in wanted:
        z = one.at_level(np.array([level]))
        np.testing.assert_allclose(one.level(z), level, rtol=1e-6, atol=1e-6)
    levels = one.level(np.linspace(-50, 200, 500), np.zeros(500, np.int64))
    assert (np.diff(levels) >= 0).all()
    assert levels.min() >= 0
    assert levels.max() <= TOP_LEVEL


@given(heights(), st.floats(1e-9, 1), st.floats(1e-9, 1))
def test_a_smaller_budget_never_lowers_the_threshold(one: Heights, a: float, b: float) -> None:
    low, high = (one.at_rate(np.array([rate])) for rate in sorted((a, b), reverse=True))
    assert low <= high + 1e-9
    assert low >= one.anchor


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    heavy=st.booleans(),
    quiet=st.sampled_from([1, 7, 60, 200]),
    run=st.sampled_from([1, 3]),
    cuts=st.lists(st.integers(1, 2999), max_size=30),
)
def test_cutting_the_scores_differently_changes_no_level_and_nothing_learnt(
    seed: int, *, heavy: bool, quiet: int, run: int, cuts: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    n = 3000
    t = rng.standard_t(2, n) if heavy else rng.normal(size=n)
    row = np.sort(rng.integers(0, 3, n)) if seed % 2 else rng.integers(0, 3, n)
    at = np.where(rng.random(n) < 0.003, 30.0, 0.0) + t
    terms = Terms(
        np.array([0.01, np.nan, np.nan]), np.array([np.nan, 2.0, np.nan]), np.full(3, 150.0)
    )
    bound = np.array([np.inf, np.inf, 2.5])

    def outcome(edges: list[int]) -> tuple[bytes, ...]:
        state = State(np.repeat(prior(2, 0.5, 0.01), 3), np.zeros(3), np.ones(3), np.zeros(3, "i4"))
        level, threshold = np.empty(n), np.empty(n)
        for start, end in zip([0, *edges], [*edges, n], strict=True):
            order = start + np.argsort(row[start:end], kind="stable")
            segments = Segments(row[order])
            here = segments.row
            part = state.take(here)
            some = judge(
                part,
                segments,
                at[order],
                Limits(bound[here], at[order] >= bound[row[order]]),
                terms.take(here),
                Rules(0.2, quiet, run),
            )
            state.put(here, part)
            level[order], threshold[order] = some.level, some.threshold
        kept = [np.ascontiguousarray(state.memory[name]).tobytes() for name in MEMORY.names or ()]
        arrays = (level, threshold, state.location, state.deviation, state.scored)
        return (*kept, *(array.tobytes() for array in arrays))

    edges = sorted(set(cuts))
    assert outcome(edges) == outcome([])
