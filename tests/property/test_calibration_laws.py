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
    Tail,
    Terms,
    judge,
    prior,
)
from stream_detector.core.calibration.memory import EDGE_UNIT
from stream_detector.core.calibration.tail import TOP_LEVEL, walk
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


@st.composite
def tails(draw: st.DrawFn) -> Tail:
    location, deviation = draw(st.floats(-20, 20)), draw(st.floats(0.01, 5))
    memory = prior(draw(st.floats(-1, 20)), draw(st.floats(0.0, 10)), 0.01, location, deviation)
    return Tail.of(memory, np.array([location]), np.array([deviation]))


@given(tails(), st.lists(st.floats(0, 60), min_size=1, max_size=20))
def test_a_level_and_its_t_are_one_and_levels_rise_with_t(one: Tail, wanted: list[float]) -> None:
    for level in wanted:
        np.testing.assert_allclose(one.level(one.t(np.array([level]))), level, atol=1e-6)
    levels = one.level(np.linspace(-100, 400, 500))
    assert (np.diff(levels) >= 0).all()
    assert levels.min() >= 0
    assert levels.max() <= TOP_LEVEL


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_the_edge_is_walked_as_if_score_by_score(seed: int, series: int) -> None:
    rng = np.random.default_rng(seed)
    n = 50
    t = rng.standard_t(1, (series, n))
    memory = np.repeat(prior(2.0, 0.5, 0.01), series)
    memory["edge_scores"] = rng.integers(0, 5000, series)
    edge, count = memory["edge"] / EDGE_UNIT, memory["edge_scores"].astype(float)
    expected = np.empty((series, n))
    for at in range(n):
        expected[:, at] = edge
        gain = np.maximum(0.004, 10 / (10 + count + at))
        excess = t[:, at] - edge
        rise = np.where(excess < 8 * 0.5, gain, 0.004)
        edge = edge + np.where(excess > 0, rise, 0) - 0.03 * gain
    met = walk(memory, np.repeat(np.arange(series), n), np.arange(series) * n, t.ravel())
    np.testing.assert_allclose(met.reshape(series, n), expected, atol=1e-4)
    np.testing.assert_allclose(memory["edge"] / EDGE_UNIT, edge, atol=1e-4)
    excess = t - expected
    usual = (excess > 0) & (excess < 8 * 0.5)
    np.testing.assert_array_equal(memory["tail_count"], usual.sum(axis=1))
    np.testing.assert_array_equal(memory["outlier"], (excess >= 8 * 0.5).any(axis=1))
    total = np.where(usual, excess, 0).sum(axis=1)
    np.testing.assert_allclose(memory["tail_sum"] / EDGE_UNIT, total, atol=1e-2)


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
