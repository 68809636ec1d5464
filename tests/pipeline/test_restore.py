"""State survives restarts: nothing is lost, nothing else is said twice, the state is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.restart_case import PARTITIONS, Faults, Fleet, ids, outcomes, state

if TYPE_CHECKING:
    from tests.pipeline.loop_case import Case


@pytest.fixture(scope="module")
def oracle() -> Case:
    """One worker that nothing happens to."""
    return uninterrupted()


def uninterrupted() -> Case:
    fleet = Fleet()
    fleet.feed()
    case = fleet.worker()
    case.run()
    assert len(set(ids(case))) == len(ids(case)) > 40
    return case


@settings(max_examples=25, deadline=None)
@given(deaths=st.lists(st.integers(1, 1200), min_size=1, max_size=6), snapshots=st.booleans())
def test_deaths_at_any_call_of_a_port_lose_no_event_and_change_no_id_and_no_state(
    oracle: Case, deaths: list[int], snapshots: bool
) -> None:
    fleet = Fleet()
    fleet.feed()
    for at in deaths:
        fleet.die(at, snapshots=snapshots)
    case = fleet.worker(snapshots=snapshots)
    case.run()
    assert set(ids(case)) == set(ids(oracle))
    assert state(case) == state(oracle)
    assert set(outcomes(case)) <= {"new", "exact", "bounded"}
    for partition in PARTITIONS:
        assert len(fleet.snapshots.names(partition)) <= 4


def test_every_kind_of_place_to_die_at_is_reached() -> None:
    fleet = Fleet()
    fleet.feed()
    faults = Faults(10**9)
    fleet.worker(faults).run()
    places = {fleet.die(at) for at in range(1, 30)}
    fresh = Fleet()
    fresh.feed()
    places |= {fresh.die(at) for at in range(1, 400, 3)}
    assert places > {
        "acknowledged, before the commit",
        "after the commit",
        "before the acknowledgement",
        "before the replay",
        "before a message",
        "message sent, not acknowledged",
        "messages acknowledged",
        "before a snapshot",
        "snapshot durable, not referenced",
        "before a snapshot is read",
        "before a snapshot is deleted",
    }
