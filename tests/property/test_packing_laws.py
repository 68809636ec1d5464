"""State that was packed and unpacked goes on as if nothing had happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.core.packing import pack
from stream_detector.records import Partition
from tests.fakes import batch, cut, model
from tests.property.test_engine_laws import (
    CHAINS,
    POLICIES,
    STEP,
    Of,
    fresh,
    outcome,
    stream,
)

if TYPE_CHECKING:
    from stream_detector.bundle import Transform
    from stream_detector.core.engine import Engine
    from stream_detector.core.policy import Policy
    from stream_detector.records import AnomalyEvent

P0 = Partition("t", 0)


def restarted(engine: Engine) -> Engine:
    """Another engine with what the first one had packed."""
    other = engine.blank()
    for group, copied in engine.copy(P0).items():
        other.restore(group, P0, "v1", pack(copied))
    return other


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    features=st.sampled_from([1, 3]),
    scales=st.sampled_from([(1,), (1, 4), (3,)]),
    smoothing=st.sampled_from([(1, "mean"), (5, "mean"), (4, "median")]),
    transforms=st.sampled_from(CHAINS),
    policy=st.sampled_from(POLICIES),
    cuts=st.lists(st.integers(1, 2500), min_size=1, max_size=5),
)
def test_restarts_anywhere_change_no_event_no_verdict_and_no_state(
    seed: int,
    features: int,
    scales: tuple[int, ...],
    smoothing: tuple[int, Of],
    transforms: tuple[Transform, ...],
    policy: Policy,
    cuts: list[int],
) -> None:
    whole = stream(seed, features, 520, jitter=STEP // 2)
    pieces = cut(whole, [at for at in cuts if at < len(whole)])
    one, engine = (fresh(features, scales, smoothing, (4, 16), transforms, policy) for _ in "ab")
    expected = outcome(one, pieces)
    parts = []
    for piece in pieces:
        engine = restarted(engine)
        parts.append(outcome(engine, [piece]))
        assert restarted(engine).digest(P0) == engine.digest(P0)

    def by_id(events: list[AnomalyEvent]) -> list[tuple[str, str]]:
        return sorted((event.id, repr(event.body())) for event in events)

    assert by_id([event for part in parts for event in part[0]]) == by_id(expected[0])
    for column in (1, 2, 3):
        found = np.concatenate([np.asarray(part[column]) for part in parts])
        np.testing.assert_array_equal(found, expected[column])
    assert engine.digest(P0) == one.digest(P0)


def test_a_copy_does_not_change_with_the_slab_that_it_was_made_of() -> None:
    whole = stream(5, 1, 480)
    before, after = cut(whole, [2000])
    engine = fresh(1, (1, 4), (5, "mean"), (4, 16))
    outcome(engine, [before])
    digest = engine.digest(P0)
    copied = engine.copy(P0)["g"]
    assert copied.episodes
    outcome(engine, [after])
    other = engine.blank()
    other.restore("g", P0, "v1", pack(copied))
    assert other.digest(P0) == digest != engine.digest(P0)


@settings(max_examples=50)
@given(
    names=st.sets(st.text(st.characters(exclude_categories=[]), max_size=6), min_size=1, max_size=8)
)
def test_every_name_comes_back(names: set[str]) -> None:
    engine = fresh(1, (1,), (1, "mean"), (4, 16))
    engine.process([batch(sorted(names), [STEP] * len(names), np.ones((len(names), 1)))])
    other = restarted(engine)
    assert other.series() == engine.series()
    assert other.digest(P0) == engine.digest(P0)


def test_another_layout_has_another_name() -> None:
    kinds = [
        fresh(f, scales, smoothing, (4,), chain).layout("g")
        for f in (1, 3)
        for scales in ((1,), (1, 4))
        for smoothing in ((1, "mean"), (5, "mean"))
        for chain in CHAINS
    ]
    assert len(set(kinds)) == len(kinds)
    renamed = fresh(1, (1,), (1, "mean"), (4,))
    assert renamed.serve("h", model(["other"], (1,))) == "swapped"
    assert renamed.layout("h") != renamed.layout("g")


@pytest.mark.parametrize("name", ["ring", "names-end", "episodes", "past-0", "last_time"])
def test_damaged_arrays_are_refused(name: str) -> None:
    engine = fresh(1, (1,), (5, "mean"), (4, 16))
    outcome(engine, [stream(5, 1, 200)])
    arrays = pack(engine.copy(P0)["g"])
    other = engine.blank()
    with pytest.raises(ValueError, match=r"."):
        other.restore("g", P0, "v1", arrays | {name: arrays[name][:-1]})
    with pytest.raises(KeyError):
        other.restore("g", P0, "v1", {n: a for n, a in arrays.items() if n != name})
    assert other.digest(P0) == {}
