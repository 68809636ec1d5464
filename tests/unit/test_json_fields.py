"""Field paths and templates lead from a JSON record to series, time and features."""

from __future__ import annotations

from typing import Any

import pytest

from stream_detector.config import ConfigError, Fields
from stream_detector.formats.json import JsonDecoder
from stream_detector.records import UNKNOWN_TIME, Reason, Record
from tests.unit.json_cases import NOW, decoder, record, refusal, samples


def test_paths_lead_into_nested_objects() -> None:
    row = {"tags": {"host": "web-1"}, "at": {"time": "2025-11-27"}, "data": {"v": {"cpu": 3}}}
    (found,) = samples(row, series="tags.host", timestamp="at.time", values="data.v")
    assert (found.series, found.timestamp, found.values) == ("web-1", NOW, {"cpu": 3.0})


def test_features_are_gathered_from_their_paths_and_absent_ones_are_none() -> None:
    paths = {"cpu": "usage.cpu", "disk": "disk.used", "mem": "mem"}
    row = {"series": "web", "timestamp": NOW, "usage": {"cpu": 1}, "mem": None, "values": "x"}
    (found,) = samples(row, features=paths)
    assert found.values == {"cpu": 1.0, "disk": None, "mem": None}
    letter = refusal({**row, "usage": {}}, features=paths)
    assert letter.reason is Reason.MISSING_FIELD
    assert "disk.used" in letter.detail
    letter = refusal({**row, "usage": {"cpu": "1"}}, features=paths)
    assert letter.reason is Reason.WRONG_TYPE
    assert "usage.cpu" in letter.detail
    letter = refusal({**row, "usage": 5}, features=paths)
    assert letter.reason is Reason.WRONG_TYPE
    assert letter.detail == "usage must be an object, not 5"


def test_a_template_builds_the_series_from_text_and_whole_numbers() -> None:
    fields = {"template": "{{100%}}:{tags.host}/{id}"}
    row = {"tags": {"host": "web"}, "id": 7, "timestamp": NOW, "value": 1}
    (found,) = samples(row, **fields)
    assert found.series == "{100%}:web/7"
    letter = refusal({**row, "tags": {}}, **fields)
    assert letter.reason is Reason.MISSING_FIELD
    assert "tags.host" in letter.detail
    assert refusal({**row, "id": ""}, **fields).reason is Reason.BAD_SERIES
    assert refusal({**row, "id": True}, **fields).reason is Reason.WRONG_TYPE
    assert refusal({**row, "id": 10**30}, **fields).reason is Reason.BAD_SERIES
    assert refusal({**row, "id": 10**400}, **fields).reason is Reason.WRONG_TYPE


def test_a_template_without_paths_names_one_series_for_all() -> None:
    (found,) = samples({"timestamp": NOW, "value": 1}, template="all")
    assert found.series == "all"


@pytest.mark.parametrize("fields", [{"series": "key"}, {"template": "{key}"}])
def test_the_series_may_be_the_records_key(fields: dict[str, str]) -> None:
    row = {"timestamp": NOW, "value": 1}
    carriers = [
        record(row, key) for key in ("pümp".encode(), None, b"", b"\xff", b"k" * 21, b"last")
    ]
    found, rejected = decoder(**fields).decode(carriers)
    assert [sample.series for sample in found] == ["pümp", "last"]
    assert [letter.reason for letter in rejected] == [
        Reason.MISSING_FIELD,
        Reason.BAD_SERIES,
        Reason.BAD_SERIES,
        Reason.BAD_SERIES,
    ]


def test_a_template_may_join_the_key_with_fields() -> None:
    carrier = record({"name": "temp", "timestamp": NOW, "value": 1}, b"pump-7")
    found, _ = decoder(template="{key}/{name}").decode([carrier])
    assert found[0].series == "pump-7/temp"


def test_without_a_time_path_the_records_own_time_counts() -> None:
    row = {"series": "a", "value": 1, "timestamp": "whatever"}
    carriers = [record(row, timestamp=time) for time in (NOW, UNKNOWN_TIME, 10**15)]
    found, rejected = decoder(timestamp=None).decode(carriers)
    assert [sample.timestamp for sample in found] == [NOW]
    assert [letter.reason for letter in rejected] == [Reason.MISSING_FIELD, Reason.BAD_TIMESTAMP]


def test_one_path_may_lead_through_the_value_of_another() -> None:
    row = {"timestamp": NOW, "reading": {"v": 7, "w": 1.5}}
    (found,) = samples(row, template="{reading.v}", values="reading")
    assert (found.series, found.values) == ("7", {"v": 7.0, "w": 1.5})


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"series": None}, "template"),
        ({"series": "tags..host"}, "fields.series"),
        ({"timestamp": ""}, "fields.timestamp"),
        ({"template": "{host"}, "fields.template"),
        ({"template": "{}"}, "fields.template"),
        ({"template": "{host!r}"}, "host"),
        ({"template": "{host:>9}"}, "host"),
        ({"features": {"cpu": "a."}}, "features.cpu"),
    ],
)
def test_fields_that_cannot_be_used_are_refused_at_the_start(
    fields: dict[str, Any], word: str
) -> None:
    with pytest.raises(ConfigError, match=r"^input\.fields") as error:
        decoder(**fields)
    assert word in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fields", [{"series": "key"}, {"series": None, "template": "{key}/{id}"}])
def test_an_empty_key_gives_no_series_name_alone_or_in_a_template(fields: dict[str, Any]) -> None:
    decoder = JsonDecoder(
        Fields(**fields), max_record_bytes=1000, max_samples=10, max_series_length=50
    )
    empty = Record("t", 0, 0, 0, b"", b'{"id": "a", "timestamp": 1, "value": 2}')
    assert decoder.decode([empty])[1][0].reason is Reason.BAD_SERIES
    named = empty._replace(key=b"k")
    assert decoder.decode([named])[0][0].series in {"k", "k/a"}
