"""Laws of files as input: nothing is lost in the reading, and no cutting changes it."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.adapters.files import FileSource
from stream_detector.formats.tables import Table, read_tables
from stream_detector.formats.tables.layout import Wanted
from stream_detector.formats.tables.lines import LineSplitter
from stream_detector.formats.tables.stream import PipedSamples

if TYPE_CHECKING:
    from stream_detector.records import Record

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.integers(100_000_000_000, 99_999_999_999_999)  # sizes that mean milliseconds
ROWS = st.lists(
    st.tuples(st.sampled_from(["p", 'q, "r"', "s;t"]), TIMES, FINITE, st.none() | FINITE),
    min_size=1,
    max_size=40,
)


def written(rows: list[tuple[str, int, float, float | None]], delimiter: str) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(["series", "timestamp", "a", "b"])
    for series, timestamp, a, b in rows:
        writer.writerow([series, timestamp, repr(a), "" if b is None else repr(b)])
    return out.getvalue()


def bits(values: object) -> list[int]:
    return np.asarray(values, np.float64).view(np.int64).ravel().tolist()


def read(text: str, chunk_rows: int, name: str = "x.csv") -> list[Table]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_text(text, newline="")
        return list(read_tables(file, features=["a", "b"], chunk_rows=chunk_rows))


def replayed(text: str, at_once: int, name: str = "x.csv") -> list[Record]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_text(text, newline="")
        source = FileSource(file, features=["a", "b"])
        records: list[Record] = []
        finished = False
        while not finished:
            polled = source.poll(0, at_once)
            records += polled.records
            finished = polled.finished
        return records


@settings(deadline=None, max_examples=60)
@given(ROWS, st.sampled_from(",;\t|"), st.integers(1, 50))
def test_tables_and_records_hold_the_very_bits_that_were_written(
    rows: list[tuple[str, int, float, float | None]], delimiter: str, at_once: int
) -> None:
    text = written(rows, delimiter)
    (table,) = read(text, 1000)
    wanted = [[a, math.nan if b is None else b] for _, _, a, b in rows]
    assert bits(table.values) == bits(wanted)
    assert table.series == [series for series, *_ in rows]
    assert table.timestamp.tolist() == [timestamp for _, timestamp, *_ in rows]
    samples = [json.loads(record.value or b"") for record in replayed(text, at_once)]
    assert [(s["series"], s["timestamp"]) for s in samples] == [row[:2] for row in rows]
    cells = [[math.nan if cell is None else cell for cell in s["values"].values()] for s in samples]
    assert bits(cells) == bits(wanted)


@settings(deadline=None, max_examples=60)
@given(ROWS, st.integers(1, 50), st.sampled_from(["x.csv", "x.ndjson"]))
def test_how_a_file_is_cut_into_chunks_changes_no_sample(
    rows: list[tuple[str, int, float, float | None]], chunk_rows: int, name: str
) -> None:
    text = written(rows, ",")
    if name == "x.ndjson":
        keys = ("series", "timestamp", "a", "b")
        text = "".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows)
    (whole,) = read(text, 1000, name)
    parts = read(text, chunk_rows, name)
    assert {len(part) for part in parts[:-1]} <= {chunk_rows}
    assert [part.first_row for part in parts] == list(range(0, len(rows), chunk_rows))
    assert [s for part in parts for s in part.series] == whole.series
    assert np.concatenate([p.timestamp for p in parts]).tolist() == whole.timestamp.tolist()
    assert bits(np.concatenate([part.values for part in parts])) == bits(whole.values)
    assert replayed(text, chunk_rows, name) == replayed(text, 1000, name)


@given(st.lists(st.binary(max_size=8), max_size=8), st.binary(max_size=60), st.data())
def test_lines_do_not_depend_on_where_the_pieces_end(
    lines: list[bytes], extra: bytes, data: st.DataObject
) -> None:
    text = b"\n".join([*lines, extra])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    splitter = LineSplitter()
    found = []
    for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True):
        found += splitter.push(text[start:stop])
    found += splitter.finish()
    expected = text.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert found == [line.removesuffix(b"\r") for line in expected]


@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=20))
def test_no_line_of_a_json_pipe_is_lost_or_raises(lines: list[bytes]) -> None:
    samples = PipedSamples("stdin", Wanted())
    assert samples.encode(b'{"temp":1}') is not None
    for line in lines:
        encoded = samples.encode(line)
        assert (encoded is None) == (not line.strip())


@given(st.lists(st.text(max_size=30), max_size=20))
def test_no_line_of_a_csv_pipe_is_lost_or_raises(lines: list[str]) -> None:
    samples = PipedSamples("stdin", Wanted())
    assert samples.encode(b"time,temp") is None
    assert samples.encode(b"1,2") is not None
    for line in lines:
        encoded = samples.encode(line.replace("\n", " ").encode("utf-8", "surrogatepass"))
        assert (encoded is None) == (not line.replace("\n", " ").encode("utf-8", "replace").strip())
