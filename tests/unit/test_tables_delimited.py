"""CSV and its relatives: delimiter, header, roles of columns, times, bad cells, memory."""

from __future__ import annotations

import math
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stream_detector.formats.tables import Table, TableError, read_tables

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path, text: str, name: str = "pump.csv", **options: Any) -> Table:
    file = path / name
    file.write_bytes(text.encode())
    (table,) = read_tables(file, **options)
    return table


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    lines = ["timestamp,flow rate,temp", "2014-04-01 00:00:00,1.5,2", "2014-04-01 00:05:00,,4"]
    table = read(tmp_path, "\n".join(lines).replace(",", delimiter))
    assert table.features == ("flow rate", "temp")
    assert table.timestamp.tolist() == [1396310400000, 1396310700000]
    np.testing.assert_array_equal(table.values, [[1.5, 2], [math.nan, 4]])
    assert table.series == ["pump", "pump"]
    assert (table.source.name, table.first_row) == ("pump.csv", 0)


def test_quoted_cells_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    text = '\ufeff"Date","a; b, c"\r\n"1959-01-01","35"\r\n"1959-01-02",32\r\n'
    table = read(tmp_path, text)
    assert table.features == ("a; b, c",)
    assert table.timestamp.tolist() == [-347155200000, -347068800000]
    assert table.values[:, 0].tolist() == [35.0, 32.0]


def test_one_number_a_line_is_the_feature_value_by_index(tmp_path: Path) -> None:
    table = read(tmp_path, "56.98395\n  5.701e+01\n56.90765\n", name="001_UCR.txt")
    assert table.features == ("value",)
    assert table.values[:, 0].tolist() == [56.98395, 57.01, 56.90765]
    assert table.timestamp.tolist() == [0, 1000, 2000]
    assert table.series[0] == "001_UCR"


def test_columns_set_apart_by_spaces_alone_are_read(tmp_path: Path) -> None:
    table = read(tmp_path, "  1.0   2.5\n 10.0 -2.5 \n")  # as numpy.savetxt writes them
    assert table.features == ("f0", "f1")
    assert table.values.tolist() == [[1, 2.5], [10, -2.5]]
    table = read(tmp_path, "date temp\n2014-04-01  1\n2014-04-02  2\n")
    assert (table.features, table.timestamp.tolist()) == (("temp",), [1396310400000, 1396396800000])


def test_numbers_without_a_header_are_numbered_features(tmp_path: Path) -> None:
    table = read(tmp_path, "1,2,\n4,5,6\n")
    assert table.features == ("f0", "f1", "f2")
    table = read(tmp_path, "2014-04-01,1,2\n2014-04-02,4,5\n")
    assert table.features == ("f0", "f1")
    assert table.timestamp.tolist() == [1396310400000, 1396396800000]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2014-04-01T00:00:00Z", 1396310400000),
        ("2014-04-01T02:00:00+02:00", 1396310400000),
        ("2014-04-01 02:00:00 +02:00", 1396310400000),
        ("2014-04-01 00:00:00.123456", 1396310400123),
        ("2014-04-01 00:00:00 UTC", 1396310400000),
        ("2014/04/01 00:00", 1396310400000),
        ("2014-04-01", 1396310400000),
        ("1396310400", 1396310400000),
        ("1396310400.25", 1396310400250),
        ("1396310400000", 1396310400000),
        ("1396310400000000", 1396310400000),
        ("1396310400000999999", 1396310400000),
    ],
)
def test_a_time_is_read_in_every_usual_spelling(tmp_path: Path, cell: str, expected: int) -> None:
    assert read(tmp_path, f"DateTime,value\n{cell},1\n").timestamp.tolist() == [expected]


def test_the_first_number_tells_the_unit_of_the_whole_column(tmp_path: Path) -> None:
    table = read(tmp_path, "ds,y\n99999999999,1\n100000000001,1\n")
    assert table.timestamp.tolist() == [99999999999000, 100000000001000]


def test_labels_text_and_empty_columns_are_no_features_unless_named(tmp_path: Path) -> None:
    text = "time,host,temp,Anomaly,changepoint,note\n1,a7,5,0.0,0.0,\n2,b2,6,1.0,0.0,\n"
    assert read(tmp_path, text).features == ("temp",)
    table = read(tmp_path, text, features=["Anomaly", "temp"])
    assert table.features == ("Anomaly", "temp")
    assert table.values.tolist() == [[0, 5], [1, 6]]


def test_named_columns_are_taken_for_series_and_time(tmp_path: Path) -> None:
    text = "at,who,x\n10,p,1\n20,q,2\n"
    table = read(tmp_path, text, series_column="who", timestamp_column="at")
    assert (table.series, table.timestamp.tolist()) == (["p", "q"], [10_000, 20_000])
    assert table.features == ("x",)


def test_without_a_time_each_series_counts_its_own_samples(tmp_path: Path) -> None:
    table = read(tmp_path, "series,x\np,1\nq,2\np,3\np,4\nq,5\n")
    assert table.timestamp.tolist() == [0, 0, 1000, 2000, 1000]


@pytest.mark.parametrize("cell", ["", "NA", "n/a", "NaN", "null", "None", " "])
def test_a_missing_cell_is_nan(tmp_path: Path, cell: str) -> None:
    table = read(tmp_path, f"time,a,b\n1,1,1\n2,{cell},1\n3,1,1\n")
    np.testing.assert_array_equal(table.values[:, 0], [1, math.nan, 1])


@pytest.mark.parametrize(
    ("text", "row", "column", "words"),
    [
        ("time,a\n1,1\n2,1\n3,broken\n", 2, "a", "'broken' is not a number; correct it"),
        ("time,a\n1,1\n2,1\n3,inf\n", 2, "a", "not a finite number"),
        ("time,a\n1,1\n2,1\n3,1_0\n", 2, "a", "'1_0' is not a number"),
        ("time,a\nyesterday,1\n", 0, "time", "'yesterday' is not a time; write RFC 3339"),
        ("time,a\n2024-13-01,1\n", 0, "time", "is not a time"),
        ("time,a\n,1\n", 0, "time", "is not a time"),
        ("time,a\n1,1\n2\n", 1, None, "1 cells where there are 2 columns"),
        ("series,a\n,1\n", 0, "series", "no series"),
        ("time,host\n1,a\n", None, None, "no column of numbers among 'time', 'host'"),
        ("time;a\n1;1,5\n", None, None, "numbers need a decimal point"),
        ("time,a,a\n1,1,1\n", None, None, "two columns are called 'a'"),
        ("time,a\n", None, None, "no rows"),
        ("", None, None, "no rows"),
    ],
)
def test_an_unusable_file_is_an_error_that_names_the_place_and_the_remedy(
    tmp_path: Path, text: str, row: int | None, column: str | None, words: str
) -> None:
    with pytest.raises(TableError) as caught:
        read(tmp_path, text)
    assert (caught.value.row, caught.value.column) == (row, column)
    assert words in str(caught.value)
    assert "pump.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
    if row is not None:
        assert f"data row {row + 1}" in str(caught.value)


def test_a_column_that_is_asked_for_and_not_there_is_an_error_that_lists_the_others(
    tmp_path: Path,
) -> None:
    with pytest.raises(TableError, match="no column 'vib'; it has 'time', 'a'"):
        read(tmp_path, "time,a\n1,1\n", features=["vib"])


def test_bytes_that_are_not_utf8_are_an_error(tmp_path: Path) -> None:
    file = tmp_path / "latin.csv"
    file.write_bytes("time,a°\n1,1\n".encode("latin-1"))
    with pytest.raises(TableError, match="save it as UTF-8"):
        list(read_tables(file))


def test_a_large_file_is_read_in_bounded_memory(tmp_path: Path) -> None:
    file = tmp_path / "large.csv"
    with file.open("w") as out:
        out.write("timestamp,a,b\n")
        for row in range(100_000):
            out.write(f"{1_700_000_000_000 + row},{row / 7},{row / 3}\n")
    assert file.stat().st_size > 4_000_000
    tracemalloc.start()
    try:
        rows = sum(len(table) for table in read_tables(file, chunk_rows=5_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows == 100_000
    assert peak < 4_000_000
