"""Laws of benchmarks: NAB's sweep against a slow one, causal baselines, order that is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.benchmarks.baselines import BASELINES, level_of
from trainer.benchmarks.nab import RECORD, records
from trainer.benchmarks.nab_scoring import PROFILES, Profile, Rows, rows_of, sweep
from trainer.metrics.events import merge

Files = list[tuple[Rows, np.ndarray]]


@st.composite
def files(draw: st.DrawFn) -> Files:
    found = []
    for _ in range(draw(st.integers(1, 3))):
        n = draw(st.integers(1, 120))
        spans = st.tuples(st.integers(0, n - 1), st.integers(0, 20))
        drawn = draw(st.lists(spans, max_size=3))
        windows = merge((first, min(first + more, n - 1)) for first, more in drawn)
        rows = rows_of(n, windows)
        count = len(rows.gain)
        some = draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
        found.append((rows, np.array(some, np.float64) / 4))
    return found


def slow_score(some: Files, threshold: float, profile: Profile) -> float:
    """Window by window, detection by detection, as NAB's paper tells it."""
    total = 0.0
    for rows, score in some:
        found = score >= threshold
        for window in np.unique(rows.window[rows.window >= 0]):
            hits = rows.gain[found & (rows.window == window)]
            total += profile.true * hits.max() if len(hits) else -profile.missed
        total += profile.false * rows.gain[found & (rows.window < 0)].sum()
    return total


@given(files(), st.sampled_from(list(PROFILES.values())))
@settings(max_examples=80, deadline=None)
def test_the_sweep_gives_every_threshold_the_score_that_the_rules_give_it(
    some: Files, profile: Profile
) -> None:
    found = sweep(some, profile)
    everything = np.concatenate([score for _, score in some])
    assert found.threshold[1:].tolist() == sorted(set(everything.tolist()), reverse=True)
    for threshold, score in zip(found.threshold, found.score, strict=True):
        assert score == pytest.approx(slow_score(some, threshold, profile), abs=1e-9)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200))
def test_a_row_is_a_record_where_nothing_before_it_within_reach_is_as_high(
    levels: list[int],
) -> None:
    level = np.array(levels, np.float32)
    for row, value in enumerate(records(level)):
        record = not (level[max(row - RECORD, 0) : row] >= level[row]).any()
        assert value == (level[row] if record else 0)


@pytest.mark.parametrize("name", BASELINES)
@given(seed=st.integers(0, 10), cut=st.integers(90, 190), features=st.integers(1, 3))
@settings(max_examples=8, deadline=None)
def test_what_comes_later_changes_no_score_of_a_baseline(
    name: str, seed: int, cut: int, features: int
) -> None:
    x = np.random.default_rng(seed).normal(0, 1, (200, features))
    other = x.copy()
    other[cut:] += 7
    whole = BASELINES[name](x, 80, np.random.default_rng(seed))
    changed = BASELINES[name](other, 80, np.random.default_rng(seed))
    assert len(whole) == 200
    np.testing.assert_allclose(whole[:cut], changed[:cut], rtol=1e-6, atol=1e-6)


@given(
    st.lists(st.floats(-100, 100), min_size=1, max_size=80),
    st.lists(st.floats(-200, 200), min_size=2, max_size=80),
)
def test_a_higher_score_never_has_a_lower_level(held: list[float], given_: list[float]) -> None:
    score = np.sort(np.array(given_))
    level = level_of(score, np.array(held))
    assert np.isfinite(level).all()
    assert (np.diff(level) >= -1e-9).all()
