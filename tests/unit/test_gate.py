"""The gate: what is learnt from, what is injected, and who may be promoted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_detector.ports import Stored
from trainer.config.data import Data
from trainer.config.refresh import Gate
from trainer.data import Dataset, SeriesData, samples_in_step
from trainer.gate import Figures, decide, most_by_chance, too_little
from trainer.inject import KINDS, inject
from trainer.reading.store import cut, normal_data, pauses, runs, widened

GATE = Gate()


def stored(
    timestamp: list[int], *, anomalous: list[int] | None = None, missing: list[int] | None = None
) -> Stored:
    n = len(timestamp)
    values = np.arange(n, dtype=np.float64)[:, None]
    values[missing or []] = np.nan
    flags = np.zeros(n, np.bool_)
    flags[anomalous or []] = True
    return Stored(
        ("value",),
        ("a",),
        np.zeros(n, np.int64),
        np.array(timestamp, np.int64),
        values,
        np.zeros(n),
        flags,
    )


def figures(
    episodes: int = 0, days: float = 10.0, recall: float = 0.9, judged: int = 100_000
) -> Figures:
    return Figures("v", episodes, judged, days, dict.fromkeys(KINDS, recall))


def wave(n: int, name: str = "a") -> SeriesData:
    step = np.arange(n)
    values = np.stack([np.sin(step / 6), 5 + np.cos(step / 9)], axis=1)
    return SeriesData(name, 1000 * step, values)


def test_anomalous_samples_go_with_their_margin_and_leave_a_break() -> None:
    data, left_out = normal_data(
        stored([1000 * i for i in range(20)], anomalous=[10]), Data(), margin=2, hole=5.0
    )
    one = data.series[0]
    assert left_out == 5
    assert one.timestamp.tolist() == [1000 * i for i in [*range(8), *range(13, 20)]]
    assert one.breaks.tolist() == [8]


def test_a_pause_is_a_break_and_jitter_is_none() -> None:
    times = [0, 1000, 2300, 3000, 4000, 60_000, 61_000]
    data, _ = normal_data(stored(times), Data(), margin=2, hole=5.0)
    assert data.series[0].breaks.tolist() == [5]


def test_held_values_are_filled_and_what_cannot_be_filled_breaks() -> None:
    data, _ = normal_data(
        stored([1000 * i for i in range(12)], missing=[2, 5, 6, 7, 8]),
        Data(fill_limit=2),
        margin=0,
        hole=5.0,
    )
    one = data.series[0]
    assert one.values[:, 0].tolist() == [0, 1, 1, 3, 4, 4, 4, 9, 10, 11]
    assert one.breaks.tolist() == [7]


def test_nothing_stored_and_nothing_normal_give_no_data() -> None:
    empty, _ = normal_data(stored([]), Data(), margin=1, hole=5.0)
    assert cut(empty, 0.2).held_out.rows == 0
    odd, left_out = normal_data(stored([1, 2], anomalous=[0, 1]), Data(), margin=1, hole=5.0)
    assert (odd.rows, left_out) == (0, 2)
    assert "5,000 missing" in str(too_little(cut(odd, 0.2), GATE))


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 12))
def test_widening_marks_exactly_what_is_within_the_margin(flags: list[bool], margin: int) -> None:
    found = widened(np.array(flags, np.bool_), margin)
    for place, mark in enumerate(found):
        assert mark == any(flags[max(place - margin, 0) : place + margin + 1])


def test_the_held_out_slice_is_the_latest_and_its_breaks_move_along() -> None:
    long = SeriesData("a", np.arange(100), np.zeros((100, 1)), np.array([30, 90]))
    short = SeriesData("b", np.arange(60, 100), np.zeros((40, 1)))
    slices = cut(Dataset(["x"], [long, short]), 0.2)
    assert max(one.timestamp.max() for one in slices.learn.series) < slices.at
    assert min(one.timestamp.min() for one in slices.held_out.series) == slices.at
    assert slices.held_out.rows == pytest.approx(0.2 * 140, abs=2)
    assert slices.learn.series[0].breaks.tolist() == [30]
    parts = runs(slices.held_out)
    assert [int(part.timestamp[0]) for part in parts if part.name == "a"] == [slices.at, 90]
    assert sum(len(part) for part in parts) == slices.held_out.rows


def test_injected_anomalies_are_the_same_for_equal_seeds_only() -> None:
    series = [wave(2000)]
    first, again, other = (inject(series, 1, 3, seed) for seed in (1, 1, 2))
    assert [case.kind for case in first] == [kind for kind in KINDS for _ in range(3)]
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.stretch.values, two.stretch.values)
    assert any(a.onset != b.onset for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("scale", [1, 4])
def test_an_injection_changes_only_samples_from_its_onset_on(scale: int) -> None:
    series = [wave(3000)]
    clean = {int(t): row for t, row in zip(series[0].timestamp, series[0].values, strict=True)}
    for case in inject(series, scale, 5, seed=0):
        changed = [
            int(time)
            for time, row in zip(case.stretch.timestamp, case.stretch.values, strict=True)
            if not np.array_equal(row, clean[int(time)])
        ]
        assert changed, case.kind
        assert case.onset <= min(changed) <= max(changed) <= case.end
        lead = np.count_nonzero(case.stretch.timestamp < case.onset)
        assert lead >= 90 * scale


def test_where_samples_are_resampled_an_injection_lasts_as_many_steps() -> None:
    series = [wave(6000)]
    plain, resampled = (inject(series, 1, 2, 0, samples=samples) for samples in (1, 6))
    for one, six in zip(plain, resampled, strict=True):
        assert one.kind == six.kind
        times = six.stretch.timestamp
        assert np.count_nonzero(times < six.onset) >= 6 * 90
        clean = series[0].values[np.searchsorted(series[0].timestamp, times)]
        hit = np.flatnonzero((six.stretch.values != clean).any(axis=1))
        if six.kind != "flatline":
            assert len(hit) == 6 * {"spike": 2, "level_shift": 60, "noise_burst": 40}[six.kind]


def test_a_step_takes_as_many_samples_as_usually_come_in_its_time() -> None:
    some = stored([0, 9_000, 20_000, 31_000, 41_000, 500_000])
    assert [samples_in_step(pauses(some), every) for every in (0, 5_000, 11_000, 60_000)] == [
        1,
        1,
        1,
        6,
    ]
    assert samples_in_step(pauses(stored([5])), 60_000) == 1
    assert samples_in_step(np.zeros(3, np.int64), 60_000) == 1


def test_stretches_that_are_too_short_get_no_injection() -> None:
    assert inject([wave(100)], 1, 3, seed=0) == []
    assert inject([], 1, 3, seed=0) == []


@given(st.floats(0.01, 490))
def test_chance_allows_what_one_honest_model_in_twenty_exceeds(mean: float) -> None:
    most = most_by_chance(mean)
    terms, term = [], np.exp(-mean)
    for count in range(most + 1):
        terms.append(term)
        term *= mean / (count + 1)
    assert 1 - sum(terms[:-1]) >= 0.05 - 1e-9  # P(X >= most)
    assert 1 - sum(terms) < 0.05 + 1e-9  # P(X >= most + 1)


def test_a_good_first_model_is_promoted() -> None:
    decision = decide(figures(episodes=8), None, budget=1.0, gate=GATE)
    assert decision.promote
    assert "8 episodes in 10.00 series-days" in decision.reason


def test_a_first_model_that_alarms_too_much_or_finds_too_little_is_not() -> None:
    loud = decide(figures(episodes=40), None, budget=1.0, gate=GATE)
    assert not loud.promote
    assert loud.reason.startswith("too many false alarms: 40 episodes")
    blind = decide(figures(recall=0.2), None, budget=1.0, gate=GATE)
    assert not blind.promote
    assert "recall 0.20 of at least 0.50" in blind.reason


def test_a_challenger_over_budget_passes_where_the_champion_alarms_more() -> None:
    champion = figures(episodes=60)
    assert decide(figures(episodes=40), champion, budget=1.0, gate=GATE).promote
    assert not decide(figures(episodes=61), champion, budget=1.0, gate=GATE).promote


def test_a_challenger_may_miss_a_little_more_than_the_champion_and_not_much_more() -> None:
    champion = figures(recall=0.9)
    assert decide(figures(recall=0.86), champion, budget=1.0, gate=GATE).promote
    worse = decide(figures(recall=0.84), champion, budget=1.0, gate=GATE)
    assert not worse.promote
    assert "champion: 0.00 a day, recall 0.90" in worse.reason


def test_nobody_is_promoted_on_too_little_data() -> None:
    for little in (figures(judged=999), figures(days=0.05), Figures("v", 0, 10**6, 5.0, {})):
        decision = decide(little, None, budget=1.0, gate=GATE)
        assert not decision.promote
        assert "too little data" in decision.reason or "more data" in decision.reason
