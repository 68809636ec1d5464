"""The normal store: whole files, replaced parts, bounded memory, and what a reader gets back."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest

from stream_detector.adapters.store import ParquetStore, ParquetStoreReader
from stream_detector.adapters.store import writer as module
from stream_detector.config import ConfigError, Store
from stream_detector.records import Batch, Outcome, Partition, Verdicts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NOON = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)
DAY = 86_400_000
SENSORS = Partition("sensors", 0)


def verdicts(
    rows: int,
    *,
    group: str = "pumps",
    partition: Partition = SENSORS,
    first: int = 0,
    start: int = NOON,
    width: int = 2,
    value: float = 1.0,
    names: Sequence[str] | None = None,
    version: str = "v1",
) -> Verdicts:
    number = np.arange(rows)
    batch = Batch(
        group=group,
        partition=partition,
        series=[(names or ["a", "b"])[i % len(names or "ab")] for i in range(rows)],
        timestamp=start + 1000 * number,
        values=value + number[:, None] + np.arange(width) / 10,
        latest=np.full(rows, 2**63 - 1),
        offset=first + number,
        origin=number,
    )
    return Verdicts(
        batch=batch,
        outcome=np.zeros(rows, np.uint8),
        level=np.full(rows, 0.5, np.float32),
        anomalous=number % 5 == 4,
        model_version=version,
    )


def make(path: Path, **options: object) -> ParquetStore:
    features = {"pumps": ["temp", "vib"], "web/*": ["value"]}
    section = {name: options.pop(name) for name in ("part_rows", "part_every") if name in options}
    config = Store(url=str(path), **section)  # type: ignore[arg-type] # chosen by name above
    return ParquetStore(config, features, look_every=0.01, **options)  # type: ignore[arg-type] # same


def parts(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


def wait_for(store: ParquetStore, field: str, least: int) -> None:
    deadline = time.monotonic() + 10
    while getattr(store.stats(), field) < least:
        assert time.monotonic() < deadline, store.stats()
        time.sleep(0.005)


def test_a_part_is_named_by_group_day_partition_and_first_offset(tmp_path: Path) -> None:
    store = make(tmp_path)
    store.record(verdicts(10, first=70, start=NOON + DAY // 2 - 5000))
    store.record(verdicts(3, group="web/*", partition=Partition("a/b", 7), first=5, width=1))
    store.close()
    assert parts(tmp_path) == [
        "group=pumps/date=2026-03-01/part-sensors-0-70.parquet",
        "group=pumps/date=2026-03-02/part-sensors-0-75.parquet",
        "group=web%2F%2A/date=2026-03-01/part-a%2Fb-7-5.parquet",
    ]
    assert store.stats() == (13, 3, 0, 0, 0, "")


def test_the_columns_are_those_of_the_contract(tmp_path: Path) -> None:
    store = make(tmp_path)
    store.record(verdicts(10))
    store.close()
    table = pq.ParquetFile(next(tmp_path.rglob("*.parquet"))).read()
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        "series": "dictionary<values=string, indices=int32, ordered=0>",
        "timestamp": "timestamp[ms, tz=UTC]",
        "temp": "double",
        "vib": "double",
        "level": "double",
        "anomalous": "bool",
        "model_version": "dictionary<values=string, indices=int32, ordered=0>",
    }
    first = table.slice(4, 1).to_pylist()[0]
    assert first["timestamp"] == datetime(2026, 3, 1, 12, 0, 4, tzinfo=UTC)
    assert (first["series"], first["temp"], first["anomalous"], first["model_version"]) == (
        "a",
        5.0,
        True,
        "v1",
    )


def test_only_accepted_samples_are_kept_and_held_values_are_missing(tmp_path: Path) -> None:
    given = verdicts(6)
    given.outcome[[1, 4]] = [Outcome.LATE, Outcome.FUTURE]
    given.batch.values[2, 1] = np.nan
    store = make(tmp_path)
    store.record(given)
    store.close()
    stored = ParquetStoreReader(Store(url=str(tmp_path))).read("pumps")
    assert sorted(stored.timestamp - NOON) == [0, 2000, 3000, 5000]
    assert np.isnan(stored.values[stored.timestamp == NOON + 2000, 1]).all()
    assert np.isfinite(stored.values).sum() == 7


def test_recording_again_replaces_and_the_last_part_wins(tmp_path: Path) -> None:
    for first, rows, value in ((100, 10, 1.0), (100, 10, 2.0), (106, 10, 3.0)):
        store = make(tmp_path)
        store.record(verdicts(rows, first=first, start=NOON + 1000 * first, value=value))
        store.close()
    assert len(parts(tmp_path)) == 2
    stored = ParquetStoreReader(Store(url=str(tmp_path))).read("pumps")
    order = np.argsort(stored.timestamp)
    assert stored.timestamp[order].tolist() == [NOON + 1000 * n for n in range(100, 116)]
    assert stored.values[order, 0].tolist() == [
        *(2.0 + n for n in range(6)),
        *(3.0 + n for n in range(10)),
    ]


def test_offsets_that_come_again_in_one_process_begin_a_part_of_their_own(tmp_path: Path) -> None:
    store = make(tmp_path)
    store.record(verdicts(10, first=0))
    store.record(verdicts(10, first=0, value=9.0))
    store.close()
    assert parts(tmp_path) == ["group=pumps/date=2026-03-01/part-sensors-0-0.parquet"]
    assert ParquetStoreReader(Store(url=str(tmp_path))).read("pumps").values[:, 0].min() == 9.0


def test_a_part_is_cut_at_its_rows_and_never_inside_a_record(tmp_path: Path) -> None:
    given = verdicts(20)
    given.batch.offset[:] = np.repeat([3, 4, 5], [5, 12, 3])
    store = make(tmp_path, part_rows=10)
    store.record(given)
    store.close()
    sizes = {
        path.name: pq.ParquetFile(path).metadata.num_rows for path in tmp_path.rglob("*.parquet")
    }
    assert sizes == {
        "part-sensors-0-3.parquet": 5,
        "part-sensors-0-4.parquet": 12,
        "part-sensors-0-5.parquet": 3,
    }


def test_a_part_is_written_after_part_every_of_the_clock(tmp_path: Path) -> None:
    clock = [0.0]
    store = make(tmp_path, part_every="1m", clock=lambda: clock[0])
    store.record(verdicts(5))
    time.sleep(0.1)
    assert parts(tmp_path) == []
    clock[0] = 61.0
    wait_for(store, "written_rows", 5)
    store.close()


def test_a_store_that_is_down_costs_bounded_memory_and_catches_up(tmp_path: Path) -> None:
    blocked = tmp_path / "store"
    blocked.write_text("a file where the folder should be")
    clock = [0.0]
    store = make(blocked, max_pending_rows=100, part_rows=10, clock=lambda: clock[0])
    for n in range(20):
        store.record(verdicts(10, first=10 * n, start=NOON + 10_000 * n))
    wait_for(store, "failures", 1)
    stats = store.stats()
    assert (stats.pending_rows, stats.dropped_rows, stats.written_rows) == (100, 100, 0)
    assert "store" in stats.last_error
    blocked.unlink()
    clock[0] = 1000.0
    wait_for(store, "written_rows", 100)
    store.close()
    assert store.stats()[:3] == (100, 10, 100)
    assert store.stats().last_error == ""
    stored = ParquetStoreReader(Store(url=str(blocked))).read("pumps")
    assert stored.timestamp.max() == NOON + 99_000


def test_close_drops_and_counts_what_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "store"
    blocked.write_text("")
    store = make(blocked)
    store.record(verdicts(10))
    store.close()
    stats = store.stats()
    assert (stats.dropped_rows, stats.pending_rows, stats.failures) == (10, 0, 1)


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_table: object, file: object, **_options: object) -> None:
        file.write(b"PAR1 half of")  # type: ignore[attr-defined] # a binary file
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    store = make(tmp_path)
    store.record(verdicts(10))
    store.close()
    assert parts(tmp_path) == []
    assert "No space left on device" in store.stats().last_error


def test_record_does_not_wait_for_a_slow_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    original = module._write

    def slow(part: module._Part) -> None:
        release.wait(10)
        original(part)

    monkeypatch.setattr(module, "_write", slow)
    store = make(tmp_path, part_rows=10)
    began = time.monotonic()
    for n in range(50):
        store.record(verdicts(10, first=10 * n))
    assert time.monotonic() - began < 1.0
    release.set()
    store.close()
    assert store.stats().written_rows == 500


def test_samples_of_an_unknown_group_are_dropped_and_counted(tmp_path: Path) -> None:
    store = make(tmp_path)
    store.record(verdicts(4, group="strangers"))
    store.record(verdicts(4))
    store.close()
    assert (store.stats().written_rows, store.stats().dropped_rows) == (4, 4)
    assert "strangers" in store.stats().last_error or store.stats().failures == 1


def test_the_reader_starts_where_it_is_told_and_names_what_it_left_out(tmp_path: Path) -> None:
    store = make(tmp_path)
    store.record(verdicts(10, start=NOON - 2 * DAY))
    store.record(verdicts(10, first=10, start=NOON - 5000))
    store.close()
    damaged = tmp_path / "group=pumps/date=2026-03-01/part-sensors-0-99.parquet"
    damaged.write_bytes(b"PAR1 not really")
    reader = ParquetStoreReader(Store(url=f"file://{tmp_path}"))
    stored = reader.read("pumps", since=NOON)
    assert sorted(stored.timestamp - NOON) == [0, 1000, 2000, 3000, 4000]
    assert stored.series == ("a", "b")
    assert len(stored.skipped) == 1
    assert "part-sensors-0-99" in stored.skipped[0]
    assert reader.groups() == ["pumps"]
    assert len(reader.read("nobody").timestamp) == 0
    assert reader.newest("pumps") == NOON + DAY // 2
    assert reader.newest("nobody") is None


def test_parts_with_other_features_than_the_newest_are_left_out(tmp_path: Path) -> None:
    for first, names in ((0, ["x", "y"]), (50, ["temp", "vib"])):
        store = ParquetStore(Store(url=str(tmp_path)), {"pumps": names})
        store.record(verdicts(5, first=first, start=NOON + 1000 * first))
        store.close()
    stored = ParquetStoreReader(Store(url=str(tmp_path))).read("pumps")
    assert stored.features == ("temp", "vib")
    assert len(stored.timestamp) == 5
    assert "x, y" in stored.skipped[0]


@pytest.mark.parametrize("url", ["s3://bucket/store", "file://host/store", None])
def test_a_store_elsewhere_than_in_a_local_folder_is_refused(url: str | None) -> None:
    with pytest.raises(ConfigError, match=r"store\.url"):
        ParquetStore(Store(url=url), {})
