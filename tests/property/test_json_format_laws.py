"""What must hold of JSON decoding for every input."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.config import Fields
from stream_detector.formats.events import dead_letter
from stream_detector.formats.json import JsonDecoder, _refuse
from stream_detector.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector.records import Rejected, Sample

CONFIGURED = {
    "template": "{tags.host}/{key}/{tags.id}",
    "timestamp": "at.time",
    "time_unit": "us",
    "features": {"a": "data.a", "b": "data.b", "c": "c"},
}
EVERY_FIELDS: list[dict[str, Any]] = [
    {},
    {"series": "key", "timestamp": None},
    {"series": "tags.host", "timestamp": "at.time", "values": "data", "value": "c"},
    CONFIGURED,
    {**CONFIGURED, "template": "{data}", "time_unit": "s"},  # through a value: no fast path
]
LIMITS = {"max_record_bytes": 9000, "max_samples": 12, "max_series_length": 30}

# Names that meet the configured paths often, and values that meet their types often.
names = st.sampled_from(
    ["series", "timestamp", "values", "value", "tags", "host", "id", "at", "time", "data", "a", "b"]
)
numbers = (
    st.integers(-(2**70), 2**70)
    | st.integers(0, 2**42)
    | st.floats()
    | st.sampled_from([10**309, 10**400, 0, -0.0, 1e308])
)
# "surrogates" too: JSON can escape halves of a pair.
texts = st.text(max_size=8) | st.just("\ud800") | st.just("2025-11-27T00:00:00.5+01:00")
scalars = st.none() | st.booleans() | numbers | texts
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | texts, inner, max_size=5),
    max_leaves=12,
)

good_numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
good_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
good_times = (
    st.integers(0, 253_402_300_799_999)
    | st.floats(0, 2e14)
    | st.datetimes().filter(lambda time: time.year >= 1970).map(lambda time: time.isoformat())
)
good_vectors = st.dictionaries(good_texts, good_numbers | st.none(), min_size=1, max_size=4) | (
    st.lists(good_numbers | st.none(), min_size=1, max_size=4)
)
extras = st.dictionaries(st.sampled_from(["unit", "site"]), st.none() | good_texts, max_size=2)
good_samples = st.builds(
    lambda sample, values, extra: {**sample, **values, **extra},
    st.fixed_dictionaries({"series": good_texts, "timestamp": good_times}),
    st.fixed_dictionaries({"value": good_numbers})
    | st.fixed_dictionaries({"values": good_vectors}),
    extras,
)
good_configured = st.fixed_dictionaries(
    {
        "tags": st.fixed_dictionaries({"host": good_texts, "id": good_texts | st.integers(0, 99)}),
        "at": st.fixed_dictionaries({"time": st.integers(0, 2**47) | good_times}),
        "data": st.fixed_dictionaries({"a": good_numbers}, optional={"b": good_numbers}),
    },
    optional={"c": good_numbers | st.none()},
)

HUGE = "a number too long for Python to read as an int"
odd_parts: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(float("nan"), float("-inf"), 10**400, HUGE, True, None, -1, 10**17, 1e300),
        *("", "s" * 31, "\ud800", "81.2", "2025-13-01", "1969-12-31T23:59:59Z"),
        *({}, [], [[]], {"\ud800": 1}, {"a": float("nan")}, [1, True], {"a": HUGE}, {"a": None}),
    ]
)


@st.composite
def nearly_good(draw: st.DrawFn) -> dict[str, Any]:
    """A good sample, but one of its parts is odd or absent."""
    sample: dict[str, Any] = draw(good_samples | good_configured)
    name = draw(st.sampled_from([name for name in sample if name not in ("unit", "site")]))
    if isinstance(sample[name], dict) and draw(st.booleans()):
        inner = draw(st.sampled_from(sorted(sample[name])))
        return {**sample, name: {**sample[name], inner: draw(odd_parts)}}
    if draw(st.integers(0, 9)) == 0:
        return {other: part for other, part in sample.items() if other != name}
    return {**sample, name: draw(odd_parts)}


def dump(tree: Any) -> bytes:
    return json.dumps(tree).replace(json.dumps(HUGE), "1" * 4500).encode()


def raw(tree: Any) -> bytes:
    """Without escapes, so that bytes beyond ASCII come up; halves of pairs as they are."""
    text = json.dumps(tree, ensure_ascii=False).replace(json.dumps(HUGE), "-" + "1" * 4500)
    return text.encode("utf-8", "surrogatepass")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A payload that was good, cut off, or with a few of its bytes changed, lost or doubled."""
    rows = draw(st.lists(good_samples, min_size=1, max_size=4))
    text = draw(st.sampled_from([dump(rows), b"\n".join(dump(row) for row in rows), raw(rows[0])]))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(text)))
        until = at + draw(st.integers(0, 3))
        text = text[:at] + draw(st.binary(max_size=3)) + text[until:]
    return text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


payloads = (
    st.none()
    | st.binary(max_size=60)
    | mutated()
    | (trees | nearly_good() | good_configured).map(dump)
    | (trees | nearly_good() | good_configured).map(raw)
    | st.lists(trees | nearly_good() | good_samples, max_size=4).map(dump)
    | st.lists(trees | nearly_good(), max_size=4).map(lambda rows: b"\r\n".join(map(dump, rows)))
    | st.sampled_from([b"[" * 3000, b'{"a":' * 700, b"[{" * 1500, b"\n" * 50, b"[]", b" "])
)
records = st.builds(
    Record,
    topic=st.just("samples"),
    partition=st.just(0),
    offset=st.integers(0, 2**40),
    timestamp=st.integers(-1, 2**50),
    key=st.none() | st.binary(max_size=6) | good_texts.map(str.encode),
    value=payloads,
)


def decoder(fields: dict[str, Any] | None = None) -> JsonDecoder:
    return JsonDecoder(Fields(**(fields or {})), **LIMITS)


def slow_decoder(fields: dict[str, Any] | None = None) -> JsonDecoder:
    slow = decoder(fields)
    slow._read = _refuse
    return slow


def carrier(value: bytes) -> Record:
    return Record("samples", 0, 0, 1_764_201_600_000, b"key", value)


def check(samples: Sequence[Sample], rejected: Sequence[Rejected]) -> None:
    for sample in samples:
        sample.series.encode()
        assert 1 <= len(sample.series) <= LIMITS["max_series_length"]
        assert type(sample.timestamp) is int
        assert 0 <= sample.timestamp <= 253_402_300_799_999
        values = sample.values
        several: list[float | None]
        match values:
            case dict():
                assert all(feature.encode() is not None for feature in values)
                several = list(values.values())
            case tuple():
                several = list(values)
            case float():
                several = [values]
            case _:
                raise AssertionError(values)
        assert several
        for number in several:
            assert number is None or (type(number) is float and math.isfinite(number))
    for letter in rejected:
        letter.detail.encode()
        assert 0 < len(letter.detail) < 200
        message = dead_letter(letter, "dead")
        assert (message.key, message.value) == (letter.record.key, letter.record.value)


@given(st.sampled_from(EVERY_FIELDS), st.lists(records, max_size=6))
@settings(max_examples=250, deadline=None)
def test_whatever_the_bytes_every_record_gives_samples_or_a_letter(
    fields: dict[str, Any], batch: list[Record]
) -> None:
    samples, rejected = decoder(fields).decode(batch)
    check(samples, rejected)
    heard = {id(one.record) for one in samples} | {id(one.record) for one in rejected}
    assert heard == {id(record) for record in batch}
    order = {id(record): at for at, record in enumerate(batch)}
    for outcomes in (samples, rejected):
        places = [(order[id(one.record)], one.item or 0) for one in outcomes]
        assert places == sorted(places)


@given(st.sampled_from(EVERY_FIELDS), st.lists(records, max_size=6), st.data())
@settings(max_examples=150, deadline=None)
def test_cutting_the_records_differently_changes_nothing(
    fields: dict[str, Any], batch: list[Record], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(batch)))
    whole = decoder(fields)
    parts = [whole.decode(batch[:cut]), whole.decode(batch[cut:])]
    samples, rejected = whole.decode(batch)
    assert samples == parts[0][0] + parts[1][0]
    assert rejected == parts[0][1] + parts[1][1]


@given(st.sampled_from(EVERY_FIELDS), records)
@settings(max_examples=250, deadline=None)
def test_the_slow_path_finds_every_sample_that_the_fast_one_does(
    fields: dict[str, Any], record: Record
) -> None:
    assert slow_decoder(fields).decode([record]) == decoder(fields).decode([record])


@given(nearly_good(), st.sampled_from([{}, CONFIGURED]), st.sampled_from([dump, raw]))
@settings(max_examples=500, deadline=None)
def test_a_sample_with_one_odd_part_is_right_or_refused_on_both_paths(
    row: dict[str, Any], fields: dict[str, Any], write: Any
) -> None:
    batch = [carrier(write(row)), carrier(b"[" + write(row) + b"]")]
    samples, rejected = decoder(fields).decode(batch)
    check(samples, rejected)
    assert (samples, rejected) == slow_decoder(fields).decode(batch)
    assert len(samples) + len(rejected) == 2


@given(st.lists(good_samples, min_size=1, max_size=12), st.sampled_from([dump, raw]))
@settings(max_examples=150, deadline=None)
def test_good_samples_are_the_same_alone_in_arrays_and_in_lines(
    rows: list[dict[str, Any]], write: Any
) -> None:
    alone, rejected = decoder().decode([carrier(write(row)) for row in rows])
    assert rejected == []
    assert len(alone) == len(rows)
    for text in (b"[" + b",".join(map(write, rows)) + b"]", b"\n".join(map(write, rows))):
        together, rejected = decoder().decode([carrier(text)])
        assert rejected == []
        assert [one[:3] for one in together] == [one[:3] for one in alone]
    for sample, row in zip(alone, rows, strict=True):
        assert sample.series == row["series"]
        given_values = row.get("values", row.get("value"))
        if isinstance(given_values, list):
            given_values = tuple(given_values)
        assert sample.values == floats(given_values)


def floats(values: Any) -> Any:
    """What the sender meant, in floats."""
    if isinstance(values, dict):
        return {name: floats(value) for name, value in values.items()}
    if isinstance(values, tuple):
        return tuple(floats(value) for value in values)
    return None if values is None else float(values)


@given(
    st.lists(good_samples, min_size=1, max_size=3),
    st.binary(max_size=40) | mutated() | nearly_good().map(dump) | st.sampled_from([b"{", b"["]),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_the_neighbours_of_any_line_or_record_are_unharmed(
    rows: list[dict[str, Any]], bad: bytes, data: st.DataObject
) -> None:
    bad = bad.replace(b"\n", b"").removeprefix(b"\xef\xbb\xbf").strip(b" \t\r")
    at = data.draw(st.integers(0, len(rows)))
    lines = [dump(row) for row in rows]
    expected, _ = decoder().decode([carrier(line) for line in lines])
    lines.insert(at, bad)
    carriers = [carrier(line) for line in lines]
    samples, _ = decoder().decode(carriers)
    assert [one for one in samples if one.record is not carriers[at]] == expected
    samples, _ = decoder().decode([carrier(b"\n".join(lines))])
    others = [one[:3] for one in samples if one.item != at or not bad]
    assert others == [one[:3] for one in expected]


@given(st.lists(good_samples, min_size=1, max_size=5), trees | nearly_good(), st.data())
@settings(max_examples=150, deadline=None)
def test_the_neighbours_of_any_item_of_an_array_are_unharmed(
    rows: list[dict[str, Any]], bad: Any, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(rows)))
    expected, _ = decoder().decode([carrier(dump(rows))])
    samples, rejected = decoder().decode([carrier(dump([*rows[:at], bad, *rows[at:]]))])
    own = [one for one in samples if one.item == at]
    assert [one[:3] for one in samples if one.item != at] == [one[:3] for one in expected]
    assert [letter.item for letter in rejected] == ([] if own else [at])
