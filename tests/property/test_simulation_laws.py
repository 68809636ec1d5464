"""Laws of the simulated fleet: a seed fixes it, however it is cut into chunks."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.simulation import Fleet

sizes = {"series": st.integers(1, 9), "seed": st.integers(0, 2**31)}


def fleet_of(series: int, seed: int, minutes: int = 900) -> Fleet:
    return Fleet(series=series, minutes=minutes, seed=seed, anomaly_rate=8, normal_fraction=0.3)


@given(cuts=st.lists(st.integers(0, 900), max_size=12), **sizes)
@settings(max_examples=25, deadline=None)
def test_cutting_the_stream_differently_changes_no_sample(
    cuts: list[int], series: int, seed: int
) -> None:
    whole = fleet_of(series, seed).records(0, 900)
    fleet = fleet_of(series, seed)
    edges = [0, *sorted(cuts), 900]
    pieces = [
        wire for start, stop in itertools.pairwise(edges) for wire in fleet.records(start, stop)
    ]
    assert pieces == whole


@given(starts=st.lists(st.integers(0, 880), min_size=1, max_size=6), **sizes)
@settings(max_examples=25, deadline=None)
def test_pieces_may_be_asked_for_in_any_order(starts: list[int], series: int, seed: int) -> None:
    whole = fleet_of(series, seed).records(0, 900)
    fleet = fleet_of(series, seed)
    for start in starts:
        assert fleet.records(start, start + 20) == whole[start * series : (start + 20) * series]


@given(**sizes)
@settings(max_examples=25, deadline=None)
def test_samples_are_finite_and_in_order_and_each_step_comes_once(series: int, seed: int) -> None:
    fleet = fleet_of(series, seed, minutes=200)
    for chunk in fleet.samples(0, fleet.steps):
        assert np.isfinite(chunk.values).all()
        assert (np.diff(chunk.timestamp) >= 0).all()
        for index in np.unique(chunk.series):
            mine = chunk.series == index
            assert np.array_equal(chunk.step[mine], np.arange(fleet.steps))
            assert (np.diff(chunk.timestamp[mine]) > 0).all()


@given(one=st.integers(0, 1000), other=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_equal_seeds_give_equal_fleets_and_others_differ(one: int, other: int) -> None:
    first, second = fleet_of(4, one), fleet_of(4, other)
    assert (first.records(0, 5) == second.records(0, 5)) == (one == other)
    if one == other:
        assert first.labels == second.labels
