"""State survives restarts: nothing is lost, nothing else is said twice, the state is the same."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.adapters.http import HealthState
from stream_detector.formats import checkpoint
from stream_detector.formats.snapshots import offset_of
from stream_detector.ports import Position
from tests.fakes import model
from tests.pipeline.loop_case import GROUP_ID, KNOWN
from tests.pipeline.restart_case import (
    HALFWAY,
    PARTITIONS,
    Fleet,
    Inline,
    halfway,
    ids,
    outcomes,
    state,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.records import Partition
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
@given(deaths=st.lists(st.integers(1, 300), min_size=1, max_size=6), snapshots=st.booleans())
def test_deaths_at_any_call_of_a_port_lose_no_event_and_change_no_id_and_no_state(
    oracle: Case,
    deaths: list[int],
    snapshots: bool,  # noqa: FBT001  # hypothesis hands in by name
) -> None:
    fleet = Fleet()
    fleet.feed()
    for at in deaths:
        fleet.die(at, snapshots=snapshots)
    case = fleet.worker(snapshots=snapshots)
    case.run()
    assert set(ids(case)) == set(ids(oracle))
    assert state(case) == state(oracle)
    assert set(outcomes(case)) <= {"new", "exact"}
    for partition in PARTITIONS:  # two that commits name, one more, one that each death left
        assert len(fleet.snapshots.names(partition)) <= 3 + len(deaths)


@settings(max_examples=15, deadline=None)
@given(deaths=st.lists(st.integers(1, 300), min_size=1, max_size=6), snapshots=st.booleans())
def test_exactly_once_deaths_at_any_call_of_a_port_lose_no_event_and_double_none(
    oracle: Case,
    deaths: list[int],
    snapshots: bool,  # noqa: FBT001  # hypothesis hands in by name
) -> None:
    fleet = Fleet(exactly_once=True)
    fleet.feed()
    for at in deaths:
        fleet.die(at, snapshots=snapshots)
    case = fleet.worker(snapshots=snapshots)
    case.run()
    assert sorted(ids(case)) == sorted(ids(oracle))
    assert state(case) == state(oracle)


def test_an_output_that_fails_for_a_while_aborts_and_then_all_is_said_once(oracle: Case) -> None:
    fleet = Fleet(exactly_once=True)
    fleet.feed()
    case = fleet.worker()
    for turn in range(40):
        if turn in {8, 20, 21}:
            fleet.broker.fail("events", "no in-sync replicas")
        case.loop.turn()
        if turn in {12, 20, 23}:
            fleet.broker.fail("events", None)
    case.run()
    assert set(outcomes(case)) == {"new", "exact"}
    assert outcomes(case).count("exact") >= 3
    assert sorted(ids(case)) == sorted(ids(oracle))
    assert state(case) == state(oracle)
    turns = case.telemetry.turns
    assert sorted(event.id for turn in turns for event in turn.events) == sorted(ids(case))
    ended = [each.outcome for turn in turns for each in turn.transactions]
    assert ended.count("aborted") >= 2
    assert ended.count("committed") > 20


def test_every_kind_of_place_to_die_at_is_reached() -> None:
    fleet = Fleet()
    fleet.feed()
    places = {fleet.die(at) for at in (*range(1, 60), 3)}
    assert places - {""} == {
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


# What to go on from


def named(fleet: Fleet, partition: Partition) -> list[str]:
    """Snapshots that the commit of a partition names, newest first."""
    saved = checkpoint.decode(fleet.broker.committed(GROUP_ID)[partition].metadata)
    assert saved is not None
    return saved.snapshots


def test_the_newest_snapshot_shortens_the_replay(oracle: Case) -> None:
    fleet = halfway()
    at = fleet.broker.committed(GROUP_ID)
    left = sum(at[p].offset - (offset_of(named(fleet, p)[0]) or 0) for p in PARTITIONS)
    case = fleet.worker()
    case.run()
    assert outcomes(case) == ["exact", "exact"]
    assert sum(turn.replayed for turn in case.telemetry.turns) == left < 400
    assert set(ids(case)) == set(ids(oracle))
    assert state(case) == state(oracle)


def test_a_stop_leaves_nothing_to_be_read_again(oracle: Case) -> None:
    fleet = Fleet()
    fleet.feed()
    case = fleet.worker(every=1e9)
    turns = iter([False] * 20 + [True])
    case.loop.run(lambda: next(turns))
    case.source.close()
    again = fleet.worker(every=1e9)
    again.run()
    assert outcomes(again) == ["exact", "exact"]
    assert sum(turn.replayed for turn in again.telemetry.turns) == 0
    assert sorted(ids(again)) == sorted(ids(oracle))
    assert state(again) == state(oracle)


class Stuck(Inline):
    """Never finishes anything."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        assert fn(*args, **kwargs)
        return Future()


def test_a_stop_does_not_wait_for_a_snapshot_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream_detector.keeper.LEAVE_S", 0.1)
    fleet = Fleet()
    fleet.feed(60)
    case = fleet.worker(writer=Stuck())
    case.run()
    committed = fleet.broker.committed(GROUP_ID)
    assert sum(at.offset for at in committed.values()) == 300
    assert outcomes(case) == ["new", "new"]


def test_without_snapshots_everything_since_the_start_is_replayed(oracle: Case) -> None:
    fleet = halfway(snapshots=False)
    committed = sum(at.offset for at in fleet.broker.committed(GROUP_ID).values())
    case = fleet.worker(snapshots=False)
    case.run()
    assert outcomes(case) == ["exact", "exact"]
    assert sum(turn.replayed for turn in case.telemetry.turns) == committed > 500
    assert state(case) == state(oracle)


@pytest.mark.parametrize("harm", ["missing", "flipped", "cut", "exchanged"])
def test_the_older_snapshot_stands_in_for_one_that_is_harmed(harm: str, oracle: Case) -> None:
    fleet = halfway()
    newest, older = named(fleet, PARTITIONS[0])
    files, key = fleet.snapshots.files, (PARTITIONS[0], newest)
    data = files[key]
    if harm == "missing":
        del files[key]
    elif harm == "flipped":
        files[key] = data[:5000] + bytes([data[5000] ^ 4]) + data[5001:]
    elif harm == "cut":
        files[key] = data[:-1]
    else:
        files[key] = files[PARTITIONS[0], older]
    case = fleet.worker()
    case.run()
    assert sorted(outcomes(case)) == ["exact", "older"]
    assert set(ids(case)) == set(ids(oracle))
    assert state(case) == state(oracle)


def test_with_no_usable_snapshot_a_bounded_number_of_records_is_replayed_and_said_so() -> None:
    fleet = halfway()
    fleet.snapshots.files.clear()
    case = fleet.worker(max_replay=100)
    case.run()
    assert outcomes(case) == ["bounded", "bounded"]
    assert sum(turn.replayed for turn in case.telemetry.turns) == 200
    assert case.telemetry.outcomes["accepted"] > 500
    assert ids(case)


def maturities(case: Case, series: str) -> list[str]:
    """Of the events of a series, in the order they were said."""
    return [event["maturity"] for event in case.events if event["series"] == series]


@pytest.mark.parametrize("max_replay", [0, 100])
def test_after_a_degraded_restore_series_are_recovering_until_their_windows_are_filled_anew(
    max_replay: int,
) -> None:
    fleet = halfway()
    fleet.snapshots.files.clear()
    case = fleet.worker(max_replay=max_replay)
    before = {series: len(maturities(case, series)) for series in ("calm", "pump")}
    for _ in range(8 + max_replay // 10):
        case.loop.turn()
    assert case.engine.series()["recovering"] > 2
    case.run()
    assert case.engine.series()["recovering"] <= 1
    for series, count in before.items():
        mine = maturities(case, series)[count:]
        recovering = mine.count("recovering")
        assert 0 < recovering < len(mine)
        assert mine == ["recovering"] * recovering + ["mature"] * (len(mine) - recovering)


def test_a_restart_amid_recovery_goes_on_recovering_exactly() -> None:
    def degraded() -> Fleet:
        fleet = halfway(snapshots=False)
        fleet.snapshots.files.clear()
        return fleet

    fleet = degraded()
    expected = fleet.worker(snapshots=False, max_replay=60)
    expected.run()
    again = degraded()
    assert again.die(60, snapshots=False, max_replay=60)
    case = again.worker(snapshots=False)
    case.run()
    assert outcomes(expected) == ["bounded", "bounded"]
    assert outcomes(case) == ["exact", "exact"]
    assert state(case) == state(expected)
    for series in KNOWN:
        assert maturities(case, series)[-5:] == maturities(expected, series)[-5:]


def test_a_store_that_is_down_stops_nothing_and_loses_nothing(oracle: Case) -> None:
    fleet = Fleet()
    fleet.feed()
    fleet.snapshots.failing = True
    assert fleet.die(HALFWAY // 2)
    case = fleet.worker()
    case.run()
    assert {each.outcome for turn in case.telemetry.turns for each in turn.saved} == {"failed"}
    assert outcomes(case) == ["exact", "exact"]
    assert set(ids(case)) == set(ids(oracle))
    assert state(case) == state(oracle)


def test_another_configuration_of_what_shapes_state_begins_with_a_bounded_replay() -> None:
    fleet = halfway()
    case = fleet.worker(cfg="other", max_replay=50)
    case.run()
    assert outcomes(case) == ["bounded", "bounded"]
    again = fleet.worker(cfg="other", max_replay=50)
    again.run()
    assert outcomes(again) == ["exact", "exact"]
    assert state(again) == state(case)


def test_records_deleted_before_they_were_replayed_are_declared() -> None:
    fleet = halfway()
    offset = offset_of(named(fleet, PARTITIONS[0])[0])
    assert offset is not None
    fleet.broker.trim(PARTITIONS[0], offset + 3)
    case = fleet.worker()
    case.run()
    assert sorted(outcomes(case)) == ["exact", "partial"]


def test_a_commit_that_is_not_ours_is_no_obstacle() -> None:
    for metadata in ("", "NO_METADATA", '{"v":99}', "{", '{"v":1,"R":"x"}'):
        fleet = halfway()
        group = fleet.broker._groups[GROUP_ID].committed
        for partition in PARTITIONS:
            group[partition] = Position(group[partition].offset, metadata)
        case = fleet.worker(max_replay=60)
        case.run()
        assert outcomes(case) == ["bounded", "bounded"]


def test_a_new_group_replays_nothing_and_names_its_beginning_at_once() -> None:
    fleet = Fleet()
    fleet.feed(5)
    assert fleet.die(8, snapshots=False) == "after the commit"
    saved = checkpoint.decode(fleet.broker.committed(GROUP_ID)[PARTITIONS[0]].metadata)
    assert saved is not None
    assert (saved.replay_from, saved.snapshots, saved.models) == (0, [], {"g": [(0, "v1")]})


# Several workers


def test_a_partition_that_moves_goes_on_with_its_state(oracle: Case) -> None:
    fleet = Fleet()
    fleet.feed()
    one = fleet.worker()
    for _ in range(12):
        one.loop.turn()
    other = fleet.worker()
    while one.loop.turn() | other.loop.turn():
        pass
    one.source.close()
    other.source.close()
    assert sorted(outcomes(one)) == ["new", "new"]
    assert outcomes(other) == ["exact"]
    assert set(ids(one)) == set(ids(oracle))
    assert len(ids(one)) == len(ids(oracle))
    both = [one.engine.digest(p) or other.engine.digest(p) for p in PARTITIONS]
    assert both == state(oracle)


def test_nobody_is_ready_before_the_state_is_in_place() -> None:
    fleet = halfway()
    health = HealthState()
    case = fleet.worker()
    keeper = case.loop._keeper
    assert keeper is not None
    case.loop._telemetry = health
    case.loop.serve("g", model(known=KNOWN))
    seen = []
    while case.loop.turn():
        seen.append((health.ready()[0], keeper.restoring))
    assert (False, 1) in seen
    assert all(ready == (restoring == 0) for ready, restoring in seen)
