"""The short form of `python -m tests.chaos`, and whether it would see what it looks for."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.campaign import Campaign, judge
from tests.chaos.faults import FAULTS, KILLS
from tests.chaos.machine import lacking
from tests.chaos.samples import Oracle, Output, Told
from tests.chaos.schedules import STEPS, draw, places
from tests.kafka.broker import BrokerUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

SCHEDULE = draw(0, 0, tuple(FAULTS))
TRUTH = Oracle(
    portions=[],
    output=Output([("a", 0, "A"), ("b", 0, "B"), ("c", 1, "C")], ["0/7/"]),
    hashes={0: {"g": "x"}, 1: {"g": "y"}},
)


def told(**changes: object) -> Told:
    """All is as the oracle has it, but for what is changed."""
    usual = Told(output=TRUTH.output, hashes={n: dict(each) for n, each in TRUTH.hashes.items()})
    return replace(usual, **changes)  # type: ignore[arg-type]  # fields of many types


def failures(delivery: str = "at_least_once", **changes: object) -> list[str]:
    return judge(SCHEDULE, told(**changes), TRUTH, delivery).failures


def output(*ids: str, letters: int = 1) -> Output:
    bodies = {"a": 0, "b": 0, "c": 1}
    return Output(
        [(each, bodies.get(each, 0), each.upper()) for each in ids], TRUTH.output.letters * letters
    )


def test_what_is_as_the_oracle_has_it_passes() -> None:
    assert failures() == failures("exactly_once") == []


def test_an_event_a_letter_a_state_that_differs_is_found() -> None:
    assert failures(output=output("a", "b")) == ["1 lost"]
    assert failures(output=output("a", "b", "c", letters=0)) == ["1 lost"]
    assert failures(output=output("a", "b", "c", "d")) == ["1 with another id"]
    other = Output([*TRUTH.output.events, ("a", 0, "else")], TRUTH.output.letters)
    assert failures(output=other) == ["1 with another body"]
    assert failures(hashes={0: {"g": "x"}, 1: {"g": "x"}}) == ["another state"]
    assert failures(hashes={0: {"g": "x"}}) == ["another state"]
    assert failures(unscored=3) == ["3 records not scored"]


def test_only_exactly_once_forbids_that_an_event_or_letter_is_said_twice() -> None:
    for twice in (output("a", "a", "b", "c"), output("a", "b", "c", letters=2)):
        assert failures(output=twice) == []
        assert failures("exactly_once", output=twice) == ["1 doubled"]


def test_a_partition_without_snapshots_may_differ_but_not_in_silence() -> None:
    def harmed(**changes: Any) -> list[str]:
        return failures(degraded=1, output=output("a", "b"), hashes={0: {"g": "x"}}, **changes)

    assert harmed() == ["degraded in silence"]
    assert harmed(restores=Counter(bounded=1)) == []
    assert harmed(restores=Counter(partial=1), unscored=1) == ["1 records not scored"]
    assert "1 lost" in failures(degraded=1, output=output("a"), restores=Counter(bounded=1))


def test_the_same_seed_draws_the_same_schedules_with_five_kills_at_least_and_every_fault() -> None:
    drawn, again = (
        [
            draw(n, 5, tuple(FAULTS), where, transactions=n % 2 > 0)
            for n, where in enumerate(places(80, FAULTS))
        ]
        for _ in range(2)
    )
    assert drawn == again
    kills = {fault.name for fault in KILLS}
    for number, schedule in enumerate(drawn):
        assert number % 2 or not any(FAULTS[step.fault].transactions for step in schedule.steps)
        assert len(schedule.steps) == STEPS
        assert sum(step.fault in kills for step in schedule.steps) >= 5
    assert {step.fault for each in drawn for step in each.steps} == set(FAULTS)


@pytest.mark.kafka
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("delivery", "schedules"),
    [("at_least_once", 3), ("exactly_once", 2)],
    ids=["at-least", "exactly"],
)
def test_workers_that_are_killed_at_every_edge_lose_nothing_and_come_to_the_same_state(
    delivery: str, schedules: int, tmp_path: Path
) -> None:
    kinds = [name for name, fault in FAULTS.items() if fault.where != "cluster"]
    if os.environ.get("CI") != "true":  # a build that lacks something fails in test_machine.py
        kinds = [kind for kind in kinds if kind not in lacking(kinds)]
    campaign = Campaign(
        tmp_path, schedules=schedules, delivery=delivery, seed=1, kinds=kinds, parallel=2
    )
    try:
        report = campaign.run(lambda _: None)
    except BrokerUnavailableError as error:
        if os.environ.get("CI") == "true" and "KAFKA_BOOTSTRAP_SERVERS" not in os.environ:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    assert report["failed"] == []
    assert (report["lost"], report["other_id_duplicates"], report["unscored"]) == (0, 0, 0)
    assert delivery == "at_least_once" or report["doubled"] == 0
    assert report["hashes_equal"]
    assert report["kills"] >= 5 * schedules
    drawn = {step.fault for each in campaign.verdicts for step in each.schedule.steps}
    assert len(drawn) >= 14
    assert set(report["faults"]) >= drawn - set(report["unfired"])
    assert sum(report["unfired"].values()) <= 3  # a busy machine may miss some
