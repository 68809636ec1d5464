"""What must hold of the engine for every input."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream_detector.bundle import Transform
from stream_detector.core.engine import Engine
from stream_detector.core.policy import HOUR, Policy
from stream_detector.records import AnomalyEvent, Batch, Kind, Partition
from tests.fakes import Shares, batch, cut, model

if TYPE_CHECKING:
    from numpy.typing import NDArray

Of = Literal["mean", "max", "median"]
STEP = 60_000
CHAINS = (
    (),
    (Transform(kind="difference"),),
    (Transform(kind="trailing_mean", n=3), Transform(kind="rate")),
    (Transform(kind="log_difference"), Transform(kind="trailing_mean", n=4)),
    (Transform(kind="resample", every=STEP // 3, how="last", fill=2), Transform(kind="rate")),
    (Transform(kind="resample", every=STEP, fill=0), Transform(kind="trailing_mean", n=3)),
    (Transform(kind="resample", every=5 * STEP // 2, how="max", fill=1),),
)
POLICY = Policy(
    restart_after_late=3,
    quiet_period=7,
    update_every=5 * STEP,
    silent_after=20 * STEP,
    evict_after=6 * HOUR,
    regime_change_after=3 * HOUR,
    min_length=2,
    hold_limit=2,
    flatline_after=6,
)
POLICIES = (
    POLICY,
    replace(POLICY, error=2.5),
    replace(POLICY, alarm_budget=50.0, alarm_budget_total=90.0, min_length=1),
    replace(POLICY, sigma=3.0, silence=False, flatline_after=None),
    replace(POLICY, close_below=0.3, peak_half_life=20, quiet_period=1),
    replace(POLICY, min_length=1, direction="above", min_relative=2.0, evict_after=HOUR),
    replace(POLICY, level=1.5, min_absolute=(("f0", 5.0),), max_clock_step=5 * STEP),
)


def stream(
    seed: int,
    features: int,
    minutes: int,
    ahead: tuple[str, ...] = ("s0", "s2"),
    jitter: int = 0,  # ms that a sample may be off
) -> Batch:
    """Series that are late, repeat themselves, stick, fall silent, jump, miss values, go wild."""
    rng = np.random.default_rng(seed)
    names = [f"s{i}" for i in range(5)]
    series, times, rows = [], [], []
    stuck = np.zeros(features)
    latest: dict[str, NDArray[np.float64]] = {}
    for minute in range(minutes):
        for at, name in enumerate(names):
            fate = rng.random()
            if name == "s1" and 350 < minute < 420:
                continue
            if name == "s3" and minute > 400 and rng.random() < 0.97:
                continue
            now = minute * STEP
            if fate < 0.01:
                now -= STEP * int(rng.integers(1, 3))
            elif fate < 0.015 and name in ahead:
                now += 5000 * 24 * HOUR
            if name == "s2" and minute > 450:
                now -= 300 * STEP
            value = np.sin(minute / 9 + at) * 10**at + rng.normal(size=features) * 10**at
            if name == "s4" and minute > 380:
                value += 30 * 10**at
            elif rng.random() < 0.01:
                value += 12 * 10**at
            if name == "s0" and 250 < minute < 330 and minute % 40:
                value = stuck if features == 1 else np.append(stuck[:1], value[1:])
            elif name == "s1" and rng.random() < 0.3:
                value = latest.get(name, value)
            stuck, latest[name] = value if name == "s0" else stuck, value
            value = np.where(rng.random(features) < 0.02, np.nan, value) if features > 1 else value
            series.append(name)
            times.append(now + int(rng.integers(0, jitter + 1)))
            rows.append(value)
    return batch(series, times, np.array(rows))


def outcome(
    engine: Engine, pieces: list[Batch]
) -> tuple[list[AnomalyEvent], NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]:
    results = [engine.process([piece]) for piece in pieces]
    verdicts = [v for result in results for v in result.verdicts]
    return (
        [event for result in results for event in result.events],
        np.concatenate([v.outcome for v in verdicts]),
        np.concatenate([v.level for v in verdicts]),
        np.concatenate([v.anomalous for v in verdicts]),
    )


def fresh(
    features: int,
    scales: tuple[int, ...],
    smoothing: tuple[int, Of],
    rungs: tuple[int, ...],
    transforms: tuple[Transform, ...] = (),
    policy: Policy = POLICY,
) -> Engine:
    engine = Engine("test", policy)
    served = model(
        [f"f{i}" for i in range(features)],
        scales,
        known={"s0": (0.0, 1.0)},
        smoothing=smoothing[0],
        of=smoothing[1],
        transforms=transforms,
    )
    served.scorer.rungs = rungs  # type: ignore[misc]
    engine.serve("g", served)
    return engine


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    features=st.sampled_from([1, 3]),
    scales=st.sampled_from([(1,), (1, 4), (3,)]),
    smoothing=st.sampled_from([(1, "mean"), (5, "mean"), (4, "median")]),
    transforms=st.sampled_from(CHAINS),
    jitter=st.sampled_from([0, STEP // 2, STEP]),
    policy=st.sampled_from(POLICIES),
    cuts=st.lists(st.integers(1, 2500), max_size=60),
)
@example(  # a series that starts anew, for good, in the middle of a batch
    seed=0,
    features=1,
    scales=(1,),
    smoothing=(1, "mean"),
    transforms=CHAINS[3],
    jitter=0,
    policy=POLICY,
    cuts=[1206],
)
def test_cutting_the_stream_differently_changes_no_event_no_verdict_and_no_state(
    seed: int,
    features: int,
    scales: tuple[int, ...],
    smoothing: tuple[int, Of],
    transforms: tuple[Transform, ...],
    jitter: int,
    policy: Policy,
    cuts: list[int],
) -> None:
    whole = stream(seed, features, 520, jitter=jitter)
    one = fresh(features, scales, smoothing, (16,), transforms, policy)
    many = fresh(features, scales, smoothing, (4, 16), transforms, policy)
    expected = outcome(one, [whole])
    found = outcome(many, cut(whole, [at for at in cuts if at < len(whole)]))

    def by_id(events: list[AnomalyEvent]) -> list[tuple[str, str]]:
        return sorted((event.id, repr(event.body())) for event in events)

    assert by_id(found[0]) == by_id(expected[0])
    assert len({event.id for event in expected[0]}) == len(expected[0])
    for a, b in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(a, b)
    assert many.digest(Partition("t", 0)) == one.digest(Partition("t", 0))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), scales=st.sampled_from([(1,), (1, 4)]))
def test_contributions_to_an_anomaly_are_shares_of_one(seed: int, scales: tuple[int, ...]) -> None:
    engine = Engine("test", replace(POLICY, min_length=1, level=2.0))
    engine.serve("g", model("abc", scales, known={"s0": (0.0, 1.0)}, scorer=Shares()))
    events = engine.process([stream(seed, 3, 460)]).events
    told = [event.contribution for event in events if event.kind is Kind.ANOMALY]
    assert told
    for shares in told:
        assert min(shares.values()) >= 0
        assert abs(sum(shares.values()) - 1) < 1e-5


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(1, 2500), max_size=20))
def test_one_sample_at_a_time_is_the_same_as_all_at_once(seed: int, cuts: list[int]) -> None:
    whole = stream(seed, 1, 460)
    one, many = (fresh(1, (1, 4), (5, "mean"), (4, 16)) for _ in range(2))
    expected = outcome(one, cut(whole, [at for at in cuts if at < len(whole)]))
    found = outcome(many, cut(whole, list(range(1, len(whole)))))
    assert sorted(e.id for e in found[0]) == sorted(e.id for e in expected[0])
    np.testing.assert_array_equal(found[2], expected[2])


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_one_series_sends_changes_nothing_for_another(seed: int) -> None:
    whole = stream(seed, 1, 460, ahead=("s2",))
    keep = [at for at, name in enumerate(whole.series) if name != "s2"]
    alone = batch([whole.series[at] for at in keep], whole.timestamp[keep], whole.values[keep])
    with_it = outcome(fresh(1, (1,), (1, "mean"), (4, 16)), [whole])
    without = outcome(fresh(1, (1,), (1, "mean"), (4, 16)), [alone])
    ids = sorted(event.id for event in with_it[0] if event.series != "s2")
    assert ids == sorted(event.id for event in without[0])
    np.testing.assert_array_equal(with_it[2][keep], without[2])


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    policy=st.sampled_from(POLICIES),
    transforms=st.sampled_from(CHAINS),
    ticks=st.lists(st.tuples(st.integers(1, 2500), st.integers(-HOUR, 9 * HOUR)), max_size=6),
    cuts=st.lists(st.integers(1, 2500), max_size=30),
)
def test_with_the_same_ticks_cutting_the_stream_differently_changes_nothing(
    seed: int,
    policy: Policy,
    transforms: tuple[Transform, ...],
    ticks: list[tuple[int, int]],
    cuts: list[int],
) -> None:
    whole, place = stream(seed, 1, 520), Partition("t", 0)
    given_at = {at: STEP * (at // 5) + ahead for at, ahead in ticks if at <= len(whole)}

    def run(edges: set[int]) -> tuple[Engine, list[AnomalyEvent]]:
        engine = fresh(1, (1,), (1, "mean"), (4, 16), transforms, policy)
        events, done = [], 0
        for piece in cut(whole, [*given_at, *edges]):
            events += engine.process([piece]).events
            done += len(piece)
            if done in given_at:
                events += engine.tick(place, given_at[done])
        return engine, events

    one, expected = run(set())
    many, found = run({at for at in cuts if at < len(whole)})
    assert sorted((e.id, repr(e.body())) for e in found) == sorted(
        (e.id, repr(e.body())) for e in expected
    )
    assert len({event.id for event in expected}) == len(expected)
    assert many.digest(place) == one.digest(place)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    policy=st.sampled_from(POLICIES),
    ahead=st.lists(st.integers(1, 10 * 24 * HOUR), min_size=1, max_size=5),
    back=st.integers(0, 500 * STEP),
)
def test_of_ticks_in_a_row_only_the_last_matters_and_an_early_one_changes_nothing(
    seed: int, policy: Policy, ahead: list[int], back: int
) -> None:
    whole, place = stream(seed, 1, 460), Partition("t", 0)
    one, many = (fresh(1, (1,), (1, "mean"), (4, 16), (), policy) for _ in range(2))
    for engine in (one, many):
        engine.process([whole])
    before, reached = many.digest(place), many.reached(place)
    assert reached is not None
    assert many.tick(place, reached - back) == []
    assert many.digest(place) == before
    expected = one.tick(place, reached + max(ahead))
    found = [event for step in sorted(ahead) for event in many.tick(place, reached + step)]
    assert sorted(e.id for e in found) == sorted(e.id for e in expected)
    assert many.digest(place) == one.digest(place)
    assert all(event.at <= reached + max(ahead) for event in found)
