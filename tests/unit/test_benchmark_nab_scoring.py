"""NAB's scoring rules, by hand and against figures that NAB publishes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from trainer.benchmarks.nab_scoring import (
    PROFILES,
    Profile,
    Rows,
    fixed,
    normalised,
    probation,
    read_profiles,
    rows_of,
    scores,
    sigmoid,
    sweep,
)
from trainer.data import DataError

if TYPE_CHECKING:
    from pathlib import Path

STANDARD = PROFILES["standard"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(0, 0), (6, 0), (100, 15), (1127, 169), (4032, 604), (5000, 750), (22_695, 750)],
)
def test_probation_is_15_percent_of_the_rows_and_at_most_750(rows: int, expected: int) -> None:
    assert probation(rows) == expected


def test_the_sigmoid_has_the_values_of_the_paper() -> None:
    found = sigmoid(np.array([-1.0, -0.5, 0.0, 1.0, 3.0, 3.001, np.inf]))
    np.testing.assert_allclose(
        found, [0.98661, 0.84828, 0.0, -0.98661, -0.99999939, -1, -1], atol=5e-6
    )


def test_rows_of_a_file_earn_and_cost_what_nab_publishes_for_them() -> None:
    """Columns S(t)_standard of NAB's result files: a window of 29 rows, and the rows behind it."""
    first = 200
    rows = rows_of(400, [(first, first + 28)])
    start = first - probation(400)
    assert rows.gain[:start].tolist() == [-1.0] * start  # nothing lies before the first window
    window, behind = rows.gain[start : start + 29], 0.11 * rows.gain[start + 29 :]
    assert window[[0, 1, 2, 14, 28]] == pytest.approx(
        [1.0, 0.9974673237743696, 0.9944663453837748, 0.8716042063328711, 0.08716068383412914],
        abs=1e-15,
    )
    assert behind[[0, 1, 12, 82, 83, 84]] == pytest.approx(
        [-0.009795412917274829, -0.019436697459237925, -0.09033997785319556,
         -0.1099999195441033, -0.10999993270151008, -0.11],
        abs=1e-15,
    )  # fmt: skip


def test_costs_count_from_the_latest_window_that_ended() -> None:
    rows = rows_of(100, [(30, 34), (60, 79)])
    skipped = probation(100)
    np.testing.assert_allclose(rows.gain[50 - skipped], sigmoid(np.array([16 / 4]))[0])
    np.testing.assert_allclose(rows.gain[84 - skipped], sigmoid(np.array([5 / 19]))[0])
    assert rows.windows == 2


def test_windows_within_probation_are_not_counted() -> None:
    assert rows_of(100, [(3, 9), (40, 45)]).windows == 1
    assert rows_of(100, [(10, 20)]).windows == 1


def test_scores_at_every_threshold_are_those_of_nabs_own_example() -> None:
    """NAB's tests/integration/sweeper_test.py: two windows, a missed one costs 5."""
    rows = Rows(np.array([-3.0, 20.0, 10.0, 5.0, -3.0]), np.array([-1, 0, 0, 1, -1]))
    found = sweep([(rows, np.array([0.0, 0.2, 0.3, 0.5, 0.5]))], Profile(1.0, 1.0, 5.0))
    assert found.threshold.tolist() == [np.inf, 0.5, 0.3, 0.2, 0.0]
    assert found.score.tolist() == [-10.0, -3.0, 12.0, 22.0, 19.0]
    assert found.best == 3


def test_each_window_pays_once_for_its_earliest_detection() -> None:
    rows = rows_of(200, [(100, 119)])
    score = np.zeros(len(rows.gain))
    at = 100 - probation(200)
    score[[at + 15, at + 5, at + 6]] = [0.9, 0.8, 0.7]
    found = sweep([(rows, score)], STANDARD)
    late, early = rows.gain[at + 15], rows.gain[at + 5]
    assert found.score[:4] == pytest.approx([-1, late, early, early])
    assert 0 < late < early < 1


def test_one_threshold_serves_all_files_and_ties_take_the_higher_one() -> None:
    first, second = rows_of(100, [(50, 59)]), rows_of(100, [(70, 79)])
    scores_of_first, scores_of_second = np.zeros(85), np.zeros(85)
    scores_of_first[50 - 15], scores_of_second[70 - 15], scores_of_second[0] = 0.9, 0.5, 0.6
    found = sweep([(first, scores_of_first), (second, scores_of_second)], STANDARD)
    assert found.threshold[found.best] == 0.5
    assert found.score[found.best] == pytest.approx(2 - 0.11)
    alone = sweep([(rows_of(100, []), np.zeros(85))], STANDARD)
    assert (alone.best, alone.threshold[0]) == (0, np.inf)


@pytest.mark.parametrize("name", PROFILES)
def test_silence_scores_0_and_perfection_100_under_every_profile(name: str) -> None:
    files = [rows_of(300, [(100, 119), (200, 229)]), rows_of(300, []), rows_of(300, [(250, 260)])]
    silent = [(rows, np.zeros(len(rows.gain), np.bool_)) for rows in files]
    perfect = [(rows, np.diff(rows.window, prepend=-1).clip(0) > 0) for rows in files]
    perfect[0][1][100 - probation(300)] = True  # the first window is number 0, like the step to it
    perfect[2][1][250 - probation(300)] = True
    assert fixed(silent, PROFILES[name]) == 0
    assert fixed(perfect, PROFILES[name]) == pytest.approx(100)
    swept = scores([(rows, said.astype(float)) for rows, said in perfect], PROFILES)
    assert swept[name] == pytest.approx((100, 1.0))
    assert np.isnan(normalised(0.0, 0, PROFILES[name]))


def test_published_raw_scores_normalise_to_the_published_ones() -> None:
    """The whole corpus has 116 windows; HTM and the null detector, from NAB's results."""
    for name, raw, published in (
        ("standard", 46.634450197137596, 70.10105611943965),
        ("reward_low_fp", 30.431072517124093, 63.11684160219828),
        ("reward_low_fn", 26.634450197137568, 74.3202443095115),
    ):
        assert normalised(raw, 116, PROFILES[name]) == pytest.approx(published)
    assert normalised(-232.0, 116, PROFILES["reward_low_fn"]) == 0


def test_profiles_come_from_nabs_own_file_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "profiles.json"
    assert read_profiles(path) == PROFILES
    weights = {
        "standard": (1, 0.5),
        "reward_low_FP_rate": (1, 0.22),
        "reward_low_FN_rate": (2, 0.11),
    }
    costs = {
        name: {"CostMatrix": {"tpWeight": 1, "fnWeight": missed, "fpWeight": false, "tnWeight": 1}}
        for name, (missed, false) in weights.items()
    }
    path.write_text(json.dumps(costs))
    assert read_profiles(path) == {**PROFILES, "standard": Profile(1.0, 0.5, 1.0)}
    path.write_text('{"standard": {}}')
    with pytest.raises(DataError, match="profiles"):
        read_profiles(path)
