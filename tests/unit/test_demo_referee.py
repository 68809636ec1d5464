"""Rulings of the demo: which episode belongs to which fault, and what the summary then says."""

from __future__ import annotations

from stream_detector.commands.demo_referee import Referee, Ruling
from stream_detector.machines import Fault, Label
from stream_detector.records import (
    AnomalyEvent,
    Kind,
    Maturity,
    Partition,
    Severity,
    Status,
)
from stream_detector.simulation import Fleet

MINUTE = 60_000


def fleet_with(*spans: tuple[int, int]) -> Fleet:
    """One series with faults at these steps."""
    fleet = Fleet(series=1, minutes=2000, anomaly_rate=0, normal_fraction=0.5)
    fleet.labels = tuple(
        Label(
            series=0,
            name=fleet.series[0].name,
            kind=Fault.SPIKE,
            start=start,
            end=end,
            start_time=fleet.time_of(0, start),
            end_time=fleet.time_of(0, end),
            features=("pressure",),
            magnitude=8.0,
        )
        for start, end in spans
    )
    return fleet


def event(
    fleet: Fleet,
    step: int,
    status: Status = Status.OPENED,
    *,
    kind: Kind = Kind.ANOMALY,
    lasted: int = 0,
) -> AnomalyEvent:
    started_at = fleet.time_of(0, step)
    return AnomalyEvent(
        source="demo",
        series=fleet.series[0].name,
        kind=kind,
        status=status,
        at=started_at + lasted * MINUTE,
        seq=0,
        started_at=started_at,
        window_start=started_at,
        window_end=started_at,
        scale=1,
        severity=Severity.MINOR,
        level=5.0,
        threshold=4.0,
        score=1.0,
        model_version="v",
        maturity=Maturity.MATURE,
        partition=Partition("samples", 0),
        offset=0,
    )


def rulings(fleet: Fleet, *steps: int) -> list[Ruling]:
    referee = Referee(fleet)
    ruled = [referee.rule(event(fleet, step)) for step in steps]
    return [one.ruling for one in ruled if one is not None]


def test_an_episode_finds_a_fault_from_its_first_sample_to_a_window_after_its_last() -> None:
    for step, ruling in (
        (1199, Ruling.FALSE),
        (1200, Ruling.FOUND),
        (1210, Ruling.FOUND),
        (1270, Ruling.FOUND),
        (1272, Ruling.FALSE),
    ):
        assert rulings(fleet_with((1200, 1210)), step) == [ruling]


def test_a_fault_is_found_once_and_further_episodes_of_it_are_repeats() -> None:
    fleet = fleet_with((1200, 1290))
    assert rulings(fleet, 1205, 1280, 1340) == [Ruling.FOUND, Ruling.REPEAT, Ruling.REPEAT]


def test_the_summary_counts_faults_found_missed_and_false_with_their_delays() -> None:
    fleet = fleet_with((1200, 1210), (1500, 1510), (1800, 1810))
    referee = Referee(fleet)
    for step in (1100, 1204, 1300, 1502):
        referee.rule(event(fleet, step))
    summary = referee.summary()
    assert summary["episodes"] == {"true": 3, "found": 2, "missed": 1, "false": 2, "repeats": 0}
    assert summary["delay_steps"] == {"median": 3.0, "p90": 3.8}
    days = 1000 / 1440
    assert summary["false_per_series_and_day"] == round(2 / days, 4)
    assert summary["kinds"] == {"spike": {"true": 3, "found": 2}}
    assert summary["groups"] == {"pump": {"true": 3, "found": 2}}


def test_a_fleet_without_faults_has_no_delays() -> None:
    summary = Referee(fleet_with()).summary()
    assert summary["episodes"]["true"] == 0
    assert summary["delay_steps"] == {"median": None, "p90": None}


def test_closing_an_episode_notes_its_end_and_rules_nothing_anew() -> None:
    fleet = fleet_with((1200, 1210))
    referee = Referee(fleet)
    referee.rule(event(fleet, 1204))
    ruled = referee.rule(event(fleet, 1204, Status.CLOSED, lasted=70))
    assert ruled is not None
    assert ruled.ruling is Ruling.FOUND
    assert ruled.closed_at == fleet.time_of(0, 1204) + 70 * MINUTE
    assert len(referee.episodes) == 1


def test_a_gap_is_no_anomaly_and_gets_no_ruling() -> None:
    fleet = fleet_with((1200, 1210))
    assert Referee(fleet).rule(event(fleet, 1204, kind=Kind.GAP)) is None
