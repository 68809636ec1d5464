"""What the loop does with what it cannot use: dead letters, holes held, and the breaker."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stream_detector.core.policy import Policy
from stream_detector.core.rejections import MisconfiguredError
from stream_detector.records import Reason
from tests.fakes import model
from tests.pipeline.loop_case import (
    KNOWN,
    MINUTE,
    T0,
    TOPIC,
    Case,
    headers,
    noise,
    sample,
    spiked,
)

YEAR_2099 = 4_070_908_800_000


# What cannot be used

GOOD = {"series": "calm", "timestamp": T0, "values": {"a": 1.0, "b": 2.0}}
BAD: dict[Reason, bytes | None] = {
    Reason.EMPTY: None,
    Reason.OVERSIZE: json.dumps(GOOD | {"more": "x" * 50_000}).encode(),
    Reason.MALFORMED: b'{"series": "calm", "times',
    Reason.MISSING_FIELD: json.dumps({"series": "calm", "timestamp": T0}).encode(),
    Reason.WRONG_TYPE: json.dumps(GOOD | {"values": {"a": "high", "b": 2}}).encode(),
    Reason.BAD_SERIES: json.dumps(GOOD | {"series": ""}).encode(),
    Reason.BAD_TIMESTAMP: json.dumps(GOOD | {"timestamp": "yesterday"}).encode(),
    Reason.FUTURE_TIMESTAMP: json.dumps(GOOD | {"timestamp": T0 + 3_600_001}).encode(),
    Reason.NON_FINITE: b'{"series": "calm", "timestamp": 1767571200000, "values": [NaN, 1]}',
    Reason.FEATURE_COUNT: json.dumps(GOOD | {"values": [1, 2, 3]}).encode(),
    Reason.NO_MODEL: json.dumps(GOOD | {"series": "stranger"}).encode(),
}


def two_features(**options: object) -> Case:
    served = {"g": model(("a", "b"), known=KNOWN)}
    return Case(models=served, routes=[("g", "[cp]*")], max_record_bytes=40_000, **options)  # type: ignore[arg-type]  # Case checks them


def test_there_is_a_case_for_every_reason() -> None:
    assert set(BAD) == set(Reason)


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_record_goes_to_the_dead_letters_as_it_came_and_its_neighbours_count(
    reason: Reason,
) -> None:
    case = two_features()
    times = [T0 - 2000, T0 - 1000, T0]
    good = [json.dumps(GOOD | {"timestamp": time}).encode() for time in times]
    case.append(good[0])
    case.append(good[1])
    case.append(BAD[reason], b"key \xff", at=T0)
    case.append(good[2])
    case.run()
    (letter,) = case.letters
    assert (letter.key, letter.value) == (b"key \xff", BAD[reason])
    found = headers(letter)
    assert found.pop("dlq_detail")
    assert found == {
        "dlq_reason": reason.value,
        "dlq_topic": TOPIC,
        "dlq_partition": "0",
        "dlq_offset": "2",
        "dlq_timestamp": str(T0),
    }
    assert case.telemetry.reasons == {reason.value: 1}
    assert case.telemetry.outcomes["accepted"] == 3
    assert case.committed == {0: 4}


@pytest.mark.parametrize("wire", ["array", "lines"])
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"values": [1.0]}, "feature_count"),
        ({"values": [1.0, "x"]}, "wrong_type"),
        ({"timestamp": YEAR_2099}, "future_timestamp"),
        ({"series": "stranger"}, "no_model"),
    ],
)
def test_ninety_nine_of_a_hundred_samples_count_and_the_letter_names_the_one(
    broken: dict[str, object], reason: str, wire: str
) -> None:
    case = two_features()
    many = [GOOD | {"timestamp": T0 + second * 1000} for second in range(100)]
    many[42] |= broken
    text = "\n".join(map(json.dumps, many)) if wire == "lines" else json.dumps(many)
    case.append(text.encode(), at=T0)
    case.run()
    (letter,) = case.letters
    assert headers(letter)["dlq_reason"] == reason
    assert headers(letter)["dlq_index"] == "42"
    assert letter.value == text.encode()
    assert case.telemetry.outcomes["accepted"] == 99


def test_a_large_record_of_which_nothing_fits_gets_a_bounded_number_of_letters() -> None:
    case = two_features()
    many = [GOOD | {"series": "stranger", "values": [1, n]} for n in range(500)]
    case.append(json.dumps(many).encode())
    for second in range(3):
        ab(case, second, 1.0, 2.0)
    case.run()
    found = [headers(letter) for letter in case.letters]
    assert [letter["dlq_index"] for letter in found] == [str(n) for n in range(100)]
    assert found[-1]["dlq_detail"].startswith("and 400 more bad samples; ")
    assert case.telemetry.reasons == {"no_model": 100}
    assert case.telemetry.outcomes["accepted"] == 3


@pytest.mark.parametrize("before", [0, 50])
def test_a_sample_of_2099_is_a_dead_letter_even_as_the_first_of_its_series(before: int) -> None:
    case = Case()
    values = spiked()
    case.samples("pump", values[:before])
    case.append(sample("pump", YEAR_2099, 1.0), at=T0 + 50 * MINUTE)
    case.samples("pump", values[before:], before)
    case.run()
    assert case.telemetry.reasons == {"future_timestamp": 1}
    assert case.telemetry.outcomes == {"accepted": 400, "future": 1}
    assert case.events[0]["status"] == "opened"
    assert case.events[-1]["close_reason"] == "recovered"


@pytest.mark.parametrize("stamp", [2**63 - 1, 2**63 - 3_600_000, 0, -1])
def test_whatever_time_a_record_itself_carries_the_loop_goes_on(stamp: int) -> None:
    case = Case()
    case.append(sample("pump", T0, 1.0), at=stamp)
    case.samples("calm", noise(3))
    case.run()
    assert case.telemetry.polled == 4
    assert case.telemetry.outcomes["accepted"] == (3 if stamp == 0 else 4)
    assert case.committed == {0: 4}


def ab(case: Case, second: int, a: float | None, b: float | None) -> None:
    body = {"series": "pump", "timestamp": T0 + second * 1000, "values": {"a": a, "b": b}}
    case.append(json.dumps(body).encode(), at=T0 + second * 1000)


def test_a_missing_feature_is_held_as_often_as_allowed_and_then_a_dead_letter() -> None:
    case = two_features(policy=Policy(hold_limit=3))
    ab(case, 0, 1.0, 2.0)
    for second in range(1, 6):
        ab(case, second, 1.0, None)
    ab(case, 6, 1.0, 2.0)
    ab(case, 7, None, 2.0)
    case.run()
    assert case.telemetry.outcomes == {"accepted": 6, "unheld": 2}
    found = [headers(letter) for letter in case.letters]
    assert [letter["dlq_offset"] for letter in found] == ["4", "5"]
    assert {letter["dlq_reason"] for letter in found} == {"missing_field"}


def test_a_feature_that_never_had_a_value_cannot_be_held() -> None:
    case = two_features()
    ab(case, 0, 1.0, None)
    ab(case, 1, 1.0, 2.0)
    case.run()
    assert case.telemetry.outcomes == {"accepted": 1, "unheld": 1}
    assert case.telemetry.reasons == {"missing_field": 1}


def test_with_the_policy_reject_a_missing_feature_is_a_dead_letter_at_once() -> None:
    case = two_features(missing="reject")
    ab(case, 0, 1.0, 2.0)
    ab(case, 1, 1.0, None)
    case.run()
    assert case.telemetry.outcomes["accepted"] == 1
    assert "no value for b" in headers(case.letters[0])["dlq_detail"]


# The breaker: for wrong configuration, not for bad senders


@pytest.mark.parametrize("batch", [700, 5000, 20_000])
def test_ten_thousand_records_that_nearly_all_fail_stop_the_loop_and_leave_no_trace(
    batch: int,
) -> None:
    case = Case(max_batch=batch)
    for at in range(20_000):
        good = at % 12 == 0
        case.append(sample("pump", T0 + at * 10, 0.0) if good else b"<xml/>", at=T0 + at * 10)
    with pytest.raises(MisconfiguredError, match=r"9[12]% .* malformed \(.*limits.rejected_share"):
        case.run()
    case.source.close()
    assert case.committed == {0: 0}
    assert not case.letters
    assert not case.events


@pytest.mark.parametrize("batch", [40, 1000])
def test_the_breaker_looks_at_the_newest_records_however_large_a_batch_is(batch: int) -> None:
    case = Case(max_batch=batch, rejected_window=100)
    case.samples("pump", np.zeros(900))
    for _ in range(95):
        case.append(b"?")
    case.samples("pump", np.zeros(5), 900)
    with pytest.raises(MisconfiguredError, match="95% of the last 100"):
        case.run()


def test_a_stream_that_turns_bad_later_stops_too() -> None:
    case = Case(max_batch=1000)
    case.samples("pump", np.zeros(3000))
    for _ in range(12_000):
        case.append(b"?")
    with pytest.raises(MisconfiguredError):
        case.run()


def test_a_bad_sender_among_good_ones_never_stops_the_loop_and_its_letters_flow() -> None:
    case = Case(max_batch=500)
    for at in range(24_000):
        good = at % 2 == 0
        case.append(sample("pump", T0 + at * 10, 0.0) if good else b"?", at=T0 + at * 10)
    for _ in range(4):
        case.loop.turn()
    assert len(case.letters) == 1000  # not only when the input ends
    case.run()
    assert len(case.letters) == 12_000
    assert case.telemetry.outcomes == {"accepted": 12_000}
    assert case.committed == {0: 24_000}


def test_letters_of_a_stream_that_holds_only_bad_records_go_out_when_it_pauses() -> None:
    case = Case(finite=False)
    for _ in range(3):
        case.append(b"?")
        case.loop.turn()
    assert not case.letters
    case.loop.turn()
    assert len(case.letters) == 3
    case.loop.turn()  # the source commits at its next poll
    assert case.committed == {0: 3}


def test_letters_that_are_held_back_go_out_when_the_service_stops() -> None:
    case = Case(finite=False)
    case.append(b"?")
    turns = iter([False, True])
    case.loop.run(lambda: next(turns))
    case.source.close()
    assert len(case.letters) == 1
    assert case.committed == {0: 1}


def test_letters_are_not_held_back_without_bound() -> None:
    case = Case(finite=False, max_batch=10)
    large = b"?" * 1_000_000
    for _ in range(150):
        case.append(large)
    for _ in range(13):
        case.loop.turn()
    assert not case.letters
    case.loop.turn()
    assert len(case.letters) == 140
    case.loop.turn()
    assert case.committed == {0: 140}
