from __future__ import annotations

import numpy as np
import pytest

from stream_detector.core.robust import median_and_spread
from tests.unit.trainer_cases import fleet, series, wave
from trainer import scaling
from trainer.config import Split
from trainer.preprocess import normalised_windows, stream_windows
from trainer.reading import rows
from trainer.reading.rows import read
from trainer.runs import split
from trainer.scaling import LEARN, center_and_scale, fit_scaling


@pytest.mark.parametrize("kind", ["minmax", "standard", "robust"])
def test_scaling_knows_the_training_part_only(kind: str) -> None:
    data = fleet(1000).series
    before = fit_scaling(split(data, Split()).train, 3, kind)  # type: ignore[arg-type]  # parametrised
    for one in data:
        one.values[700:] *= -1000
    after = fit_scaling(split(data, Split()).train, 3, kind)  # type: ignore[arg-type]  # parametrised
    assert np.array_equal(before.center, after.center)
    assert np.array_equal(before.scale, after.scale)
    assert before.normalisation == after.normalisation


@pytest.mark.parametrize(
    ("kind", "center", "scale"), [("minmax", 5.0, 5.0), ("standard", 5.0, 10**0.5)]
)
def test_each_kind_of_scaling_is_what_its_name_says(kind: str, center: float, scale: float) -> None:
    values = np.arange(11.0)[:, None]
    found = center_and_scale(values, kind)  # type: ignore[arg-type]  # parametrised
    assert found[0].item() == center
    assert found[1].item() == pytest.approx(scale)


@pytest.mark.parametrize("kind", ["minmax", "standard", "robust"])
def test_a_series_that_never_changes_gets_a_scale_of_its_size(kind: str) -> None:
    constant = np.stack([np.full(50, 200.0), np.zeros(50)], axis=1)
    center, scale = center_and_scale(constant, kind)  # type: ignore[arg-type]  # parametrised
    assert center.tolist() == [200.0, 0.0]
    assert scale.tolist() == [10.0, 1.0]


def test_robust_spread_is_hardly_moved_by_outliers_and_floored_by_the_range() -> None:
    values = np.random.default_rng(0).normal(5, 2, (2000, 1))
    median, spread = median_and_spread(values)
    assert median.item() == pytest.approx(5, abs=0.2)
    assert spread.item() == pytest.approx(2, rel=0.1)
    mostly_flat = np.zeros((100, 1))
    mostly_flat[0] = 40.0
    assert median_and_spread(mostly_flat)[1].item() == 2.0


def test_robust_spread_of_many_blocks_is_that_of_each_alone() -> None:
    blocks = np.random.default_rng(1).normal(size=(7, 120, 3))
    median, spread = median_and_spread(blocks)
    for block, m, s in zip(blocks, median, spread, strict=True):
        alone = median_and_spread(block)
        assert np.array_equal(alone[0], m)
        assert np.array_equal(alone[1], s)


def test_a_new_series_is_mapped_near_the_scaling_that_training_would_have_given() -> None:
    parts = split(fleet().series, Split())
    scaling = fit_scaling(parts.train, 3, "standard")
    fresh = wave(4000, seed=9, size=50.0)
    median, spread = median_and_spread(fresh[:LEARN, None])
    mapped = spread * scaling.normalisation.factor
    center = median + spread * scaling.normalisation.offset
    assert mapped.item() == pytest.approx(fresh.std(), rel=0.3)
    assert abs(center.item() - fresh.mean()) < 0.5 * fresh.std()


def test_blocks_are_drawn_by_seed_and_no_run_spans_two_parts() -> None:
    data = [series("s", np.arange(2000.0))]
    found = [split(data, Split(order="blocks", seed=seed)) for seed in (1, 1, 2)]
    rows = [
        [np.concatenate([read(run.values)[:, 0] for run in runs]).tolist() for runs in parts]
        for parts in ((one.train, one.validation, one.held_out) for one in found)
    ]
    assert rows[0] == rows[1] != rows[2]
    assert [len(part) for part in rows[0]] == [1400, 200, 400]
    assert sorted([*rows[0][0], *rows[0][1], *rows[0][2]]) == list(range(2000))
    assert rows[0][2] != list(range(1600, 2000))
    for run in found[0].held_out:
        assert run.first % 100 == 0
        assert len(run) % 100 == 0
        assert read(run.values)[:, 0].tolist() == list(range(run.first, run.first + len(run)))


def test_windows_for_fitting_are_means_of_consecutive_normalised_samples() -> None:
    data = [series("s", np.arange(200.0))]
    parts = split(data, Split(train=0.9, validation=0.05))
    scaling = fit_scaling(parts.train, 1, "minmax")
    windows = normalised_windows(parts.train, scaling, 2)
    assert len(windows) == 180 - 120 + 1
    got = windows.take(np.array([3]))[0, :, 0] * scaling.scale.item() + scaling.center.item()
    np.testing.assert_allclose(got, 3.5 + 2 * np.arange(60), rtol=1e-5)


def test_robust_scaling_of_very_many_samples_is_that_of_a_draw_from_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).permutation(np.arange(1e5))[:, None]
    exact = center_and_scale(values, "robust")
    monkeypatch.setattr(scaling, "QUANTILE_VALUES", 10_000)
    first, again = (center_and_scale(values, "robust") for _ in range(2))
    for found, whole, same in zip(first, exact, again, strict=True):
        assert found.item() == pytest.approx(whole.item(), rel=0.03)
        assert found.item() == same.item() != whole.item()


def test_scaling_in_pieces_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(1e6, 3, (5000, 3))
    whole = [center_and_scale(values, kind) for kind in ("minmax", "standard", "robust")]
    monkeypatch.setattr(rows, "PIECE_VALUES", 700)
    parts = [center_and_scale(values, kind) for kind in ("minmax", "standard", "robust")]
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


def test_a_cap_draws_the_same_windows_for_the_same_seed() -> None:
    parts = split(fleet(1000).series, Split())
    scaling = fit_scaling(parts.train, 3, "standard")
    every = normalised_windows(parts.train, scaling, 1)
    some = [normalised_windows(parts.train, scaling, 1, cap=100, seed=s) for s in (1, 1, 2)]
    assert len(some[0]) == 100
    drawn = [one.take(np.arange(100)) for one in some]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    known = {window.tobytes() for window in every.take(np.arange(len(every)))}
    assert {window.tobytes() for window in drawn[0]} <= known


def test_windows_as_streamed_align_their_steps_to_the_series_own_counter() -> None:
    data = [series("s", np.arange(2000.0))]
    run = split(data, Split(train=0.5, validation=0.0005)).held_out[0]
    assert run.first % 4 == 1
    windows, newest = stream_windows(run, 4, np.zeros(1))
    first = run.first + 3  # the next multiple of 4
    np.testing.assert_array_equal(windows[0, :, 0], first + 1.5 + 4 * np.arange(60))
    assert read(run.values)[newest[0], 0] == first + 4 * 60 - 1
    assert np.diff(newest).tolist() == [4] * (len(newest) - 1)


def test_an_absurd_value_is_cut_before_it_reaches_the_model() -> None:
    values = wave(400)
    parts = split([series("s", values)], Split())
    scaling = fit_scaling(parts.train, 1, "standard")
    values[:280] *= 1e30  # the runs are views of it
    windows = normalised_windows(parts.train, scaling, 1)
    assert np.abs(windows.take(np.arange(len(windows)))).max() == 100
