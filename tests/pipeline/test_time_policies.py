"""Samples out of time: what becomes of each is declared, counted, and the same on every way in."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import NamedTuple

import pytest

from stream_detector.core.policy import DAY, Policy
from stream_detector.records import UNKNOWN_TIME
from tests.pipeline.loop_case import LETTERS, MINUTE, T0, Case, headers, noise, sample

YEARS = 20 * 365 * DAY


class Sent(NamedTuple):
    time: int
    arrives: int  # ms; the record's Kafka timestamp
    value: float


def orderly(minutes: int, first: int = 0) -> list[Sent]:
    times = [T0 + minute * MINUTE for minute in range(first, first + minutes)]
    return [
        Sent(time, time, float(value))
        for time, value in zip(times, noise(first + minutes)[first:], strict=True)
    ]


def disturbed() -> tuple[list[Sent], Counter[str]]:
    """Every fault of time in one series, and what is to be counted."""
    sent, counted = orderly(300), Counter[str](accepted=300)
    for at in range(280, 20, -40):
        place = sent[at]
        sent.insert(at + 1, place)  # again, at once
        sent.insert(at + 9, place._replace(time=place.time - 5 * MINUTE, value=9.0))  # late
        sent[at + 12], sent[at + 13] = sent[at + 13], sent[at + 12]  # two out of order
        sent.insert(at + 20, place._replace(time=place.time + YEARS))  # a clock gone mad
        counted.update(duplicate=1, late=2, future=1, accepted=-1)
    for before, after in pairwise(sent):
        assert abs(after.arrives - before.arrives) <= 20 * MINUTE
    return sent, counted


def run(sent: list[Sent], *, as_file: bool, policy: Policy | None = None) -> Case:
    case = Case(policy=policy)
    for each in sent:
        at = UNKNOWN_TIME if as_file else each.arrives
        case.append(sample("pump", each.time, each.value), b"pump", at)
    case.run()
    return case


@pytest.mark.parametrize("as_file", [False, True], ids=["stream", "file"])
def test_late_duplicate_disordered_and_far_future_samples_are_each_counted(
    *, as_file: bool
) -> None:
    sent, counted = disturbed()
    case = run(sent, as_file=as_file)
    assert case.telemetry.outcomes == counted
    assert sum(counted.values()) == len(sent)
    letters = [headers(message)["dlq_reason"] for message in case.broker.messages(LETTERS)]
    assert letters == ["future_timestamp"] * counted["future"]


def test_what_is_out_of_time_leaves_the_state_as_it_was_without_it() -> None:
    sent, _ = disturbed()
    newest, kept = 0, []
    for each in sent:
        if newest < each.time < T0 + YEARS:
            newest = each.time
            kept.append(each)
    with_it, without = (run(some, as_file=False) for some in (sent, kept))
    (place,) = {*with_it.broker.committed("detector")}
    state, clean = with_it.engine.digest(place), without.engine.digest(place)
    assert state == clean
    assert [e["episode_id"] for e in with_it.events] == [e["episode_id"] for e in without.events]


def test_a_series_that_jumps_back_starts_anew_alike_in_a_stream_and_in_a_file() -> None:
    back = [each._replace(time=each.time - 1000 * MINUTE) for each in orderly(200, 300)]
    sent = orderly(300) + back
    policy = Policy(restart_after_late=7)
    stream, file = (run(sent, as_file=as_file, policy=policy) for as_file in (False, True))
    assert stream.telemetry.outcomes == file.telemetry.outcomes == {"accepted": 494, "late": 6}
    ids = [dict(m.headers)["ce_id"] for m in stream.broker.messages("events")]
    assert ids == [dict(m.headers)["ce_id"] for m in file.broker.messages("events")]
    gaps = [event for event in stream.events if event["kind"] == "gap"]
    assert (gaps[0]["status"], gaps[0]["started_at"]) == ("opened", back[6].time)


def test_far_ahead_means_of_the_records_own_time_in_a_stream_and_of_the_series_in_a_file() -> None:
    """An hour and a half is too far for a stream; the history in a file may have holes."""
    sent = orderly(100)
    sent[60] = sent[60]._replace(time=sent[60].time + 90 * MINUTE)
    assert run(sent, as_file=False).telemetry.outcomes["future"] == 1
    assert "future" not in run(sent[:61], as_file=True).telemetry.outcomes
