"""Baselines' levels and verdicts, room for short training parts, rows that keep their place."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.benchmark_cases import beats, case
from trainer.benchmarks import baselines
from trainer.benchmarks.cases import Case
from trainer.benchmarks.detect import per_step, stretch, with_room
from trainer.config import Split, TrainerConfig, Windows
from trainer.data import DataError


def test_a_level_is_the_share_of_held_out_scores_as_large_and_exponential_beyond() -> None:
    held = np.random.default_rng(0).exponential(2.0, 20_000)
    tails = np.array([0.1, 0.01, 1e-3, 1e-5])
    level = baselines.level_of(-2.0 * np.log(tails), held)
    np.testing.assert_allclose(level, -np.log10(tails), rtol=0.08)
    assert baselines.level_of(np.array([3.0]), np.ones(50))[0] > 5
    assert baselines.level_of(np.ones(3), np.zeros(0)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", sorted(set(baselines.BASELINES) - {"random"}))
def test_every_baseline_but_chance_ranks_a_blatant_anomaly_first(name: str) -> None:
    values = beats(1200)
    values[1000:1020] = 6.0
    one = Case("x", ["value"], 1000 * np.arange(1200), values[:, None], 800, [(1000, 1019)])
    answer = baselines.answer(name, one, 0, 3.0)
    assert 1000 <= 800 + int(np.argmax(answer.score)) <= 1019 + 60
    assert answer.inside[200:220].any()
    assert answer.episodes[0][0] == int(np.argmax(answer.level >= 3.0))


def test_a_baseline_has_the_products_threshold_or_one_false_row_a_day() -> None:
    one = Case("x", ["value"], 60_000 * np.arange(900), beats(900)[:, None], 600, [])
    assert baselines.answer("difference", one, 0, 2.5).threshold == 2.5
    assert baselines.answer("difference", one, 0, None).threshold == pytest.approx(np.log10(1440))


def test_chance_differs_by_file_and_seed_and_comes_again() -> None:
    one = case(50, [])
    first, again = (baselines.answer("random", one, 0, 3.0).score for _ in range(2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != baselines.answer("random", one, 1, 3.0).score.tolist()


def test_missing_values_repeat_the_last_one() -> None:
    nan = np.nan
    values = np.array([[nan, nan], [1, nan], [nan, nan], [3, nan]])
    assert baselines.filled(values).tolist() == [[1, 0], [1, 0], [1, 0], [3, 0]]


@pytest.mark.parametrize(
    ("rows", "scales", "expected"),
    [
        (1000, [1], (700, 100, 200)),
        (400, [1], (259, 61, 80)),
        (200, [1], (78, 61, 61)),
        (1000, [3], (617, 183, 200)),
        (180, [1], (126, 18, 36)),  # hopeless: left to be refused
    ],
)
def test_short_training_parts_give_every_share_a_window(
    rows: int, scales: list[int], expected: tuple[int, int, int]
) -> None:
    config = TrainerConfig(windows=Windows(scales=scales))
    split = with_room(config, None, rows).split
    train, validation = round(rows * split.train), round(rows * (split.train + split.validation))
    assert (train, validation - train, rows - validation) == expected


def test_steps_of_several_samples_need_so_many_times_the_room() -> None:
    one = case(100, [])  # a sample a minute
    assert [per_step(one, every) for every in (0, 1000, 60_000, 90_000, 300_000)] == [1, 1, 1, 2, 5]
    split = with_room(TrainerConfig(), None, 2000, 5).split
    assert round(2000 * split.validation) == 5 * 61


def test_a_suites_shares_replace_those_of_the_recipe() -> None:
    split = with_room(TrainerConfig(), Split(train=0.5, validation=0.2), 1000).split
    assert (split.train, split.validation) == (0.5, 0.2)


def test_samples_keep_the_row_that_they_came_from() -> None:
    times = np.array([0, 1000, 1000, 2000, 3000, 4000])
    values = np.array([[np.nan], [1.0], [2.0], [np.nan], [4.0], [5.0]])
    one = Case("x", ["value"], times, values, 1, [])
    series, rows = stretch(one, 0, 6)
    assert rows.tolist() == [1, 3, 4, 5]  # nothing to repeat at first, and a time that came twice
    assert series.values[:, 0].tolist() == [1, 1, 4, 5]
    with pytest.raises(DataError, match="no complete row"):
        stretch(one, 0, 1)
