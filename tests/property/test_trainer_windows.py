from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.bundle import WINDOW
from tests.unit.trainer_cases import series
from trainer.config import Split
from trainer.data import SeriesData
from trainer.preprocess import normalised_windows, stream_windows
from trainer.reading.rows import read
from trainer.runs import Parts, Run, split
from trainer.scaling import Scaling, fit_scaling


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[SeriesData], Split, int]:
    """Series whose value is their sample's number plus a million times the series' number."""
    result = []
    for number in range(draw(st.integers(1, 3))):
        n = draw(st.integers(3, 700))
        one = series(f"s{number}", np.arange(n, dtype=np.float64) + 1e6 * number)
        rows = draw(st.lists(st.integers(1, n - 1), max_size=3, unique=True).map(sorted))
        result.append(SeriesData(one.name, one.timestamp, one.values, np.array(rows, np.int64)))
    train = draw(st.floats(0.3, 0.8))
    validation = draw(st.floats(0.01, 0.19))
    return result, Split(train=train, validation=validation), draw(st.integers(1, 4))


def runs_of(parts: Parts) -> list[list[Run]]:
    return [parts.train, parts.validation, parts.held_out]


@given(cases())
def test_every_sample_is_in_one_split_and_splits_follow_each_other_in_time(
    case: tuple[list[SeriesData], Split, int],
) -> None:
    data, shares, _ = case
    parts = split(data, shares)
    for number, one in enumerate(data):
        joined = [run for runs in runs_of(parts) for run in runs if run.series == number]
        assert np.array_equal(np.concatenate([run.values for run in joined]), one.values)
        assert np.array_equal(np.concatenate([run.timestamp for run in joined]), one.timestamp)
        firsts = {run.first for run in joined}
        assert firsts >= set(one.breaks.tolist())


@given(cases())
@settings(deadline=None)
def test_no_window_straddles_a_split_a_break_or_two_series(
    case: tuple[list[SeriesData], Split, int],
) -> None:
    data, shares, scale = case
    width = np.ones((len(data), 1))
    plain = Scaling(0 * width, width, fit_scaling([_whole(data[0])], 1, "minmax").normalisation)
    for runs in runs_of(split(data, shares)):
        for run in runs:
            windows, newest = stream_windows(run, scale, np.zeros(1))
            steps = windows[:, :, 0].astype(np.float64) - 1e6 * run.series
            assert np.allclose(np.diff(steps, axis=1), scale, atol=0.2)
            assert (steps >= run.first - 0.2).all()
            assert (steps <= run.first + len(run) - 0.8).all()
            assert (newest < len(run)).all()
        # At a thousandth of their size the numbers stay below the clip.
        small = [Run(r.series, r.first, (read(r.values) % 1e6) / 1e3, r.timestamp) for r in runs]
        fitted = normalised_windows(small, plain, scale)
        expected = sum(max(len(run) - scale * WINDOW + 1, 0) for run in runs)
        assert len(fitted) == expected
        if expected:
            cut = fitted.take(np.arange(expected))[:, :, 0]
            assert np.allclose(np.diff(cut, axis=1), scale / 1e3, atol=1e-4)


@given(cases())
@settings(deadline=None)
def test_where_splits_overlap_every_newest_step_is_still_in_its_own_split(
    case: tuple[list[SeriesData], Split, int],
) -> None:
    data, shares, scale = case
    apart = runs_of(split(data, shares))
    for own, runs in zip(
        apart,
        runs_of(split(data, msgspec.structs.replace(shares, overlap=True), scale)),
        strict=True,
    ):
        rows = {(run.series, run.first + row) for run in own for row in range(len(run))}
        newest = {
            (run.series, run.first + row)
            for run in runs
            for row in stream_windows(run, scale, np.zeros(1))[1].tolist()
        }
        assert newest <= rows
        fewer = {
            (run.series, run.first + row)
            for run in own
            for row in stream_windows(run, scale, np.zeros(1))[1].tolist()
        }
        assert newest >= fewer


def test_with_overlap_a_split_has_a_window_for_each_of_its_samples() -> None:
    one = series("s", np.arange(200.0))
    parts = split([one], Split(train=0.4, validation=0.1, overlap=True))
    assert [len(runs) for runs in runs_of(parts)] == [1, 1, 1]
    (held,) = parts.held_out
    newest = held.first + stream_windows(held, 1, np.zeros(1))[1]
    assert newest.tolist() == list(range(100, 200))


def _whole(one: SeriesData) -> Run:
    return Run(0, 0, one.values, one.timestamp)
