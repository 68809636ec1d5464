from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream_detector.core.calibration import (
    MATURE,
    Heights,
    Judged,
    Limits,
    Rules,
    State,
    Terms,
    judge,
    prior,
)
from stream_detector.core.calibration.heights import RARE_RATE
from stream_detector.core.calibration.tail import EDGE_LEVEL
from stream_detector.core.segments import Segments

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAY = 1440
NEVER = np.inf


def fresh(series: int, anchor: float = 2.5, excess: float = 0.5, rate: float = 0.008) -> State:
    memory = np.repeat(prior(anchor, excess, rate), series)
    return State(memory, np.zeros(series), np.ones(series), np.zeros(series, np.int32))


def run(
    state: State,
    t: NDArray[np.float64],  # [S, n]
    promised: float = np.nan,
    level: float = np.nan,
    lasting: float = 720,
    rules: Rules | None = None,
) -> Judged:
    series, n = t.shape
    each = np.ones(series)
    return judge(
        state,
        Segments(np.repeat(np.arange(series), n)),
        t.ravel(),
        Limits(np.full(series, np.inf), np.zeros(series * n, np.bool_)),
        Terms(each * promised, each * level, each * lasting),
        rules or Rules(0.1, 60, 1),
    )


def begun(judged: Judged, series: int, quiet: int = 60) -> NDArray[np.int64]:
    """Where episodes begin, in scores since the start, all series together."""
    alarm = (judged.level >= judged.threshold) & (judged.seen >= MATURE)
    found = []
    for part in alarm.reshape(series, -1):
        at = np.flatnonzero(part)
        found.append(at[np.diff(at, prepend=-quiet - 1) > quiet])
    return np.concatenate(found)


def scores(kind: str, series: int, days: int) -> NDArray[np.float64]:
    """Logarithms of the size of overlapping windows, as a detector's scores are."""
    rng = np.random.default_rng(7)
    shape = series, days * DAY
    noise = rng.standard_t(3, shape) if kind == "heavy" else rng.standard_normal(shape)
    if kind == "day and night":
        noise *= np.where(np.arange(days * DAY) % DAY < DAY // 2, 1.0, 3.0)
    if kind == "newest":
        return np.log(np.abs(noise) + 0.01)
    total = np.cumsum(noise * noise, axis=1)
    return np.log(total[:, 20:] - total[:, :-20])


@pytest.mark.parametrize(
    ("kind", "budget", "series", "days", "after"),
    [
        ("newest", 1.0, 12, 20, 8),
        ("windows", 1.0, 12, 20, 8),
        ("heavy", 1.0, 12, 20, 8),
        ("day and night", 1.0, 12, 30, 10),
        ("windows", 1 / 7, 30, 60, 30),
    ],
)
def test_episodes_begin_as_often_as_was_promised(
    kind: str, budget: float, series: int, days: int, after: int
) -> None:
    state = fresh(series)
    at = begun(run(state, scores(kind, series, days), budget / DAY), series)
    promised = series * budget * (days - after)
    assert 0.75 < (at >= after * DAY).sum() / promised < 1.3
    assert (at < DAY).sum() <= 2.5 * series * max(budget, 0.5)


def test_a_long_anomaly_is_not_absorbed_before_it_has_lasted_and_then_it_is() -> None:
    t = np.random.default_rng(0).normal(size=(1, 8 * DAY))
    start = 5 * DAY
    t[:, start:] += 20
    judged = run(fresh(1), t, 1 / DAY, lasting=600)
    alarm = judged.level >= judged.threshold
    assert alarm[start : start + 600].all()
    assert alarm[start + 2 * DAY :].mean() < 0.02


def test_an_anomaly_teaches_nothing_about_location_and_deviation() -> None:
    calm = np.random.default_rng(0).normal(size=(1, 3 * DAY))
    hit = calm.copy()
    hit[:, -120:-60] += 50
    states = fresh(1), fresh(1)
    for state, t in zip(states, (calm, hit), strict=True):
        run(state, t, 1 / DAY)
    assert states[1].location == pytest.approx(states[0].location, abs=0.05)
    assert states[1].deviation == pytest.approx(states[0].deviation, rel=0.05)


def test_nothing_is_an_alarm_before_the_series_is_mature_and_its_state_says_so() -> None:
    state = fresh(1)
    t = np.zeros((1, MATURE))
    t[:, 100] = 1e6
    judged = run(state, t, 1.0)
    assert (judged.seen < MATURE).all()
    assert state.memory["begun"][0] == 0
    assert (state.memory["peak"][:, -1] == -np.inf).all()


def test_a_new_series_starts_further_from_the_anchor_than_one_that_is_known() -> None:
    known = fresh(1)
    t = np.random.default_rng(3).normal(size=(1, 20 * DAY))
    run(known, t)
    new, old = Heights.of(fresh(1).memory), Heights.of(known.memory)
    rare = np.array([RARE_RATE])
    deviation = known.deviation[0] / np.abs(t).mean()
    assert deviation == pytest.approx(1.0, rel=0.1)
    assert new.at_rate(rare) > old.at_rate(rare)


def test_the_anchor_is_where_three_per_cent_of_scores_lie_beyond() -> None:
    state = fresh(1, anchor=6.0)
    t = np.random.default_rng(5).normal(size=(1, 30 * DAY))
    run(state, t)
    at = state.location + state.memory["anchor"] * state.deviation
    assert (t > at).mean() == pytest.approx(0.03, abs=0.006)


@pytest.mark.parametrize("kind", ["newest", "windows", "heavy"])
def test_a_level_is_reached_by_the_share_of_scores_that_it_says(kind: str) -> None:
    series, days = 12, 25
    t = scores(kind, series, days)
    level = run(fresh(series), t).level.reshape(series, -1)[:, 5 * DAY :]
    for wanted, least in ((EDGE_LEVEL, 0.8), (2.0, 0.7), (2.5, 0.5), (3.0, 0.25)):
        # Tails that fall faster than exponentially are rarer far out than the level says.
        assert least < (level >= wanted).mean() / 10.0**-wanted < 1.7, wanted


def test_a_level_means_the_same_whatever_size_the_scores_of_a_series_have() -> None:
    t = scores("newest", 1, 4)
    for away in (-8.0, 5.0):
        calm, far = run(fresh(1), t), run(fresh(1), t + away)
        np.testing.assert_allclose(far.level[120:], calm.level[120:], atol=0.02)


def test_later_scores_of_one_anomaly_are_ever_less_rare() -> None:
    t = np.random.default_rng(0).normal(size=(1, DAY + 40))
    t[:, DAY:] = 8.0
    level = run(fresh(1), t).level[DAY:]
    assert (np.diff(level) < 0).all()


def test_a_level_is_held_to_whatever_the_rate() -> None:
    judged = run(fresh(1), np.random.default_rng(5).normal(size=(1, 4000)), level=2.5)
    np.testing.assert_allclose(judged.threshold, 2.5)
    above = judged.level >= 2.5
    assert (judged.t[above] <= judged.t[above].max()).all()
    assert 0 < above[1500:].mean() < 0.02


def test_short_quiet_periods_and_runs_are_counted_as_episodes_are() -> None:
    t = np.zeros((1, 10 * 60))
    t[0, 490:492] = t[0, 500:502] = 99.0
    t[0, 495] = 99.0  # alone: no run of two
    state = fresh(1)
    run(state, t[:, :540], 1 / DAY, rules=Rules(0.1, 5, 2))
    assert state.memory["own"][0] == pytest.approx(0, abs=1e-6)  # not driven so early
    state = fresh(1)
    run(state, t[:, :530], 1 / DAY, rules=Rules(0.1, 5, 2))
    assert state.memory["begun"][0] == 2
    state = fresh(1)
    run(state, t[:, :530], 1 / DAY, rules=Rules(0.1, 60, 1))
    assert state.memory["begun"][0] == 1
