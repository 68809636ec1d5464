"""Events and dead letters on the wire: CloudEvents 1.0 in both modes, and back."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from stream_detector.formats.events import (
    EventError,
    dead_letter,
    event_line,
    event_message,
    line_envelope,
    message_envelope,
    parse_event_line,
    parse_event_message,
    uri_reference,
)
from stream_detector.records import (
    UNKNOWN_TIME,
    Partition,
    Reason,
    Record,
    Rejected,
    Severity,
)
from tests.fakes import event

EVENT = event(
    source="plant 3",
    series="plant-3/pümp-7",
    at=1_764_201_600_123,
    started_at=1_764_201_600_123,
    window_start=1_764_198_000_000,
    window_end=1_764_201_600_123,
    scale=4,
    severity=Severity.MAJOR,
    level=5.25,
    score=1.5,
    model_version="20261122-1",
    partition=Partition("samples", 2),
    offset=17,
    observed={"temp": 81.25},
    expected={"temp": 60.5},
    contribution={"temp": 1.0},
)
RECORD = Record("samples", 2, 17, 1_764_201_600_000, b"pump-7", b'{"series": \xff')


def test_an_event_is_keyed_by_its_series_and_carries_the_attributes_as_headers() -> None:
    message = event_message(EVENT, "anomalies")
    assert message.topic == "anomalies"
    assert message.key == "plant-3/pümp-7".encode()
    assert message.headers == (
        ("ce_specversion", b"1.0"),
        ("ce_id", EVENT.id.encode()),
        ("ce_source", b"plant%203"),
        ("ce_type", b"stream-detector.anomaly.opened"),
        ("ce_time", b"2025-11-27T00:00:00.123Z"),
        ("ce_subject", "plant-3/pümp-7".encode()),
        ("content-type", b"application/json"),
    )
    assert json.loads(message.value or b"") == EVENT.body()


def test_the_body_keeps_the_order_of_the_contract() -> None:
    body = json.loads(event_message(EVENT, "anomalies").value or b"")
    assert list(body) == [
        "schema_version",
        "episode_id",
        "seq",
        "kind",
        "status",
        "close_reason",
        "series",
        "severity",
        "level",
        "threshold",
        "score",
        "started_at",
        "window_start",
        "window_end",
        "scale",
        "observed",
        "expected",
        "contribution",
        "contaminated",
        "model_version",
        "maturity",
        "source",
    ]


def test_an_event_in_a_file_is_one_line_of_structured_json() -> None:
    line = event_line(dataclasses.replace(EVENT, series="two\nlines"))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    envelope = json.loads(line)
    assert list(envelope) == [
        "specversion",
        "id",
        "source",
        "type",
        "time",
        "subject",
        "datacontenttype",
        "data",
    ]
    assert envelope["subject"] == "two\nlines"
    assert envelope["datacontenttype"] == "application/json"


def test_both_modes_say_the_same_and_can_be_read_back() -> None:
    message = event_message(EVENT, "anomalies")
    line = event_line(EVENT)
    assert parse_event_message(message.headers, message.value) == EVENT.body()
    assert parse_event_line(line) == EVENT.body()
    assert message_envelope(message.headers, message.value) == line_envelope(line)
    assert line_envelope(line.decode())["id"] == EVENT.id


def test_numbers_that_json_cannot_say_are_null() -> None:
    event = dataclasses.replace(
        EVENT, level=math.inf, score=math.nan, observed={"a": math.nan, "b": -math.inf}
    )
    for body in (
        parse_event_line(event_line(event)),
        json.loads(event_message(event, "t")[2] or b""),
    ):
        assert body["level"] is None
        assert body["score"] is None
        assert body["observed"] == {"a": None, "b": None}


def test_numbers_of_numpy_are_numbers() -> None:
    # The engine's arrays hand these out where the types say float and int.
    numbers: dict[str, Any] = {"a": np.float32(0.5), "b": np.float64(81.25), "c": np.float32("nan")}
    level: Any = np.float32(2.5)
    offset: Any = np.int64(3)
    event = dataclasses.replace(EVENT, observed=numbers, level=level, offset=offset)
    body = parse_event_line(event_line(event))
    assert body["observed"] == {"a": 0.5, "b": 81.25, "c": None}
    assert body["level"] == 2.5
    assert body["source"]["offset"] == 3


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (2**63, "9999-12-31T23:59:59.999Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (-(2**63), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_the_time_is_rfc_3339_and_within_what_it_can_say(at: int, text: str) -> None:
    assert line_envelope(event_line(dataclasses.replace(EVENT, at=at)))["time"] == text


@pytest.mark.parametrize(
    ("source", "reference"),
    [
        ("stream-detector", "stream-detector"),
        ("plant/3:x", "plant/3:x"),
        ("/plant/3?line=1#a", "/plant/3?line=1#a"),
        ("https://plant.example:8080/3", "https://plant.example:8080/3"),
        ("urn:plant:3", "urn:plant:3"),
        ("plant%203", "plant%203"),
        ("plant 3", "plant%203"),
        ("plant 3:a", "plant%203%3Aa"),
        ("3:x", "3%3Ax"),
        ("100%", "100%25"),
        ("Werk Süd", "Werk%20S%C3%BCd"),
        ("a#b#c", "a%23b%23c"),
        ("[a]", "%5Ba%5D"),
        ("a\nb", "a%0Ab"),
        ("//host:port/x", "//host%3Aport/x"),
    ],
)
def test_a_source_that_is_no_uri_reference_is_percent_encoded(source: str, reference: str) -> None:
    assert uri_reference(source) == reference
    assert uri_reference(reference) == reference


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"\xff", b"5", b"[]", b"{}", b"[" * 100_000, b'{"specversion":"1.0","data":{}}'],
)
def test_what_is_not_an_event_is_refused_with_a_reason(line: bytes) -> None:
    with pytest.raises(EventError, match="not a"):
        parse_event_line(line)


def test_a_message_without_headers_or_object_is_not_an_event() -> None:
    message = event_message(EVENT, "anomalies")
    with pytest.raises(EventError, match="specversion"):
        parse_event_message((), message.value)
    for value in (None, b"5", b"nope"):
        with pytest.raises(EventError, match="not an event"):
            parse_event_message(message.headers, value)
    envelope = line_envelope(event_line(EVENT))
    with pytest.raises(EventError, match="data"):
        parse_event_line(json.dumps({**envelope, "data": 5}))


def test_a_dead_letter_keeps_key_and_bytes_and_says_where_and_why() -> None:
    letter = dead_letter(Rejected(Reason.MALFORMED, "not JSON: ümlaut", RECORD), "dead")
    assert letter.topic == "dead"
    assert letter.key == RECORD.key
    assert letter.value == RECORD.value
    assert letter.headers == (
        ("dlq_reason", b"malformed"),
        ("dlq_detail", "not JSON: ümlaut".encode()),
        ("dlq_topic", b"samples"),
        ("dlq_partition", b"2"),
        ("dlq_offset", b"17"),
        ("dlq_timestamp", b"1764201600000"),
    )


def test_a_dead_letter_of_an_array_names_the_sample() -> None:
    letter = dead_letter(Rejected(Reason.WRONG_TYPE, "value", RECORD, 0), "dead")
    assert dict(letter.headers)["dlq_index"] == b"0"


def test_a_dead_letter_never_fails() -> None:
    record = Record("topic", 0, 0, UNKNOWN_TIME, None, None)
    letter = dead_letter(Rejected(Reason.EMPTY, "lone \ud800", record), "dead")
    assert (letter.key, letter.value) == (None, None)
    assert dict(letter.headers)["dlq_detail"] == b"lone \\ud800"
    assert dict(letter.headers)["dlq_timestamp"] == b"-1"
