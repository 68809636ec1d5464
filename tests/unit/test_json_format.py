"""JSON records become samples; what cannot be used says why and harms nothing beside it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stream_detector.config import Fields
from stream_detector.formats.json import LETTERS_PER_RECORD, JsonDecoder
from stream_detector.formats.timestamps import EARLIEST
from stream_detector.records import Reason, Sample
from tests.unit.json_cases import GOOD, NOW, changed, decoder, record, refusal, samples


def test_a_sample_keeps_its_series_time_values_and_record() -> None:
    carrier = record(GOOD)
    found, rejected = decoder().decode([carrier])
    assert found == [Sample("plant-3/pump-7", NOW, {"temp": 81.2, "vib": 0.03}, carrier, None)]
    assert found[0].record is carrier
    assert rejected == []


def test_values_may_be_one_number_an_object_or_an_array_and_are_floats() -> None:
    (one,) = samples(changed(values=..., value=81))
    assert one.values == 81.0
    assert isinstance(one.values, float)
    (several,) = samples(changed(values=[1, 2.5, None]))
    assert several.values == (1.0, 2.5, None)
    assert isinstance(several.values, tuple)
    assert isinstance(several.values[0], float)
    (named,) = samples(changed(values={"a": 1, "b": None}))
    assert named.values == {"a": 1.0, "b": None}
    assert isinstance(named.values, dict)
    assert isinstance(named.values["a"], float)


def test_values_come_before_value_where_a_sample_has_both() -> None:
    (found,) = samples(changed(value="a label"))
    assert found.values == GOOD["values"]
    (found,) = samples(changed(values=None, value=3))
    assert found.values == 3.0


def test_the_samples_of_an_array_are_numbered() -> None:
    found = samples([changed(timestamp=NOW + i) for i in range(3)])
    assert [(sample.timestamp, sample.item) for sample in found] == [
        (NOW, 0),
        (NOW + 1, 1),
        (NOW + 2, 2),
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\n\n", "\n \t\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n", "\ufeff\r\n"])
def test_ndjson_lines_may_be_blank_end_in_crlf_and_begin_with_a_mark(
    start: str, newline: str
) -> None:
    lines = [json.dumps(changed(timestamp=NOW + i)) for i in range(3)]
    found = samples((start + newline.join(lines) + newline).encode())
    assert [(sample.timestamp, sample.item) for sample in found] == [
        (NOW, 0),
        (NOW + 1, 1),
        (NOW + 2, 2),
    ]


def test_a_lone_line_and_an_indented_object_are_one_sample() -> None:
    for text in (
        json.dumps(GOOD) + "\r\n",
        json.dumps(GOOD, indent=2),
        "\ufeff" + json.dumps(GOOD),
    ):
        (found,) = samples(text.encode())
        assert found.item is None
        assert found.values == GOOD["values"]


def test_an_indented_array_with_a_bad_sample_is_still_an_array() -> None:
    rows = [GOOD, changed(timestamp=None), GOOD]
    text = "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]"
    found, rejected = decoder().decode([record(text.encode())])
    assert [sample.item for sample in found] == [0, 2]
    assert [(letter.item, letter.reason) for letter in rejected] == [(1, Reason.MISSING_FIELD)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"series": "a", "timestamp": 1, "value": NaN}', Reason.NON_FINITE),
        ('{"series": "a", "timestamp": 1, "value": -Infinity}', Reason.NON_FINITE),
        ('{"series": "a", "timestamp": 1, "value": 1e999}', Reason.NON_FINITE),
        ('{"series": "a", "timestamp": 1, "value": 1' + "0" * 400 + "}", Reason.NON_FINITE),
        ('{"series": "a", "timestamp": 1, "value": -1' + "0" * 5000 + "}", Reason.NON_FINITE),
        ('{"series": "a", "timestamp": 1, "value": 9' + "9" * 308 + "}", Reason.NON_FINITE),
        ('{"series": "a", "timestamp": 1, "value": true}', Reason.WRONG_TYPE),
        ('{"series": "\\ud800", "timestamp": 1, "value": 1}', Reason.MALFORMED),
        ("null", Reason.WRONG_TYPE),
        ("[]", Reason.WRONG_TYPE),
        ("{}", Reason.MISSING_FIELD),
    ],
)
def test_of_100_samples_with_one_bad_99_come_out_and_the_letter_names_the_one(
    bad: str, reason: Reason
) -> None:
    rows = [json.dumps(changed(timestamp=NOW + i)) for i in range(100)]
    rows[37] = bad
    for text in ("[" + ",".join(rows) + "]", "\n".join(rows)):
        found, rejected = decoder().decode([record(text.encode())])
        assert [sample.timestamp - NOW for sample in found] == [*range(37), *range(38, 100)]
        assert [sample.item for sample in found] == [*range(37), *range(38, 100)]
        assert [(letter.item, letter.reason) for letter in rejected] == [(37, reason)]


@pytest.mark.parametrize("bad", [b'{"series": "a', b"\xff\xfe\x00", b"}", b"[", b"[" * 10_000])
def test_a_broken_line_harms_no_other_line(bad: bytes) -> None:
    good = json.dumps(GOOD).encode()
    for at in range(3):
        lines = [good, good]
        lines.insert(at, bad)
        found, rejected = decoder().decode([record(b"\n".join(lines))])
        assert [sample.item for sample in found] == [item for item in range(3) if item != at]
        assert [(letter.item, letter.reason) for letter in rejected] == [(at, Reason.MALFORMED)]


def test_one_broken_indented_document_gives_one_letter() -> None:
    text = json.dumps(GOOD, indent=2).encode()[:-2]
    letter = refusal(text)
    assert (letter.reason, letter.item) == (Reason.MALFORMED, None)


@pytest.mark.parametrize(
    ("value", "reason", "word"),
    [
        (None, Reason.EMPTY, "no value"),
        (b"", Reason.EMPTY, "white space"),
        (b" \r\n\t", Reason.EMPTY, "white space"),
        (b"\xef\xbb\xbf", Reason.EMPTY, "white space"),
        (b"[]", Reason.EMPTY, "array"),
        (b"not json", Reason.MALFORMED, "not JSON"),
        (json.dumps(GOOD).encode()[:-5], Reason.MALFORMED, "not JSON"),
        (b"\xff\xfe\xfd", Reason.MALFORMED, "not JSON"),
        (json.dumps(GOOD).encode("utf-16"), Reason.MALFORMED, "not JSON"),
        (b"[" * 50_000, Reason.MALFORMED, "nested"),
        (b'{"a":' * 15_000, Reason.MALFORMED, "nested"),
        (b'{"series":' + b"[" * 40_000 + b"]" * 40_000 + b"}", Reason.MALFORMED, "nested"),
        (b"5", Reason.WRONG_TYPE, "5"),
        (b'"text"', Reason.WRONG_TYPE, "text"),
        (changed(series=...), Reason.MISSING_FIELD, "series"),
        (changed(series=None), Reason.MISSING_FIELD, "series"),
        (changed(series=7), Reason.WRONG_TYPE, "series"),
        (changed(series=["a"]), Reason.WRONG_TYPE, "series"),
        (changed(series=""), Reason.BAD_SERIES, "series"),
        (changed(series="s" * 21), Reason.BAD_SERIES, "max_series_length"),
        (changed(series="\ud800"), Reason.MALFORMED, "series"),
        (b'{"series":"\xff","timestamp":1,"value":1}', Reason.MALFORMED, "series"),
        (changed(timestamp=...), Reason.MISSING_FIELD, "timestamp"),
        (changed(timestamp=None), Reason.MISSING_FIELD, "timestamp"),
        (changed(timestamp=True), Reason.WRONG_TYPE, "timestamp"),
        (changed(timestamp={}), Reason.WRONG_TYPE, "timestamp"),
        (changed(timestamp=-1), Reason.BAD_TIMESTAMP, "1970"),
        (changed(timestamp=-0.5), Reason.BAD_TIMESTAMP, "1970"),
        (changed(timestamp=NOW * 1000), Reason.BAD_TIMESTAMP, "9999"),
        (changed(timestamp=10**400), Reason.BAD_TIMESTAMP, "timestamp"),
        (changed(timestamp=float("nan")), Reason.BAD_TIMESTAMP, "timestamp"),
        (changed(timestamp=1e300), Reason.BAD_TIMESTAMP, "timestamp"),
        (changed(timestamp="yesterday"), Reason.BAD_TIMESTAMP, "yesterday"),
        (changed(timestamp="1764201600000"), Reason.BAD_TIMESTAMP, "RFC 3339"),
        (changed(timestamp="2025-02-30T00:00:00Z"), Reason.BAD_TIMESTAMP, "2025-02-30"),
        (changed(timestamp="1969-12-31T23:59:59Z"), Reason.BAD_TIMESTAMP, "1970"),
        (changed(timestamp="2025-11-27T00:00:00+25:00"), Reason.BAD_TIMESTAMP, "RFC 3339"),
        (changed(timestamp="\ud800"), Reason.BAD_TIMESTAMP, "RFC 3339"),
        (changed(values=...), Reason.MISSING_FIELD, "value"),
        (changed(values=..., value=None), Reason.MISSING_FIELD, "value"),
        (changed(values=..., value="81.2"), Reason.WRONG_TYPE, "'81.2'"),
        (changed(values=..., value=[1]), Reason.WRONG_TYPE, "value"),
        (changed(values={}), Reason.MISSING_FIELD, "values"),
        (changed(values=[]), Reason.MISSING_FIELD, "values"),
        (changed(values=3), Reason.WRONG_TYPE, "values"),
        (changed(values={"temp": "81.2"}), Reason.WRONG_TYPE, "values.temp"),
        (changed(values={"temp": False}), Reason.WRONG_TYPE, "values.temp"),
        (changed(values={"temp": {}}), Reason.WRONG_TYPE, "values.temp"),
        (changed(values=[1, "2"]), Reason.WRONG_TYPE, "values[1]"),
        (changed(values={"temp": float("nan")}), Reason.NON_FINITE, "values.temp"),
        (changed(values={"\ud800": 1}), Reason.MALFORMED, "values"),
    ],
)
def test_what_cannot_be_used_names_its_reason_and_field(
    value: Any, reason: Reason, word: str
) -> None:
    letter = refusal(value)
    assert letter.reason is reason
    assert word in letter.detail
    assert letter.item is None


@pytest.mark.parametrize(
    "value",
    [
        changed(values={"f" * 5000: "x"}),
        changed(values={"temp": "\U0010ffff" * 5000}),
        changed(series="\U0010ffff" * 5000),
        changed(timestamp="\n" * 5000),
        changed(values={"temp": "\udfff" * 5000}),
        b"\x00" * 5000,
        changed(timestamp=10**300),
    ],
)
def test_a_detail_is_short_and_can_always_be_written(value: Any) -> None:
    detail = refusal(value).detail
    assert 0 < len(detail) < 200
    assert detail.encode().decode() == detail


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-11-27T00:00:00Z", NOW),
        ("2025-11-27t00:00:00z", NOW),
        ("2025-11-27 00:00:00Z", NOW),
        ("2025-11-27T00:00:00", NOW),
        ("2025-11-27T00:00", NOW),
        ("2025-11-27", NOW),
        ("2025-11-27T01:30:00+01:30", NOW),
        ("2025-11-26T19:00:00-0500", NOW),
        ("2025-11-27T00:00:00.123Z", NOW + 123),
        ("2025-11-27T00:00:00.123999999Z", NOW + 123),
        ("2025-11-27T00:00:00,5Z", NOW + 500),
        ("2025-11-26T23:59:60Z", NOW),
        ("1970-01-01T00:00:00Z", 0),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ],
)
def test_rfc_3339_text_is_a_time_and_without_an_offset_it_is_utc(text: str, expected: int) -> None:
    (found,) = samples(changed(timestamp=text))
    assert found.timestamp == expected


@pytest.mark.parametrize(
    ("unit", "number", "expected"),
    [
        ("ms", NOW, NOW),
        ("ms", float(NOW), NOW),
        ("ms", NOW + 0.75, NOW),
        ("s", NOW // 1000, NOW),
        ("s", 1_764_201_600.123, NOW + 123),
        ("us", NOW * 1000 + 999, NOW),
        ("ns", NOW * 1_000_000 + 999_999, NOW),
        ("ns", 253_402_300_799_999_999_999, 253_402_300_799_999),
        ("s", 0, 0),
    ],
)
def test_numbers_count_the_configured_unit(unit: str, number: float, expected: int) -> None:
    (found,) = samples(changed(timestamp=number), time_unit=unit)
    assert found.timestamp == expected
    assert type(found.timestamp) is int


@pytest.mark.parametrize("time", [-347_155_200_000, "1959-01-01", "1959-01-01T00:00:00Z"])
def test_a_decoder_of_history_takes_times_before_1970(time: int | str) -> None:
    limits = {"max_record_bytes": 1000, "max_samples": 2, "max_series_length": 20}
    history = JsonDecoder(Fields(), earliest=EARLIEST, **limits)
    (sample,), rejected = history.decode([record(changed(timestamp=time))])
    assert sample.timestamp == -347_155_200_000
    assert rejected == []
    assert (
        "before the year 1" in history.decode([record(changed(timestamp=-(10**15)))])[1][0].detail
    )


def test_large_records_are_refused_before_they_are_parsed() -> None:
    letter = refusal(b" " * 100_001)
    assert letter.reason is Reason.OVERSIZE
    assert "100001" in letter.detail


def test_records_with_too_many_samples_are_refused_whole() -> None:
    rows = [json.dumps({"series": "a", "timestamp": 1, "value": 1})] * 201
    for text in ("[" + ",".join(rows) + "]", "\n".join(rows)):
        assert refusal(text.encode()).reason is Reason.OVERSIZE
        limit = text.replace(rows[0], "", 1).replace("[,", "[")
        assert len(samples(limit.encode())) == 200


def test_a_record_full_of_bad_samples_gives_a_bounded_number_of_letters() -> None:
    rows: list[Any] = [GOOD, *[changed(series=7)] * 150, GOOD]
    found, rejected = decoder().decode([record(rows)])
    assert [sample.item for sample in found] == [0, 151]
    assert [letter.item for letter in rejected] == [*range(1, LETTERS_PER_RECORD + 1)]
    assert "50 more" in rejected[-1].detail


def test_the_last_of_two_equal_keys_counts() -> None:
    text = b'{"series":"a","series":"b","timestamp":1,"value":true,"value":2}'
    (found,) = samples(text)
    assert (found.series, found.values) == ("b", 2.0)


def test_samples_and_letters_keep_the_order_of_their_records() -> None:
    carriers = [record(value) for value in (GOOD, b"x", [GOOD, 1, GOOD], None, GOOD)]
    found, rejected = decoder().decode(carriers)
    assert [(id(sample.record), sample.item) for sample in found] == [
        (id(carriers[0]), None),
        (id(carriers[2]), 0),
        (id(carriers[2]), 2),
        (id(carriers[4]), None),
    ]
    assert [(id(letter.record), letter.item) for letter in rejected] == [
        (id(carriers[1]), None),
        (id(carriers[2]), 1),
        (id(carriers[3]), None),
    ]
