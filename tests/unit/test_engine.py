"""The engine on small streams that a reader can follow."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream_detector.core.clock import PartitionClock
from stream_detector.core.engine import Engine, Result
from stream_detector.core.policy import DAY, HOUR, Policy
from stream_detector.core.slab import LEARN, WINDOW
from stream_detector.records import (
    AnomalyEvent,
    Batch,
    Kind,
    Maturity,
    Outcome,
    Partition,
    Severity,
    Status,
)
from tests.fakes import NumpyScorer, batch, cut, model

if TYPE_CHECKING:
    from stream_detector.ports import Scores

STEP = 60_000
READY = 300  # samples after which a new series is mature
KNOWN = {"s": (0.0, 1.0)}


def engine(policy: Policy | None = None, **options: object) -> Engine:
    made = Engine("test", policy or Policy())
    made.serve("g", model(**options))  # type: ignore[arg-type]
    return made


def noise(count: int, seed: int = 0) -> list[float]:
    return [float(value) for value in np.random.default_rng(seed).normal(size=count)]


def samples(values: list[float], start: int = 0, step: int = STEP, series: str = "s") -> Batch:
    times = [(start + i) * step for i in range(len(values))]
    return batch([series] * len(values), times, values, first_offset=start)


def kinds(result: Result) -> list[tuple[Kind, Status, str | None]]:
    return [(event.kind, event.status, event.close_reason) for event in result.events]


def opened(result: Result) -> list[AnomalyEvent]:
    return [event for event in result.events if event.status is Status.OPENED]


def test_a_spike_in_a_known_series_opens_one_episode_that_closes_after_the_quiet_period() -> None:
    values = [*noise(200), 25.0, *noise(200, 1)]
    result = engine(Policy(quiet_period=60, level=5.0), known=KNOWN).process([samples(values)])
    first, *updates, last = result.events
    assert (first.status, first.at, first.seq) == (Status.OPENED, 200 * STEP, 0)
    assert {event.status for event in updates} <= {Status.UPDATED}
    assert (last.status, last.close_reason) == (Status.CLOSED, "recovered")
    calm = result.verdicts[0].level < 5.0
    assert calm[last.at // STEP - 59 : last.at // STEP + 1].all()
    assert not calm[last.at // STEP - 60]
    assert [event.seq for event in result.events] == list(range(len(result.events)))
    assert len({event.episode_id for event in result.events}) == 1
    assert first.observed == {"value": 25.0}
    assert first.expected == {"value": 0.0}
    assert first.maturity is Maturity.MATURE
    assert first.level > first.threshold == 5.0
    assert first.window_end - first.window_start == (WINDOW - 1) * STEP


def test_a_new_series_raises_nothing_before_it_is_mature() -> None:
    wild = [*noise(110), 500.0, *noise(60, 1)]
    result = engine().process([samples(wild)])
    assert not result.events
    assert np.isnan(result.verdicts[0].level[: LEARN - 1]).all()
    assert not np.isnan(result.verdicts[0].level[LEARN:]).any()


def test_a_new_series_is_judged_by_its_own_centre_and_scale() -> None:
    values = [*(4e12 + 1e6 * np.array(noise(READY))).tolist(), 4e12 + 3e7]
    result = engine(Policy(level=3.0)).process([samples(values)])
    [event] = opened(result)
    assert event.at == READY * STEP
    assert event.observed["value"] == 4e12 + 3e7
    assert event.expected["value"] == pytest.approx(4e12, abs=1e6)


def test_an_open_episode_repeats_itself_no_more_often_than_told() -> None:
    values = [*noise(150), *([30.0] * 100)]
    policy = Policy(level=3.0, update_every=20 * STEP)
    result = engine(policy, known=KNOWN).process([samples(values)])
    anomaly = [e for e in result.events if e.kind is Kind.ANOMALY]
    repeated = [e.at // STEP for e in anomaly if e.status is Status.UPDATED]
    # A rise in severity is told at once, at most twice; the others keep their distance.
    calm = [at for at in repeated if at > 160]
    assert all(b - a >= 20 for a, b in pairwise(calm))
    assert 3 <= len(repeated) <= 8


def test_min_length_asks_for_samples_above_the_threshold_in_a_row() -> None:
    scorer = NumpyScorer()
    spike = [*noise(150), 12.0, *noise(3, 1)]
    short = engine(Policy(level=3.0, min_length=200), known=KNOWN, scorer=scorer)
    assert not short.process([samples(spike)]).events
    long = engine(Policy(level=3.0, min_length=3), known=KNOWN)
    [event] = opened(long.process([samples([*noise(150), *([12.0] * 5)])]))
    assert event.at == 152 * STEP


def test_severity_tells_how_far_the_level_is_above_the_threshold() -> None:
    results = {
        size: opened(engine(Policy(level=7.0), known=KNOWN).process([samples([*noise(150), size])]))
        for size in (8.5, 100.0)
    }
    assert results[100.0][0].severity is Severity.CRITICAL
    assert results[8.5][0].severity is Severity.MINOR


def test_a_series_that_stops_sending_closes_its_episode_at_the_deadline() -> None:
    made = engine(Policy(level=3.0, silent_after=HOUR), known=KNOWN)
    made.process([samples([*noise(150), 50.0])])
    others = samples(noise(100), 150, series="other")
    ended, silence = made.process([others]).events
    assert (ended.series, ended.status, ended.close_reason) == ("s", Status.CLOSED, "silent")
    assert (silence.kind, silence.status) == (Kind.SILENCE, Status.OPENED)
    assert ended.at == silence.at == 150 * STEP + HOUR


def test_samples_out_of_order_are_dropped_and_counted() -> None:
    result = engine().process([batch(["s"] * 5, [1, 3, 2, 3, 4], [0.0] * 5)])
    assert [Outcome(o) for o in result.verdicts[0].outcome] == [
        Outcome.ACCEPTED,
        Outcome.ACCEPTED,
        Outcome.LATE,
        Outcome.DUPLICATE,
        Outcome.ACCEPTED,
    ]


def test_a_series_whose_clock_went_back_starts_anew_and_says_so() -> None:
    made = engine(Policy(level=3.0, restart_after_late=5), known=KNOWN)
    made.process([samples(noise(200), 10_000)])
    result = made.process([samples(noise(400, 1), 0)])
    assert kinds(result)[0] == (Kind.GAP, Status.OPENED, None)
    assert kinds(result)[1] == (Kind.GAP, Status.CLOSED, "recovered")
    outcomes = result.verdicts[0].outcome
    assert (outcomes[:4] == Outcome.LATE).all()
    assert (outcomes[4:] == Outcome.ACCEPTED).all()
    # Its fifth late sample is its new first one; 60 fill the window.
    assert result.events[1].at == (4 + WINDOW - 1) * STEP


def test_timestamps_far_ahead_are_told_apart_also_in_a_first_sample() -> None:
    whole = batch(["s", "new"], [10, 10 + 3 * HOUR], [0.0, 0.0], latest=HOUR)
    result = engine().process([whole])
    assert result.verdicts[0].outcome.tolist() == [Outcome.ACCEPTED, Outcome.FUTURE]
    made = engine(Policy(max_jump=DAY))
    made.process([samples(noise(10))])
    later = batch(["new", "new", "s"], [5 * DAY, 5 * DAY, STEP * 10], [0.0, 0.0, 0.0])
    assert made.process([later]).verdicts[0].outcome.tolist() == [Outcome.FUTURE] * 2 + [0]


def test_a_lone_clock_far_ahead_moves_the_partition_little_and_two_that_agree_move_it() -> None:
    policy = Policy(max_clock_step=HOUR, max_jump=DAY)
    times = np.array([0, 2 * HOUR, 3 * HOUR, 5 * DAY, 6 * DAY, 5 * DAY, 5 * DAY + 1])
    series = ["a", "wrong", "wrong", "wrong", "wrong", "b", "a"]
    elapsed, far, clock = PartitionClock().advance(times, series, policy)
    assert (elapsed // HOUR).tolist() == [0, 1, 2, 2, 2, 3, 3]
    assert far.tolist() == [False, False, False, True, True, False, False]
    assert clock.reached == 5 * DAY + 1


def test_a_backlog_that_ends_closes_no_episode_of_a_series_that_still_sends() -> None:
    made = engine(Policy(level=5.0), known=KNOWN)
    made.process([samples([*noise(150), 50.0])])
    today = batch(["x", "y", "s"], [900 * DAY, 900 * DAY, 151 * STEP], [0.0, 0.0, 0.0])
    assert not [e for e in made.process([today]).events if e.status is Status.CLOSED]


def test_a_missing_value_is_held_for_a_while_and_then_refused() -> None:
    values = np.column_stack([np.arange(8.0), np.arange(8.0)])
    values[2:, 1] = np.nan
    whole = batch(["s"] * 8, np.arange(8) * STEP, values)
    made = engine(Policy(hold_limit=3), features=("a", "b"))
    assert made.process([whole]).verdicts[0].outcome.tolist() == [
        *[Outcome.ACCEPTED] * 5,
        *[Outcome.UNHELD] * 3,
    ]


def test_a_first_sample_with_a_hole_cannot_be_held() -> None:
    values = np.array([[1.0, np.nan], [1.0, 2.0]])
    result = engine(features=("a", "b")).process([batch(["s", "s"], [1, 2], values)])
    assert result.verdicts[0].outcome.tolist() == [Outcome.UNHELD, Outcome.ACCEPTED]


def test_newcomers_are_refused_while_the_slab_is_full_and_live_series_stay() -> None:
    made = engine(Policy(max_series=2))
    result = made.process([batch(["a", "b", "c", "a"], [1, 1, 1, 2], [0.0] * 4)])
    assert result.verdicts[0].outcome.tolist() == [0, 0, Outcome.REFUSED, 0]


def test_idle_series_are_forgotten_by_the_partitions_own_time() -> None:
    made = engine(Policy(evict_after=2 * HOUR, max_clock_step=HOUR))
    made.process([batch(["idle", "live"], [0, 0], [0.0, 0.0])])
    made.process([samples(noise(119), 1, series="live")])
    assert sum(made.series().values()) == 2
    made.process([samples(noise(10), 120, series="live")])
    assert sum(made.series().values()) == 1


def test_a_model_that_gives_no_number_is_a_fault_and_no_anomaly() -> None:
    class Broken(NumpyScorer):
        def score(self, *args: object) -> Scores:
            scores = super().score(*args)  # type: ignore[arg-type]
            scores.scores[:] = np.nan
            return scores

    result = engine(known=KNOWN, scorer=Broken()).process([samples(noise(100))])
    assert not result.events
    assert sum(part.faults for part in result.scores) == 100 - WINDOW + 1
    assert sum(len(part.error) for part in result.scores) == 0


def test_another_model_keeps_the_windows_and_takes_known_series_up_at_once() -> None:
    made = engine(known=KNOWN)
    made.process([samples(noise(100))])
    assert made.serve("g", model(version="v2", known={"s": (0.0, 2.0)})) == "swapped"
    result = made.process([samples(noise(10), 100)])
    assert not np.isnan(result.verdicts[0].level).any()
    assert result.verdicts[0].model_version == "v2"


def test_a_model_of_other_features_or_scales_is_not_swapped_in() -> None:
    made = engine()
    assert made.serve("g", model(features=("x", "y"), version="v2")) == "incompatible"
    assert made.serve("g", model(scales=(1, 2), version="v2")) == "incompatible"
    assert made.version("g") == "v1"


def test_an_episode_that_lasts_is_the_new_normal_and_the_series_learns_anew() -> None:
    policy = Policy(level=5.0, regime_change_after=3 * HOUR, quiet_period=60)
    values = [*noise(150), *(40 + np.array(noise(900, 1))).tolist()]
    result = engine(policy, known=KNOWN).process([samples(values)])
    assert (Kind.ANOMALY, Status.CLOSED, "regime_change") in kinds(result)
    assert [event.kind for event in opened(result)] == [Kind.ANOMALY, Kind.REGIME]
    level = result.verdicts[0].level
    assert np.nanmax(level[-300:]) < 5.0


def test_a_series_may_learn_anew_with_a_sample_that_brings_no_new_score() -> None:
    policy = Policy(level=2.0, regime_change_after=3 * HOUR)
    values = [*noise(450), *(40 + np.array(noise(400, 1))).tolist()]
    whole = samples(values)
    at_once = engine(policy, known=KNOWN, scales=(7,)).process([whole])
    assert (Kind.ANOMALY, Status.CLOSED, "regime_change") in kinds(at_once)
    made = engine(policy, known=KNOWN, scales=(7,))
    one_by_one = [made.process([part]) for part in cut(whole, range(len(whole)))]
    events = [event.id for result in one_by_one for event in result.events]
    assert sorted(events) == sorted(event.id for event in at_once.events)


def test_a_coarse_scale_sees_what_the_samples_hide() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=2000)
    values[1200:1600] += 1.2
    fine = engine(Policy(level=5.0), known=KNOWN).process([samples(values.tolist())])
    coarse = engine(
        Policy(level=5.0), known=KNOWN, scales=(10,), location=-2.3, spread=0.15
    ).process([samples(values.tolist())])
    assert not opened(fine)
    assert opened(coarse)
    assert opened(coarse)[0].scale == 10
    assert opened(coarse)[0].window_end - opened(coarse)[0].window_start == 599 * STEP


@pytest.mark.parametrize(
    ("policy", "level"),
    [
        (Policy(level=2.5), 2.5),
        (Policy(quantile=0.999), 3.0),
        (Policy(), 3.0),
    ],
)
def test_the_threshold_comes_from_the_policy_and_else_from_the_bundle(
    policy: Policy, level: float
) -> None:
    made = engine(policy, known=KNOWN)
    [event] = opened(made.process([samples([*noise(150), 90.0])]))
    assert event.threshold == pytest.approx(level, abs=1e-4)


def test_a_dropped_partition_is_forgotten() -> None:
    made = engine()
    made.process([samples(noise(10))])
    made.drop(Partition("t", 0))
    assert sum(made.series().values()) == 0


def test_a_hole_right_after_a_series_learnt_anew_leaves_no_verdict_of_its_old_life() -> None:
    values = np.random.default_rng(0).normal(size=(600, 2))
    values[150:] += 40
    values[331:, 0] = np.nan  # three hours after the step
    policy = Policy(level=5.0, regime_change_after=3 * HOUR)
    made = engine(policy, features=("a", "b"), known=KNOWN)
    result = made.process([batch(["s"] * 600, np.arange(600) * STEP, values)])
    assert (Kind.ANOMALY, Status.CLOSED, "regime_change") in kinds(result)
    verdicts = result.verdicts[0]
    assert (verdicts.outcome[331:] == Outcome.UNHELD).all()
    assert np.isnan(verdicts.level[331:]).all()
    assert not verdicts.anomalous[331:].any()
