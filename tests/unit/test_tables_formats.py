"""NDJSON, Parquet, numpy files and folders."""

from __future__ import annotations

import builtins
import json
import math
import sys
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_detector.formats.tables import Table, TableError, read_tables

if TYPE_CHECKING:
    from pathlib import Path


def whole(path: Path, **options: Any) -> Table:
    (table,) = read_tables(path, **options)
    return table


def ndjson(folder: Path, *rows: object) -> Path:
    file = folder / "web.ndjson"
    file.write_text("\n\n".join(map(json.dumps, rows)) + "\n")
    return file


def test_flat_rows_become_columns(tmp_path: Path) -> None:
    file = ndjson(
        tmp_path,
        {"timestamp": 1396310400, "temp": 1.5, "host": "a", "up": True, "label": 0},
        {"timestamp": 1396310460, "temp": None, "vib": 2},
    )
    table = whole(file)
    assert table.features == ("temp", "vib")
    assert table.timestamp.tolist() == [1396310400000, 1396310460000]
    np.testing.assert_array_equal(table.values, [[1.5, math.nan], [math.nan, 2]])
    assert table.series == ["web", "web"]


def test_samples_in_the_contracts_form_keep_series_and_milliseconds(tmp_path: Path) -> None:
    file = ndjson(
        tmp_path,
        {"series": "p", "timestamp": 5000, "values": {"temp": 1, "vib": 2}},
        [{"series": "q", "timestamp": "1970-01-01T00:00:06Z", "values": {"vib": 3}}],
    )
    table = whole(file)
    assert table.features == ("temp", "vib")
    assert (table.series, table.timestamp.tolist()) == (["p", "q"], [5000, 6000])
    np.testing.assert_array_equal(table.values, [[1, 2], [math.nan, 3]])


def test_a_single_value_and_arrays_of_values_have_names(tmp_path: Path) -> None:
    assert whole(ndjson(tmp_path, {"value": 3})).features == ("value",)
    arrays = ndjson(tmp_path, {"values": [1, 2]}, {"values": [3, 4]})
    assert whole(arrays).features == ("f0", "f1")
    named = whole(arrays, features=["temp", "vib"])
    assert named.features == ("temp", "vib")
    assert named.values.tolist() == [[1, 2], [3, 4]]
    assert named.timestamp.tolist() == [0, 1000]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"timestamp": 3, "temp": "broken"}', "data row 3, column 'temp': 'broken' is not"),
        ('{"timestamp": "soon", "temp": 1}', "data row 3, column 'timestamp': 'soon' is not"),
        ('{"temp": 1}', "data row 3: no time"),
        ('{"timestamp": 3, "te', "data row 3: not JSON"),
        ("7", "data row 3: not a JSON object"),
        ('{"timestamp": 3, "series": 7, "temp": 1}', "column 'series': not a series"),
    ],
)
def test_a_bad_line_is_an_error_that_names_its_place(tmp_path: Path, line: str, words: str) -> None:
    file = ndjson(tmp_path, {"timestamp": 1, "temp": 1}, {"timestamp": 2, "temp": 2})
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(TableError, match=words):
        list(read_tables(file))


def parquet(file: Path, **columns: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)
    return file


def test_parquet_columns_are_read_by_type(tmp_path: Path) -> None:
    moments = [datetime(2014, 4, 1, tzinfo=UTC), datetime(2014, 4, 2, tzinfo=UTC)]
    file = parquet(
        tmp_path / "a.parquet",
        series=pa.array(["p", "q"]).dictionary_encode(),
        timestamp=pa.array(moments, pa.timestamp("ms", "UTC")),
        temp=[1.5, None],
        count=pa.array([1, 2], pa.int32()),
        level=[0.1, 0.2],
        anomalous=[True, False],
        model_version=["v1", "v1"],
    )
    table = whole(file)
    assert table.features == ("temp", "count")
    assert table.series == ["p", "q"]
    assert table.timestamp.tolist() == [1396310400000, 1396396800000]
    np.testing.assert_array_equal(table.values, [[1.5, 1], [math.nan, 2]])
    asked = whole(file, features=["level", "anomalous"])
    assert asked.values.tolist() == [[0.1, 1], [0.2, 0]]


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([date(2014, 4, 1)]),
        pa.array([1396310400000]),
        pa.array([1396310400.0]),
        pa.array([1396310400], pa.int32()),
        pa.array([1396310400000000999]),
        pa.array(["2014-04-01T00:00:00Z"]),
        pa.array([datetime(2014, 4, 1)], pa.timestamp("ns")),  # noqa: DTZ001  naive on purpose
    ],
)
def test_parquet_times_of_every_type_are_read(tmp_path: Path, cells: Any) -> None:
    file = parquet(tmp_path / "a.parquet", time=cells, x=[1.0])
    assert whole(file).timestamp.tolist() == [1396310400000]


def test_a_large_parquet_file_is_read_group_by_group(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=1_600_000)  # 12.8 MB
    # So many different values in a group that they outgrow its dictionary.
    pq.write_table(pa.table({"x": values}), tmp_path / "a.parquet", row_group_size=200_000)
    before = pa.total_allocated_bytes()
    most, start = 0, 0
    for table in read_tables(tmp_path / "a.parquet", chunk_rows=4096):
        np.testing.assert_array_equal(table.values[:, 0], values[start : start + len(table)])
        most, start = max(most, pa.total_allocated_bytes() - before), start + len(table)
    assert start == len(values)
    assert most < 6_000_000


def test_parquet_errors_name_the_place(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", time=pa.array([1, None]), x=[1.0, 2.0])
    with pytest.raises(TableError, match="data row 2, column 'time': no time"):
        list(read_tables(file))
    file = parquet(tmp_path / "t.parquet", time=[1396310400, 2**62], x=[1.0, 2.0])
    with pytest.raises(TableError, match="data row 2, column 'time': 4611686018427387904 is not"):
        list(read_tables(file))
    file = parquet(tmp_path / "b.parquet", x=[1.0, math.inf])
    with pytest.raises(TableError, match="data row 2, column 'x': infinity"):
        list(read_tables(file))
    file = parquet(tmp_path / "c.parquet", x=[1.0], name=["a"])
    with pytest.raises(TableError, match="column 'name': not numbers"):
        list(read_tables(file, features=["name"]))
    (tmp_path / "d.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(TableError, match="not readable as Parquet"):
        list(read_tables(tmp_path / "d.parquet"))


def test_without_pyarrow_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = parquet(tmp_path / "a.parquet", x=[1.0])
    original = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return original(name, *arguments, **options)

    for name in [name for name in sys.modules if name.startswith("pyarrow")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(TableError, match=r'pip install "stream-detector\[store\]"'):
        list(read_tables(file))


def test_npy_holds_one_feature_or_several(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3, dtype=np.int16))
    table = whole(tmp_path / "a.npy")
    assert (table.features, table.values[:, 0].tolist()) == (("value",), [0, 1, 2])
    np.save(tmp_path / "a.npy", np.arange(6.0).reshape(3, 2))
    table = whole(tmp_path / "a.npy", features=["f1"])
    assert (table.features, table.values[:, 0].tolist()) == (("f1",), [1, 3, 5])
    assert table.timestamp.tolist() == [0, 1000, 2000]


def test_npz_may_hold_times_series_and_names(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz",
        values=np.ones((2, 1)),
        timestamp=np.array([1396310400, 1396310460]),
        series=np.array(["p", "q"]),
        features=np.array(["temp"]),
    )
    table = whole(tmp_path / "a.npz")
    assert (table.features, table.series) == (("temp",), ["p", "q"])
    assert table.timestamp.tolist() == [1396310400000, 1396310460000]


def test_of_several_arrays_the_one_named_is_read_with_what_goes_with_it(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz",
        train=np.array([[1.0, 2.0], [3.0, 4.0]]),
        train_timestamp=np.array([1396310400.0, 1396310460.0]),
        test=np.array([[5.0, 6.0]]),
        test_timestamp=np.array([1396310520.0]),
        test_label=np.array([1], np.int8),
        features=np.array(["temp", "vib"]),
    )
    table = whole(tmp_path / "a.npz", array="train")
    assert (table.features, table.values.tolist()) == (("temp", "vib"), [[1, 2], [3, 4]])
    assert table.timestamp.tolist() == [1396310400000, 1396310460000]
    table = whole(tmp_path / "a.npz", array="test", label="label", features=["vib"])
    assert (table.features, table.values.tolist()) == (("vib", "label"), [[6, 1]])
    with pytest.raises(TableError, match="no column 'label'; it has 'temp', 'vib'"):
        list(read_tables(tmp_path / "a.npz", array="train", label="label"))


def test_the_only_array_needs_no_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.arange(3))
    assert whole(tmp_path / "a.npz").values[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("rows", [3, 10_000])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_by_rows_however_they_lie(
    tmp_path: Path, rows: int, order: Literal["C", "F"]
) -> None:
    values = np.random.default_rng(0).normal(size=(rows, 3)).astype(">f4", order=order)
    np.save(tmp_path / "a.npy", values)
    np.savez_compressed(tmp_path / "b.npz", values)
    for name in ("a.npy", "b.npz"):
        tables = read_tables(tmp_path / name, chunk_rows=100)
        found = np.concatenate([table.values for table in tables])
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("name", ["a.csv", "b.ndjson", "c.ndjson", "d.parquet", "e.npz"])
def test_a_label_is_read_beside_the_features_as_the_last_column(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    rows = [(1.5, False), (2.5, True)]
    if name == "a.csv":
        file.write_text("fault,temp\n" + "".join(f"{flag},{temp}\n" for temp, flag in rows))
    elif name == "b.ndjson":
        ndjson(tmp_path, *({"temp": temp, "fault": flag} for temp, flag in rows)).rename(file)
    elif name == "c.ndjson":
        samples = [{"values": {"temp": temp}, "fault": int(flag)} for temp, flag in rows]
        ndjson(tmp_path, *samples).rename(file)
    elif name == "d.parquet":
        parquet(file, temp=[temp for temp, _ in rows], fault=[flag for _, flag in rows])
    else:
        temps, flags = np.array(rows).T
        np.savez(file, values=temps, features=np.array(["temp"]), fault=flags > 0)
    table = whole(file, label="fault")
    assert table.features == ("temp", "fault")
    assert table.values.tolist() == [[1.5, 0], [2.5, 1]]
    alone = whole(file, label="fault", features=[])
    assert (alone.features, alone.values.tolist()) == (("fault",), [[0], [1]])


def test_unusable_arrays_are_errors(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train=np.ones(2), test=np.ones(2))
    with pytest.raises(TableError, match="arrays train, test, none is called values; say which"):
        list(read_tables(tmp_path / "a.npz"))
    with pytest.raises(TableError, match="arrays train, test, none is called tset; say which"):
        list(read_tables(tmp_path / "a.npz", array="tset"))
    np.save(tmp_path / "b.npy", np.array(["x"]))
    with pytest.raises(TableError, match="needs numbers"):
        list(read_tables(tmp_path / "b.npy"))
    np.save(tmp_path / "c.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(TableError, match="not a numpy array of numbers"):
        list(read_tables(tmp_path / "c.npy"))


def test_a_folder_is_all_its_data_files_in_order(tmp_path: Path) -> None:
    parquet(tmp_path / "date=2024-01-02" / "part-1.parquet", series=["p"], temp=[2.0])
    parquet(tmp_path / "date=2024-01-01" / "part-9.parquet", series=["p"], temp=[1.0])
    (tmp_path / "kpi.csv").write_text("time,x\n1,3\n")
    (tmp_path / "numbers.txt").write_text("4\n")
    (tmp_path / "LICENSE.txt").write_text("You may do as you like, 7 times.\n")
    (tmp_path / "notes.md").write_text("5\n")
    (tmp_path / ".hidden.csv").write_text("6\n")
    (tmp_path / "_temporary").mkdir()
    (tmp_path / "_temporary" / "x.csv").write_text("7\n")
    tables = list(read_tables(tmp_path))
    assert [table.values[0, 0] for table in tables] == [1, 2, 3, 4]
    assert [table.series[0] for table in tables] == ["p", "p", "kpi", "numbers"]


def test_a_path_without_data_is_an_error_that_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("5\n")
    with pytest.raises(TableError, match=r"looked for \.csv, \.jsonl, \.ndjson, \.npy"):
        list(read_tables(tmp_path))
    with pytest.raises(TableError, match="no such file"):
        list(read_tables(tmp_path / "absent.csv"))
    with pytest.raises(TableError, match="unknown kind of file"):
        list(read_tables(tmp_path / "notes.md"))
