from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.fakes import NumpyScorer
from trainer.promise import oracle
from trainer.promise.anomalies import Injected
from trainer.promise.cases import STEPS_A_DAY
from trainer.promise.counts import (
    BUDGETS,
    Episode,
    beside,
    cell,
    dispersion,
    forgiven,
    found,
    poisson,
)
from trainer.promise.remembering import Remembering

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAILY, WEEKLY, _ = BUDGETS


def episode(series: int, first: int, last: int | None = None, kind: str = "anomaly") -> Episode:
    return Episode(series, first, first if last is None else last, kind)


def test_a_cell_counts_from_its_first_day_on_and_tells_the_warm_up_apart() -> None:
    days = [0, 3, 6, 7, 8, 20]
    opened = [episode(0, day * STEPS_A_DAY) for day in days]
    opened += [episode(1, 10 * STEPS_A_DAY, kind="gap"), episode(1, 7 * STEPS_A_DAY - 1)]
    line = cell(opened, DAILY, series=2, days=31)
    assert (line["promised"], line["realised"]) == (48, 4)
    assert line["ratio"] == pytest.approx(4 / 48)
    assert line["warm_up"] == {"promised": 14, "realised": 4}
    assert line["interval"][0] < line["ratio"] < line["interval"][1]
    assert not line["kept"]
    line = cell([episode(0, 40 * STEPS_A_DAY)] * 9, WEEKLY, series=1, days=93)
    assert (line["promised"], line["kept"]) == (pytest.approx(9), True)
    assert line["warm_up"]["realised"] == 0


def test_a_change_of_level_excuses_one_episode_of_each_kind_within_a_day() -> None:
    at = 1000
    opened = [
        episode(0, at - 1),  # before it
        episode(0, at + 2),
        episode(0, at + 700, kind="regime"),
        episode(0, at + 900),  # the second of its kind
        episode(1, at + STEPS_A_DAY),  # too late
    ]
    left = forgiven(opened, np.array([at, at]))
    assert sorted(left) == sorted([opened[0], opened[3], opened[4]])


def test_the_interval_of_a_count_is_garwoods() -> None:
    """Published limits: 0 -> (0, 3.689), 5 -> (1.623, 11.668), 100 -> (81.36, 121.63)."""
    for count, low, high in ((0, 0, 3.689), (5, 1.623, 11.668), (100, 81.36, 121.63)):
        assert poisson(count) == pytest.approx((low, high), abs=0.01)


def test_series_that_differ_widen_the_interval() -> None:
    assert dispersion(np.array([5, 5, 5, 5])) == 1
    assert dispersion(np.array([0, 0, 0, 20])) == pytest.approx(20)
    assert dispersion(np.array([0, 0])) == 1
    narrow, wide = poisson(20), poisson(20, 4)
    assert wide[0] < narrow[0] < 20 < narrow[1] < wide[1]


def test_an_anomaly_is_found_by_an_episode_that_overlaps_it_or_opens_within_a_window() -> None:
    anomaly = Injected(0, 100, 119)
    for opened, delay in (
        (episode(0, 100), 0),
        (episode(0, 110, 150), 10),
        (episode(0, 179), 79),
        (episode(0, 50, 100), 0),
    ):
        line = found([opened], [anomaly])
        assert (line["found"], line["share"], line["delay_steps"]["median"]) == (1, 1, delay)
    for opened in (episode(0, 180), episode(0, 50, 99), episode(1, 105)):
        line = found([opened], [anomaly])
        assert line["found"] == 0
        assert np.isnan(line["delay_steps"]["median"])


def test_delays_are_to_the_first_episode_that_answers() -> None:
    anomalies = [Injected(0, 100, 399), Injected(0, 1000, 1299), Injected(1, 100, 399)]
    opened = [episode(0, 300), episode(0, 130), episode(0, 1010)]
    line = found(opened, anomalies)
    assert line["share"] == pytest.approx(2 / 3)
    assert line["delay_steps"]["median"] == 20
    assert line["interval"] == pytest.approx([0.2077, 0.9385], abs=1e-3)


def test_episodes_beside_anomalies_are_held_against_the_time_that_is_left() -> None:
    first = 10 * STEPS_A_DAY
    anomaly = Injected(0, first, first + STEPS_A_DAY - 61)
    opened = [episode(0, first + 5), episode(0, 8 * STEPS_A_DAY), episode(0, 100)]
    line = beside(opened, [anomaly], DAILY, series=1, days=12)
    assert line == {"promised": pytest.approx(4), "realised": 1, "ratio": pytest.approx(0.25)}


def test_the_static_threshold_opens_as_many_episodes_as_wanted_where_nothing_is_wrong() -> None:
    rng = np.random.default_rng(0)
    score = rng.standard_normal((20_000, 3)).astype(np.float32)
    injected = [Injected(1, 5_100, 5_200)]  # steps count from 100 at the first score
    score[5_000:5_101, 1] = 50
    at = oracle.threshold(score, injected, 100, wanted=30 / 60_000, quiet=60)
    opened = oracle.episodes(score, at, 100, 60)
    clean = [one for one in opened if not (one.series == 1 and 5_100 <= one.first <= 5_260)]
    assert len(clean) == 30
    assert 2.5 < at < 4
    (answer,) = set(opened) - set(clean)
    assert (answer.first, answer.last) == (5_100, 5_200)


def windows(rng: np.random.Generator, count: int) -> list[NDArray[np.float32]]:
    shapes = ((count, 60, 1), (count, 1), (count, 1))
    return [rng.random(shape, np.float32) + 0.1 for shape in shapes]


def test_engines_that_ask_the_same_share_one_answer_until_it_is_forgotten() -> None:
    inner = NumpyScorer()
    scorer = Remembering(inner)
    asked = windows(np.random.default_rng(0), 16)
    first, second = (scorer.score(1, *asked) for _ in range(2))
    assert inner.calls == 1
    for mine, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, other)
    scorer.score(2, *asked)
    assert inner.calls == 2  # another scale is another question
    scorer.forget()
    scorer.score(1, *asked)
    assert inner.calls == 3


def test_an_engine_that_asks_otherwise_has_only_its_own_windows_scored() -> None:
    inner = NumpyScorer()
    scorer = Remembering(inner)
    rng = np.random.default_rng(0)
    asked = windows(rng, 16)
    scorer.score(1, *asked)
    moved = [np.roll(part, 5, axis=0) for part in asked]
    for part, other in zip(moved, windows(rng, 16), strict=True):
        part[3:6] = other[3:6]
    answer = scorer.score(1, *moved)
    assert inner.calls == 2
    for mine, wanted in zip(answer, NumpyScorer().score(1, *moved), strict=True):
        np.testing.assert_array_equal(mine, wanted)
