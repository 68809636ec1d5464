"""Gzipped files and zip archives: the same samples, in bounded memory; damage is one clear line."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_detector.adapters.files import FileSource
from stream_detector.formats.tables import Table, TableError, read_tables

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 5000


def content(kind: str) -> bytes:
    """ROWS samples of one feature, one a second, in some format."""
    times, values = 1396310400 + np.arange(ROWS), np.arange(ROWS) / 4
    out = io.BytesIO()
    if kind == "csv":
        rows = zip(times, values, strict=True)
        out.write(b"timestamp,value\n" + b"".join(b"%d,%.2f\n" % row for row in rows))
    elif kind == "ndjson":
        for time, value in zip(times.tolist(), values.tolist(), strict=True):
            out.write(json.dumps({"time": time, "value": value}).encode() + b"\n")
    elif kind == "parquet":
        table = pa.table({"timestamp": times, "value": values})
        pq.write_table(table, out, row_group_size=700)
    elif kind == "npy":
        np.save(out, values)
    else:
        np.savez_compressed(out, values=values, timestamp=times)
    return out.getvalue()


def joined(path: Path, **options: Any) -> tuple[list[str], list[int], list[float]]:
    tables: list[Table] = list(read_tables(path, **options))
    return (
        sorted({name for table in tables for name in table.series}),
        np.concatenate([table.timestamp for table in tables]).tolist(),
        np.concatenate([table.values[:, 0] for table in tables]).tolist(),
    )


@pytest.mark.parametrize("kind", ["csv", "ndjson", "parquet", "npy", "npz"])
def test_a_packed_file_holds_the_same_samples_for_training_and_replay(
    tmp_path: Path, kind: str
) -> None:
    data = content(kind)
    plain = tmp_path / f"pump.{kind}"
    plain.write_bytes(data)
    zipped, gzipped = tmp_path / "month.ZIP", tmp_path / f"pump.{kind}.gz"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"site/pump.{kind}", data)
    gzipped.write_bytes(gzip.compress(data))
    expected = joined(plain)
    assert expected[0] == ["pump"]
    assert len(expected[1]) == ROWS
    records = FileSource(plain).poll(0, 2 * ROWS).records
    for path, topic in ((zipped, f"month.ZIP/site/pump.{kind}"), (gzipped, gzipped.name)):
        assert joined(path) == expected
        found = FileSource(path).poll(0, 2 * ROWS).records
        assert {record.topic for record in found} == {topic}
        assert [(r.key, r.offset, r.value) for r in found] == [
            (r.key, r.offset, r.value) for r in records
        ]


def test_an_archive_is_a_folder_of_its_members(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "fleet.zip", "w") as archive:
        archive.writestr("b.csv", "timestamp,x\n1,2\n")
        archive.writestr("a/a.csv.gz", gzip.compress(b"timestamp,x\n1,1\n"))
        archive.writestr("numbers.txt", "1\t5\n2\t6\n")
        archive.writestr("README.txt", "You may do as you like, 7 times.\n")
        archive.writestr("notes.md", "5\n")
        archive.writestr("__MACOSX/._b.csv", "\0\0")
        archive.mkdir("empty.csv")
    tables = list(read_tables(tmp_path / "fleet.zip"))
    assert [(table.series[0], table.values[0, 0]) for table in tables] == [
        ("a", 1), ("b", 2), ("numbers", 1),
    ]  # fmt: skip
    assert tables[0].source == tmp_path / "fleet.zip" / "a" / "a.csv.gz"
    (tmp_path / "c.csv").write_text("timestamp,x\n1,3\n")
    in_folder = [table.series[0] for table in read_tables(tmp_path)]
    assert in_folder == ["c", "a", "b", "numbers"]


def test_errors_in_a_member_name_the_archive_the_member_and_the_row(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("b.csv", "timestamp,x\n1,1\n2,2\n3,broken\n")
    with pytest.raises(TableError, match=r"a\.zip/b\.csv, data row 3, column 'x': 'broken' is not"):
        list(read_tables(tmp_path / "a.zip"))


def damaged_zip(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b.csv", data)
    packed = bytearray(out.getvalue())
    packed[2000] ^= 0xFF
    return bytes(packed)


def encrypted_zip(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("b.csv", data)
    packed = bytearray(out.getvalue())
    packed[packed.index(b"PK\x01\x02") + 8] |= 1  # the flag in the directory
    return bytes(packed)


def test_a_damaged_or_encrypted_archive_is_one_clear_line(tmp_path: Path) -> None:
    data = content("csv")
    cases = {
        "cut.csv.gz": (gzip.compress(data)[:-100], "copy it anew"),
        "flipped.csv.gz": (gzip.compress(data)[:-8] + b"12345678", "CRC check failed.*copy it"),
        "text.csv.gz": (data, "Not a gzipped file .*copy it anew"),
        "text.zip": (data, "File is not a zip file.*copy it anew"),
        "flipped.zip": (damaged_zip(data), r"flipped\.zip/b\.csv: damaged.*copy it anew"),
        "encrypted.zip": (encrypted_zip(data), r"b\.csv: is encrypted; unpack it first"),
        "flipped.npz": (content("npz")[:-50], "copy it anew"),
        "cut.npy.gz": (gzip.compress(content("npy")[:-50]), "ends before its last value"),
    }
    for name, (packed, words) in cases.items():
        path = tmp_path / name
        path.write_bytes(packed)
        with pytest.raises(TableError, match=words) as caught:
            list(read_tables(path))
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_an_archive_without_data_is_an_error_that_says_what_was_looked_for(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.md", "5\n")
    with pytest.raises(TableError, match=r"no data in this archive; looked for \.csv"):
        list(read_tables(tmp_path / "a.zip"))
    (tmp_path / "kpi.gz").write_bytes(gzip.compress(b"1\n"))
    with pytest.raises(TableError, match=r"unknown kind of file; .*each also with \.gz or in a"):
        list(read_tables(tmp_path / "kpi.gz"))


@pytest.mark.parametrize("name", ["a.csv.gz", "a.npz", "a.zip"])
def test_memory_is_bounded_by_the_chunk_not_by_what_is_unpacked(tmp_path: Path, name: str) -> None:
    rows = 50_000
    path = tmp_path / name
    data = b"timestamp,x\n" + b"".join(b"%d,1.0%150s\n" % (i, b"") for i in range(rows))  # 8 MB
    if name == "a.npz":
        np.savez_compressed(path, values=np.zeros((rows, 20)))  # 8 MB
    elif name == "a.csv.gz":
        path.write_bytes(gzip.compress(data))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.csv", data)
    tracemalloc.start()
    try:
        seen = sum(len(table) for table in read_tables(path, chunk_rows=1000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == rows
    assert peak < 4_000_000
