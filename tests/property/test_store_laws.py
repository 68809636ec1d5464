"""Laws of the normal store: what was accepted comes back, however it was cut and named."""

from __future__ import annotations

import tempfile

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.adapters.store import ParquetStore, ParquetStoreReader
from stream_detector.config import Store
from stream_detector.records import Batch, Outcome, Partition, Verdicts

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
features = st.lists(
    st.one_of(names, st.sampled_from(["level", "level_", "series", "timestamp", "__offset"])),
    min_size=1,
    max_size=4,
    unique=True,
)
times = st.one_of(st.integers(0, 4_000_000_000_000), st.integers(0, 3))
numbers = st.one_of(st.floats(allow_infinity=False), st.just(float("nan")))


@settings(max_examples=40, deadline=None)
@given(data=st.data(), group=names, columns=features, part_rows=st.integers(1, 20))
def test_every_accepted_sample_comes_back_once_and_as_it_was(
    data: st.DataObject, group: str, columns: list[str], part_rows: int
) -> None:
    width = len(columns)
    row = st.tuples(
        st.one_of(names, st.sampled_from("ab")),
        times,
        st.lists(numbers, min_size=width, max_size=width),
        st.sampled_from(Outcome),
    )
    batches = data.draw(st.lists(st.lists(row, min_size=1, max_size=12), max_size=5))
    expected = {}
    offset = 0
    with tempfile.TemporaryDirectory() as folder:
        config = Store(url=folder, part_rows=part_rows)
        store = ParquetStore(config, {group: columns}, look_every=0.001)
        for rows in batches:
            store.record(_verdicts(group, rows, offset))
            offset += len(rows)
            for series, timestamp, values, outcome in rows:
                if outcome is Outcome.ACCEPTED:
                    expected[series, timestamp] = values
        store.close()
        assert store.stats().dropped_rows == 0
        stored = ParquetStoreReader(config).read(group)
    assert stored.skipped == ()
    found = {
        (stored.series[code], timestamp): values
        for code, timestamp, values in zip(
            stored.code, stored.timestamp.tolist(), stored.values, strict=True
        )
    }
    assert len(found) == len(stored.timestamp)
    assert found.keys() == expected.keys()
    if expected:
        assert stored.features == tuple(columns)
        keys = list(zip(stored.code.tolist(), stored.timestamp.tolist(), strict=True))
        assert keys == sorted(keys)
    for key, values in found.items():
        np.testing.assert_array_equal(values, expected[key])


def _verdicts(
    group: str, rows: list[tuple[str, int, list[float], Outcome]], offset: int
) -> Verdicts:
    number = np.arange(len(rows))
    batch = Batch(
        group=group,
        partition=Partition("topic", 0),
        series=[row[0] for row in rows],
        timestamp=np.array([row[1] for row in rows], np.int64),
        values=np.array([row[2] for row in rows], np.float64),
        latest=np.full(len(rows), 2**63 - 1),
        offset=offset + number,
        origin=number,
    )
    return Verdicts(
        batch=batch,
        outcome=np.array([row[3] for row in rows], np.uint8),
        level=np.full(len(rows), np.nan, np.float32),
        anomalous=np.zeros(len(rows), np.bool_),
        model_version="v",
    )
