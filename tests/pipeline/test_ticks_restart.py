"""Ticks survive restarts: what they told is not told again, and a replay gives them again."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.formats import checkpoint
from stream_detector.ticking import MANY
from tests.pipeline.loop_case import GROUP_ID, Case, HandClock, noise
from tests.pipeline.restart_case import (
    PARTITIONS,
    DiedError,
    Faults,
    Fleet,
    ids,
    outcomes,
    state,
)

STEP = 100.0  # s of each turn
GAP = 90  # turns; two and a half hours, of which 40 minutes are silence
SPELL = 70  # samples


class Ticking:
    """Spells of samples with hours of silence between, read by workers that may die."""

    def __init__(self, *deaths: int, snapshots: bool = True, exactly_once: bool = False) -> None:
        self.fleet = Fleet(exactly_once=exactly_once)
        self.hand = HandClock()
        self.snapshots = snapshots
        self._deaths = iter(deaths)
        self.died = 0
        self.case = self.worker()

    def worker(self) -> Case:
        faults = Faults(next(self._deaths, None))
        return self.fleet.worker(
            faults,
            snapshots=self.snapshots,
            every=1000.0,
            finite=False,
            clock=self.hand,
            tick_every=10.0,
        )

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.hand.at += STEP
            try:
                self.case.loop.turn()
            except DiedError:
                self.case.crash()
                self.died += 1
                self.case = self.worker()

    def spell(self, number: int) -> None:
        first = number * (SPELL + 200)
        self.case.samples("pump", noise(SPELL, number), first)
        self.case.samples("calm", noise(SPELL, 9 + number), first, partition=1)

    def run(self) -> None:
        for number in range(3):
            self.spell(number)
            self.turns(GAP)
        self.case.loop.run(lambda: True)
        self.case.source.close()


@pytest.fixture(scope="module")
def oracle() -> list[str]:
    """Ids of all events where nobody dies."""
    undisturbed = Ticking()
    undisturbed.run()
    found = sorted(ids(undisturbed.case))
    told = Counter((e["kind"], e["status"]) for e in undisturbed.case.events)
    assert told["silence", "opened"] == 6
    assert told["silence", "closed"] == 4
    return found


@settings(max_examples=10, deadline=None)
@given(
    deaths=st.lists(st.integers(1, 250), min_size=1, max_size=4),
    snapshots=st.booleans(),
    exactly_once=st.booleans(),
)
def test_deaths_change_nothing_that_is_told_of_silence(
    oracle: list[str],
    deaths: list[int],
    snapshots: bool,  # noqa: FBT001  # hypothesis hands in by name
    exactly_once: bool,  # noqa: FBT001  # hypothesis hands in by name
) -> None:
    ticking = Ticking(*deaths, snapshots=snapshots, exactly_once=exactly_once)
    ticking.run()
    assert ticking.died >= 1
    found = sorted(ids(ticking.case))
    assert set(outcomes(ticking.case)) <= {"new", "exact"}
    assert (found if exactly_once else sorted(set(found))) == oracle


@pytest.mark.parametrize("snapshots", [True, False])
def test_a_silence_that_was_told_is_not_told_again_and_the_replay_gives_the_same_state(
    snapshots: bool,  # noqa: FBT001  # pytest hands in by name
) -> None:
    ticking = Ticking(snapshots=snapshots)
    ticking.spell(0)
    ticking.turns(GAP)
    ticking.spell(1)
    ticking.turns(GAP)
    before, told = state(ticking.case), ids(ticking.case)
    ticking.hand.at += 1.0  # less than a tick: the last one is committed
    ticking.case.loop.turn()
    ticking.case.crash()
    again = ticking.case = ticking.worker()
    for _ in range(30):
        again.loop.turn()
    assert outcomes(again) == ["exact", "exact"]
    assert state(again) == before
    ticking.turns(GAP)
    assert ids(again) == told


def test_a_silence_goes_on_being_watched_for_after_a_restart_without_a_record() -> None:
    ticking = Ticking()
    ticking.spell(0)
    ticking.turns(10)
    assert not ids(ticking.case)
    ticking.case.crash()
    ticking.case = ticking.worker()
    ticking.turns(GAP)
    assert [e["kind"] for e in ticking.case.events] == ["silence", "silence"]


def test_many_ticks_bring_a_snapshot_that_shortens_their_list() -> None:
    ticking = Ticking()
    for number in range(3 * MANY):
        ticking.case.samples("pump", noise(1, number), number * 3)
        ticking.turns(2)
    saved = checkpoint.decode(ticking.fleet.broker.committed(GROUP_ID)[PARTITIONS[0]].metadata)
    assert saved is not None
    most = len(saved.ticks)
    assert 0 < most <= MANY
    assert saved.snapshots
