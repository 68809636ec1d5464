"""Laws of reading what is larger than memory: order, cutting and spilling change no sample."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trainer.reading.derived
import trainer.reading.intake
import trainer.reading.merging
from stream_detector.bundle import Transform
from trainer.config.data import Data, LabelRule
from trainer.data import Part, SeriesData, clean, clean_pieces, together
from trainer.reading.derived import derived
from trainer.reading.intake import Intake
from trainer.reading.known import Known, breaks
from trainer.reading.rows import read
from trainer.reading.spool import SampleFiles
from trainer.reading.store import widened
from trainer.reading.training_set import StoredSeries

CELLS = st.sampled_from([np.nan, np.nan, np.inf, 0.0, 1.0, 2.0, -5.0])
"""Missing ones are frequent."""
MISSING = st.sampled_from(["drop", "interpolate", "forward_fill"])


@st.composite
def parts_of(draw: st.DrawFn) -> list[Part]:
    """Two features of two series, with repeated times, in any order or nearly sorted."""
    rows = draw(st.lists(st.tuples(st.integers(0, 60), CELLS, CELLS), min_size=1, max_size=60))
    if draw(st.booleans()):
        rows.sort(key=lambda row: row[0] // 7)
    cuts = sorted({0, len(rows), *draw(st.lists(st.integers(0, len(rows)), max_size=6))})
    found = []
    for start, stop in pairwise(cuts):
        times = np.array([row[0] for row in rows[start:stop]], np.int64) * 1000
        values = np.array([row[1:] for row in rows[start:stop]])
        found.append(Part(draw(st.sampled_from("ab")), times, values))
    return found


@settings(deadline=None, max_examples=200)
@given(parts_of(), MISSING, st.integers(1, 4), st.integers(1, 5000), st.integers(2, 40))
def test_what_was_spilled_comes_back_as_it_is_cleaned_in_memory(
    parts: list[Part], missing: str, fill_limit: int, memory: int, piece: int
) -> None:
    config = Data(missing=missing, fill_limit=fill_limit)  # type: ignore[arg-type]  # drawn
    intake = Intake(memory, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.reading.intake, "PIECE_VALUES", piece)
        patch.setattr(trainer.reading.merging, "PIECE_VALUES", piece)
        for part in parts:
            intake.add(part)
        assert intake.names == sorted({part.name for part in parts})
        for name in intake.names:
            expected = clean(name, *together([p for p in parts if p.name == name]), config)
            found = list(clean_pieces(intake.sorted_pieces(name), 2, config))
            times = np.concatenate([timestamp for timestamp, _ in found])
            values = np.concatenate([part for _, part in found])
            assert times.tolist() == expected.timestamp.tolist()
            assert values.tobytes() == expected.values.tobytes()


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.integers(0, 9), st.integers(1, 30))
def test_what_is_left_is_all_but_the_anomalies_with_their_margin_however_it_is_cut(
    flags: list[bool], margin: int, step: int
) -> None:
    label, times = np.array(flags), np.arange(len(flags), dtype=np.int64)
    rows = Known(Data(labels=LabelRule(column="fault"), margin=margin), ["s"]).of("s")
    for start in range(0, len(flags), step):
        rows.add(times[start : start + step], label[start : start + step])
    kept = rows.kept()
    inside = np.concatenate([np.zeros(0, np.int64), *(times[a:b] for a, b in kept)])
    assert inside.tolist() == np.flatnonzero(~widened(label, margin)).tolist()
    assert breaks(kept).tolist() == (np.flatnonzero(np.diff(inside) > 1) + 1).tolist()
    assert rows.left_out == len(flags) - len(inside)


RULES = st.builds(
    lambda grid, chain: [*grid, *chain],
    st.lists(
        st.builds(
            Transform,
            kind=st.just("resample"),
            every=st.integers(500, 9000),
            how=st.sampled_from(["mean", "last", "max", "min", "sum"]),
            fill=st.integers(0, 3),
        ),
        max_size=1,
    ),
    st.lists(
        st.builds(
            Transform,
            kind=st.sampled_from(["trailing_mean", "difference", "log_difference", "rate"]),
            n=st.integers(1, 5),
        ),
        max_size=3,
    ),
)


@settings(deadline=None, max_examples=200)
@given(RULES, st.integers(1, 60), st.sets(st.integers(1, 59), max_size=4), st.integers(16, 400))
def test_a_series_in_files_is_transformed_as_one_in_memory(
    rules: list[Transform], n: int, cuts: set[int], piece: int
) -> None:
    rng = np.random.default_rng(n)
    times = np.cumsum(rng.integers(1, 5000, n)).astype(np.int64)
    values = rng.exponential(size=(n, 2))
    edges = np.array(sorted(cut for cut in cuts if cut < n), np.int64)
    files = SampleFiles.of(2)
    files.append(times, values)
    stored = StoredSeries("s", files.times.rows(0, n), files.values.rows(0, n), edges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.reading.derived, "PIECE_VALUES", piece)
        found, again = derived([stored, stored], rules)
    (whole,) = derived([SeriesData("s", times, values, edges)], rules)
    for one in (found, again):
        assert read(one.timestamp).tolist() == read(whole.timestamp).tolist()
        assert read(one.values).tobytes() == read(whole.values).tobytes()
        assert one.breaks.tolist() == whole.breaks.tolist()
