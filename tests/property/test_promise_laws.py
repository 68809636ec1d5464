"""Laws of the simulated series, and of what is counted in them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trainer.promise import oracle
from trainer.promise.cases import CASES, Fleet
from trainer.promise.counts import BUDGETS, Budget, Episode, cell, poisson

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTH = 400


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(sorted(CASES)),
    seed=st.integers(0, 2**31),
    cuts=st.lists(st.integers(1, LENGTH - 1), max_size=5),
    series=st.integers(1, 4),
)
def test_values_depend_neither_on_blocks_nor_on_how_many_series_there_are(
    name: str, seed: int, cuts: list[int], series: int
) -> None:
    whole = Fleet(CASES[name], seed, 5).block(LENGTH)
    fleet = Fleet(CASES[name], seed, series)
    bounds = sorted({0, *cuts, LENGTH})
    parts = [fleet.block(stop - start) for start, stop in pairwise(bounds)]
    np.testing.assert_array_equal(np.concatenate(parts), whole[:, :series])
    assert np.isfinite(whole).all()


@given(
    above=arrays.arrays(np.bool_, st.tuples(st.integers(1, 60), st.integers(1, 3))),
    quiet=st.integers(1, 10),
)
def test_episodes_of_a_threshold_are_those_of_a_plain_loop(
    above: NDArray[np.bool_], quiet: int
) -> None:
    wanted: list[list[int]] = []
    for series, column in enumerate(above.T):
        since = quiet
        for step, high in enumerate(column):
            if high and since >= quiet:
                wanted.append([series, step, step])
            elif high:
                wanted[-1][2] = step
            since = 0 if high else since + 1
    found = oracle.episodes(above.astype(np.float32), 0.5, 7, quiet)
    assert [[one.series, one.first - 7, one.last - 7] for one in found] == wanted


@given(count=st.integers(0, 5_000), spread=st.floats(1, 50))
def test_an_interval_holds_its_count_and_grows_with_the_dispersion(
    count: int, spread: float
) -> None:
    low, high = poisson(count)
    lower, higher = poisson(count, spread)
    assert 0 <= lower <= low + 1e-9
    assert low <= count <= high
    assert high <= higher + 1e-9


@given(
    steps=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 90 * 1440 - 1)), max_size=60),
    budget=st.sampled_from(BUDGETS),
)
def test_every_episode_is_either_warm_up_or_counted(
    steps: list[tuple[int, int]], budget: Budget
) -> None:
    line = cell([Episode(s, at, at, "anomaly") for s, at in steps], budget, 5, 90)
    assert line["realised"] + line["warm_up"]["realised"] == len(steps)
    together = line["promised"] + line["warm_up"]["promised"]
    np.testing.assert_allclose(together, 5 * 90 * budget.daily)
