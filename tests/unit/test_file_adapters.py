"""FileSource and FileSink: rows as records, lines as events."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stream_detector.adapters.files import FileSink, FileSource, PipeClosedError
from stream_detector.config import Fields
from stream_detector.formats.json import JsonDecoder
from stream_detector.ports import Polled, Position, SinkError, SourceError
from stream_detector.records import UNKNOWN_TIME, Message, Partition, Reason, Record

if TYPE_CHECKING:
    from collections.abc import Iterator


def drain(source: FileSource, at_once: int = 1000) -> list[Record]:
    records: list[Record] = []
    while True:
        polled = source.poll(1.0, at_once)
        assert len(polled.records) <= at_once
        records += polled.records
        if polled.finished:
            source.close()
            return records


def rows(path: Path, text: str, name: str = "pump.csv", **options: Any) -> list[Any]:
    file = path / name
    file.write_bytes(text.encode())
    return [json.loads(record.value or b"") for record in drain(FileSource(file, **options))]


def decode(records: list[Record]) -> tuple[list[Any], list[Any]]:
    decoder = JsonDecoder(
        Fields(), max_record_bytes=100_000, max_samples=100, max_series_length=100
    )
    return decoder.decode(records)


def test_a_row_becomes_a_record_in_the_default_form(tmp_path: Path) -> None:
    (tmp_path / "pump.csv").write_text("timestamp;temp;vib\n2014-04-01;1.5;\n2014-04-02;;2\n")
    record, _ = drain(FileSource(tmp_path / "pump.csv"))
    assert record == Record(
        topic="pump.csv",
        partition=0,
        offset=0,
        timestamp=UNKNOWN_TIME,
        key=b"pump",
        value=b'{"series":"pump","timestamp":1396310400000,"values":{"temp":1.5,"vib":null}}',
    )
    samples, rejected = decode([record])
    assert (samples[0].series, samples[0].timestamp, rejected) == ("pump", 1396310400000, [])
    assert samples[0].values == {"temp": 1.5, "vib": None}


def test_a_bad_row_is_dead_lettered_and_its_neighbours_are_not(tmp_path: Path) -> None:
    file = tmp_path / "pump.csv"
    good = "".join(f"p,{row},1\n" for row in range(3))
    file.write_bytes(
        b"series,timestamp,x\n" + good.encode() + b"p,3,broken\np,soon,1\np,5\n,6,1\np,7,inf\n"
        b"p,8,\xff\n" + b"p,9,1\n"
    )
    records = drain(FileSource(file))
    samples, rejected = decode(records)
    assert [sample.timestamp for sample in samples] == [0, 1000, 2000, 9000]
    assert [(letter.record.offset, letter.reason) for letter in rejected] == [
        (3, Reason.WRONG_TYPE),
        (4, Reason.BAD_TIMESTAMP),
        (5, Reason.MALFORMED),
        (6, Reason.BAD_SERIES),
        (7, Reason.NON_FINITE),
        (8, Reason.WRONG_TYPE),
    ]
    assert rejected[2].record.value == b"p,5"


def test_flat_json_rows_are_brought_into_the_default_form(tmp_path: Path) -> None:
    text = (
        '{"time": "2014-04-01", "host": "a", "temp": 1, "label": 1}\n'
        '{"time": "2014-04-02", "host": "b", "temp": "hot"}\n'
    )
    first, second = rows(tmp_path, text, "pump.jsonl")
    assert first == {"series": "pump", "timestamp": 1396310400000, "values": {"temp": 1}}
    assert second["values"] == {"temp": "hot"}


def test_lines_in_the_contracts_form_and_bad_lines_stay_as_they_are(tmp_path: Path) -> None:
    lines = [
        b'{ "series":"p",  "timestamp": 1764201600000, "value": 1.10 }',
        b'{"series":"p","timestamp":1764201600000,"values":{"a":"x"}}',
        b'[{"series":"p","timestamp":1,"value":1}]',
        b"{broken",
        b"\xff\xfe",
        b"17",
        b"{}",
    ]
    file = tmp_path / "p.ndjson"
    file.write_bytes(b"\xef\xbb\xbf" + b"\r\n\n".join(lines))
    assert [record.value for record in drain(FileSource(file))] == lines


def test_a_line_in_the_contracts_form_is_given_what_it_lacks(tmp_path: Path) -> None:
    text = '{"value": 0.1}\n{"ds": 1396310400, "value": 2}\n[{"timestamp": 3, "value": 3}]\n'
    first, second, third = rows(tmp_path, text, "kpi.ndjson")
    assert first == {"series": "kpi", "timestamp": 0, "value": 0.1}
    assert second == {"series": "kpi", "timestamp": 1396310400000, "value": 2, "ds": 1396310400}
    assert third == [{"series": "kpi", "timestamp": 3, "value": 3}]


def test_unchanged_hands_every_json_line_on(tmp_path: Path) -> None:
    assert rows(tmp_path, '{"ts": 1, "temp": 2}\n', "a.ndjson", unchanged=True) == [
        {"ts": 1, "temp": 2}
    ]


def test_named_columns_and_features_are_used(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "series_column": "who",
        "timestamp_column": "at",
        "features": ["x", "label"],
    }
    expected = {"series": "p", "timestamp": 10_000, "values": {"x": 1.0, "label": 0.0}}
    assert rows(tmp_path, "at,who,x,y,label\n10,p,1,2,0\n", **options) == [expected]
    flat = '{"at": 10, "who": "p", "x": 1.0, "y": 2, "label": 0.0}\n'
    assert rows(tmp_path, flat, "a.jsonl", **options) == [expected]


def test_a_folder_has_a_partition_for_each_file_reported_before_its_records(
    tmp_path: Path,
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "a.csv").write_text("x\n1\n2\n3\n")
    np.save(tmp_path / "b.npy", np.array([1.0, np.nan, np.inf]))
    source = FileSource(tmp_path)
    known: set[Partition] = set()
    records: list[Record] = []
    polled = Polled()
    while not polled.finished:
        polled = source.poll(0, 2)
        assert known.isdisjoint(polled.assigned)
        known |= polled.assigned
        assert {Partition(r.topic, r.partition) for r in polled.records} <= known
        records += polled.records
    assert known == {Partition("b.npy", 0), Partition("site/a.csv", 0)}
    assert [(record.topic, record.offset) for record in records] == [
        *[("b.npy", row) for row in range(3)],
        *[("site/a.csv", row) for row in range(3)],
    ]
    samples, rejected = decode(records[:3])
    assert [sample.values for sample in samples] == [{"value": 1.0}, {"value": None}]
    assert rejected[0].reason == Reason.NON_FINITE
    assert source.lag() == {}
    source.acknowledge({Partition("b.npy", 0): Position(3)})
    assert source.acknowledged == {Partition("b.npy", 0): Position(3)}
    assert source.poll(0, 2) == Polled(finished=True)


def test_what_cannot_be_read_is_a_source_error_after_the_rows_before_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        FileSource(tmp_path / "absent.csv")
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "b.csv").write_text("host\nweb\n")
    source = FileSource(tmp_path)
    assert len(source.poll(0, 10).records) == 1
    with pytest.raises(SourceError, match=r"b\.csv: no column of numbers"):
        source.poll(0, 10)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def test_a_line_of_a_pipe_is_there_as_soon_as_it_was_written(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    source = FileSource("-", stdin=reader)
    assert source.poll(0, 10) == Polled()
    os.write(writer, b'{"series":"p","timestamp":1,"value":1}\n{"series":"p","tim')
    polled = source.poll(5, 10)
    assert [record.value for record in polled.records] == [
        b'{"series":"p","timestamp":1,"value":1}'
    ]
    assert polled.assigned == {Partition("stdin", 0)}
    assert source.poll(0, 10) == Polled()
    os.write(writer, b'estamp":2,"value":2}')
    os.close(writer)
    polled = source.poll(5, 10)
    assert [(record.offset, record.value) for record in polled.records] == [
        (1, b'{"series":"p","timestamp":2,"value":2}')
    ]
    assert polled.finished
    assert source.poll(0, 10) == Polled(finished=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"time;flow (l,s);host\n10;1;a\n20;;b\n", [{"flow (l,s)": 1}, {"flow (l,s)": None}]),
        (b"1\n2\n", [{"value": 1}, {"value": 2}]),
        (b'{"temp": 1, "host": "a"}\n\n{"temp": 2}\n', [{"temp": 1}, {"temp": 2}]),
    ],
)
def test_a_pipe_may_hold_csv_or_flat_json(
    pipe: tuple[int, int], text: bytes, expected: list[Any]
) -> None:
    reader, writer = pipe
    source = FileSource("-", stdin=reader)
    values = []
    for line in text.splitlines(keepends=True):
        os.write(writer, line)
        values += [json.loads(record.value or b"") for record in source.poll(0.01, 10).records]
    os.close(writer)
    assert [value["values"] for value in values] == expected
    assert {value["series"] for value in values} == {"stdin"}
    assert source.poll(1, 1).finished


def test_a_pipe_hands_out_no_more_than_asked_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"x\n1\n2\n3\n")
    os.close(writer)
    source = FileSource("-", stdin=reader)
    assert [len(source.poll(1, 2).records) for _ in range(3)] == [2, 1, 0]


def test_a_pipe_without_numbers_is_a_source_error(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"hello\nworld\n")
    os.close(writer)
    with pytest.raises(SourceError, match="no column of numbers"):
        FileSource("-", stdin=reader).poll(1, 2)


def event(data: bytes = b'{"level":6.25,"series":"p"}') -> Message:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": "abc",
        "ce_source": "plant",
        "ce_type": "stream-detector.anomaly.opened",
        "ce_time": "2014-04-01T00:00:00.000Z",
        "ce_subject": "p",
        "content-type": "application/json",
    }
    return Message("events", b"p", data, tuple((k, v.encode()) for k, v in headers.items()))


def letter(key: bytes | None, value: bytes | None) -> Message:
    headers = {
        "dlq_reason": "malformed",
        "dlq_detail": "not JSON: ü",
        "dlq_topic": "a.csv",
        "dlq_partition": "0",
        "dlq_offset": "17",
        "dlq_timestamp": "-1",
    }
    return Message("dead", key, value, tuple((k, v.encode()) for k, v in headers.items()))


def test_events_are_cloud_events_one_a_line(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "events.ndjson")
    sink.send(event())
    sink.flush()
    assert not (tmp_path / "events.ndjson").exists()
    sink.close()
    sink.close()
    assert json.loads((tmp_path / "events.ndjson").read_text()) == {
        "specversion": "1.0",
        "id": "abc",
        "source": "plant",
        "type": "stream-detector.anomaly.opened",
        "time": "2014-04-01T00:00:00.000Z",
        "subject": "p",
        "datacontenttype": "application/json",
        "data": {"level": 6.25, "series": "p"},
    }
    assert [file.name for file in tmp_path.iterdir()] == ["events.ndjson"]


def test_dead_letters_are_lines_that_keep_every_byte(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "events.ndjson", tmp_path / "dead.ndjson")
    sink.send(letter(b"p", '{"ü'.encode()))
    sink.send(letter(None, b"\xff\n"))
    sink.close()
    assert (tmp_path / "events.ndjson").read_bytes() == b""
    text, binary = map(json.loads, (tmp_path / "dead.ndjson").read_text().splitlines())
    assert text == {
        "reason": "malformed",
        "detail": "not JSON: ü",
        "index": None,
        "topic": "a.csv",
        "partition": 0,
        "offset": 17,
        "timestamp": -1,
        "key": "p",
        "value": '{"ü',
    }
    assert (binary["key"], binary["value_base64"]) == (None, "/wo=")


def test_without_a_file_dead_letters_are_counted(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "events.ndjson")
    sink.send(letter(None, b"x"))
    sink.send(event())
    assert (sink.events, sink.dead_letters) == (1, 1)
    sink.close()
    assert len((tmp_path / "events.ndjson").read_text().splitlines()) == 1


def test_stdout_has_the_lines_at_every_flush() -> None:
    raw = io.BytesIO()
    stream = io.BufferedWriter(raw)
    sink = FileSink("-", stdout=stream)
    sink.send(event())
    assert raw.getvalue() == b""
    sink.flush()
    assert raw.getvalue().count(b"\n") == 1
    sink.close()
    assert not stream.closed


def test_a_file_that_cannot_be_written_is_a_sink_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="a folder that exists"):
        FileSink(tmp_path / "absent" / "events.ndjson")
    with pytest.raises(SinkError, match="two files"):
        FileSink(tmp_path / "x", tmp_path / "x")


def test_a_device_is_written_and_not_replaced() -> None:
    path = Path(os.devnull)
    before = path.stat()
    sink = FileSink(path)
    sink.send(event())
    sink.close()
    assert path.stat().st_ino == before.st_ino


def test_a_reader_of_stdout_that_leaves_ends_it_without_a_complaint() -> None:
    script = """
from stream_detector.adapters.files import FileSink, PipeClosedError
from stream_detector.records import Message
sink = FileSink("-")
try:
    while True:
        sink.send(Message("events", None, b"{}"))
        sink.flush()
except PipeClosedError:
    sink.close()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    complaint = process.stderr.read()
    process.stderr.close()
    assert (process.wait(30), complaint) == (0, b"")
    assert issubclass(PipeClosedError, SinkError)
