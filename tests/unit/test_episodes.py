"""Each rule of episodes by itself, on streams that a reader can follow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from stream_detector.bundle import Tail
from stream_detector.core.engine import Engine, Result
from stream_detector.core.episode import Episode, Now, Window
from stream_detector.core.episodes.gates import Peaks, is_logarithmic
from stream_detector.core.policy import DAY, HOUR, Policy
from stream_detector.core.serving import Serving
from stream_detector.core.slab import WINDOW
from stream_detector.records import NO_OFFSET, AnomalyEvent, Batch, Kind, Partition, Status
from tests.fakes import batch, cut, model

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP = 60_000
KNOWN = {"s": (0.0, 1.0)}
LEVEL = Policy(level=3.0)


def engine(policy: Policy = LEVEL, **options: object) -> Engine:
    made = Engine("test", policy)
    made.serve("g", model(**({"known": KNOWN} | options)))  # type: ignore[arg-type]
    return made


def noise(count: int, seed: int = 0) -> list[float]:
    return [float(value) for value in np.random.default_rng(seed).normal(size=count)]


def samples(values: list[float], start: int = 0, series: str = "s") -> Batch:
    times = [(start + i) * STEP for i in range(len(values))]
    return batch([series] * len(values), times, values, first_offset=start)


def of(result: Result, kind: Kind) -> list[AnomalyEvent]:
    return [event for event in result.events if event.kind is kind]


def told(result: Result, kind: Kind) -> list[tuple[Status, int, str | None]]:
    """Status, sample and reason of each event that is no repetition."""
    return [
        (event.status, event.at // STEP, event.close_reason)
        for event in of(result, kind)
        if event.status is not Status.UPDATED
    ]


def anomalies(values: list[float], policy: Policy, **options: object) -> list[AnomalyEvent]:
    result = engine(policy, **options).process([samples(values)])
    return [event for event in of(result, Kind.ANOMALY) if event.status is Status.OPENED]


class TestPeak:
    policy = replace(LEVEL, close_below=0.3, peak_half_life=10_000, flatline_after=None)

    def test_an_episode_ends_at_a_share_of_its_peak_while_the_level_is_still_high(self) -> None:
        # Of the window's mean square and the newest square: the newest falls first.
        values = [*noise(150), 1000.0, *noise(100, 1)]
        policy = replace(self.policy, close_below=0.9)
        result = engine(policy).process([samples(values)])
        assert told(result, Kind.ANOMALY) == [
            (Status.OPENED, 150, None),
            (Status.CLOSED, 151, "recovered"),
        ]
        flags = result.verdicts[0].anomalous
        assert flags[150]
        assert not flags[151:].any()
        assert (result.verdicts[0].level[151:200] > 3.0).all()

    def test_without_it_the_same_level_keeps_the_episode_open(self) -> None:
        values = [*noise(150), 1000.0, *noise(100, 1)]
        result = engine(LEVEL).process([samples(values)])
        assert result.verdicts[0].anomalous[150:200].all()

    def test_only_a_score_above_the_share_of_the_peak_opens_anew(self) -> None:
        values = [*noise(150), 90.0, *noise(30, 1), 30.0, *noise(30, 2), 95.0]
        policy = replace(self.policy, close_below=0.9)
        starts = [event.at // STEP for event in anomalies(values, policy)]
        assert starts == [150, 212]

    def test_a_peak_fades_with_its_half_life(self) -> None:
        values = [*noise(150), 90.0, *noise(100, 1), 30.0]
        kept = replace(self.policy, close_below=0.9)
        assert [e.at // STEP for e in anomalies(values, kept)] == [150]
        faded = anomalies(values, replace(kept, peak_half_life=20))
        assert 251 in [event.at // STEP for event in faded]

    def test_logarithms_are_compared_on_their_natural_scale(self) -> None:
        plain = model().bundle.manifest.experts
        tail = Tail(at=1.0, excess=1.0, shape="log")
        logs = [msgspec.structs.replace(expert, tail=tail) for expert in plain]
        assert is_logarithmic(logs)
        assert not is_logarithmic([*logs[:1], *plain[1:]])
        slab = Serving(model(), LEVEL).slab()
        row = slab.add("s")
        window, now = Window(1, 0, 0, {}, {}), Now(0, 0, 5.0, 9.0, 1000, {})
        for logarithmic, falls in ((True, True), (False, False)):
            episode = Episode(Kind.ANOMALY, 0, window, now)
            peaks = Peaks(slab, replace(LEVEL, close_below=0.1), logarithmic=logarithmic)
            assert not peaks.fell(row, episode, 9.0, 1)
            # A third less as a logarithm is 20 times less of the score.
            assert peaks.fell(row, episode, 6.0, 2) is falls


def test_a_quiet_period_of_one_ends_an_episode_with_the_first_calm_sample() -> None:
    values = [*noise(150), 25.0, *noise(100, 1)]
    result = engine(replace(LEVEL, quiet_period=1)).process([samples(values)])
    first_calm = 150 + int(np.argmax(result.verdicts[0].level[150:] < 3.0))
    assert told(result, Kind.ANOMALY)[:2] == [
        (Status.OPENED, 150, None),
        (Status.CLOSED, first_calm, "recovered"),
    ]


def test_an_anomaly_within_the_windows_of_one_that_is_over_is_found_and_says_so() -> None:
    values = [*noise(150), 1000.0, *noise(30, 1), 1500.0, *noise(200, 2), 1000.0]
    policy = replace(LEVEL, close_below=0.9, peak_half_life=10)
    found = [(e.at // STEP, e.contaminated) for e in anomalies(values, policy)]
    assert (150, False) in found
    assert (181, True) in found
    assert (382, False) in found


@pytest.mark.parametrize(
    ("changes", "value", "reason"),
    [
        ({"direction": "above"}, -40.0, "direction"),
        ({"direction": "below"}, 40.0, "direction"),
        ({"min_absolute": (("value", 50.0),)}, 40.0, "deviation"),
        ({"min_relative": 50.0}, 40.0, "deviation"),
        ({"direction": "above", "min_absolute": (("value", 50.0),)}, 40.0, "deviation"),
    ],
)
def test_a_filter_holds_an_anomaly_back_and_counts_it_once(
    changes: dict[str, object], value: float, reason: str
) -> None:
    policy = replace(LEVEL, flatline_after=None, **changes)  # type: ignore[arg-type]
    values = [*noise(150), *[value] * 5]
    result = engine(policy).process([samples(values)])
    assert not result.events
    assert result.suppressed == {reason: 1}
    assert not result.verdicts[0].anomalous.any()


def test_an_anomaly_that_was_held_back_opens_with_the_first_sample_that_passes() -> None:
    policy = replace(LEVEL, min_absolute=(("value", 50.0),))
    [event] = anomalies([*noise(150), 20.0, 30.0, 70.0], policy)
    assert event.at == 152 * STEP


def test_one_feature_that_deviates_enough_is_enough() -> None:
    values = np.random.default_rng(0).normal(size=(151, 2))
    values[150] = (-40.0, 30.0)
    policy = replace(LEVEL, direction="above", min_absolute=(("a", 100.0), ("b", 20.0)))
    made = engine(policy, features=("a", "b"))
    result = made.process([batch(["s"] * 151, np.arange(151) * STEP, values)])
    assert told(result, Kind.ANOMALY) == [(Status.OPENED, 150, None)]


class TestFlatline:
    def test_a_value_that_is_stuck_raises_one_flatline_until_it_moves(self) -> None:
        values = [*noise(200), *[0.5] * 100, *noise(20, 1)]
        result = engine().process([samples(values)])
        assert told(result, Kind.FLATLINE) == [
            (Status.OPENED, 259, None),
            (Status.CLOSED, 300, "recovered"),
        ]
        first = of(result, Kind.FLATLINE)[0]
        assert first.observed == {"value": 0.5}
        assert first.contribution == {"value": 1.0}
        assert first.window_start == 200 * STEP
        assert not result.verdicts[0].anomalous.any()
        assert len({event.episode_id for event in of(result, Kind.FLATLINE)}) == 1

    def test_it_repeats_itself_while_it_lasts(self) -> None:
        result = engine().process([samples([*noise(200), *[0.5] * 200])])
        assert len([e for e in of(result, Kind.FLATLINE) if e.status is Status.UPDATED]) == 14

    def test_five_times_the_longest_run_of_the_first_samples_are_needed(self) -> None:
        values = np.array(noise(200))
        values[50:70] = values[50]
        stuck = [*values.tolist(), *[0.5] * 120]
        result = engine().process([samples(stuck)])
        assert told(result, Kind.FLATLINE) == [(Status.OPENED, 299, None)]

    def test_a_feature_that_was_mostly_constant_never_raises_it(self) -> None:
        counts = [float(i % 10 == 0) for i in range(200)]
        result = engine().process([samples([*counts, *[0.0] * 2000])])
        assert not of(result, Kind.FLATLINE)

    def test_calm_runs_make_longer_ones_normal_by_one_sample_each(self) -> None:
        values = noise(130)
        for length in (20, 20, 20):
            values += [*[values[-1] + 0.1] * length, *noise(3, length)]
        result = engine().process([samples([*values, *[0.5] * 60])])
        # From 1 to 4: the least length counts, and a creeping fault gains nothing.
        assert told(result, Kind.FLATLINE) == [(Status.OPENED, len(values) + 59, None)]

    def test_a_feature_that_was_zero_at_times_rests_there_and_is_not_stuck(self) -> None:
        values = [*noise(60), 0.0, *noise(139, 1)]
        assert not of(engine().process([samples([*values, *[0.0] * 900])]), Kind.FLATLINE)
        stuck = engine().process([samples([*values, *[0.5] * 900])])
        assert told(stuck, Kind.FLATLINE) == [(Status.OPENED, 259, None)]

    def test_what_comes_every_night_is_told_a_few_times_only(self) -> None:
        values = noise(200)
        for night in range(6):
            values += [*[0.5] * 700, *noise(100, night)]
        result = engine().process([samples(values)])
        opened = [at for status, at, _ in told(result, Kind.FLATLINE) if status is Status.OPENED]
        assert [(at - 200) // 800 for at in opened] == [0, 1, 2]
        assert [(at - 199) % 800 for at in opened] == [60, 300, 600]

    def test_held_values_are_no_evidence(self) -> None:
        values = np.random.default_rng(0).normal(size=(300, 2))
        values[200:, 1] = 0.5
        values[200:290:2, 1] = np.nan
        made = engine(features=("a", "b"))
        result = made.process([batch(["s"] * 300, np.arange(300) * STEP, values)])
        assert not of(result, Kind.FLATLINE)

    def test_it_may_be_open_beside_an_anomaly(self) -> None:
        result = engine().process([samples([*noise(200), *[50.0] * 100])])
        assert told(result, Kind.FLATLINE) == [(Status.OPENED, 259, None)]
        assert told(result, Kind.ANOMALY) == [(Status.OPENED, 200, None)]

    def test_null_looks_for_none(self) -> None:
        made = engine(replace(LEVEL, flatline_after=None))
        assert not of(made.process([samples([*noise(200), *[0.5] * 500])]), Kind.FLATLINE)


class TestSilence:
    def test_it_opens_at_its_deadline_and_ends_with_the_next_sample(self) -> None:
        made = engine()
        made.process([samples(noise(150))])
        result = made.process([samples(noise(100), 150, series="other")])
        [event] = of(result, Kind.SILENCE)
        assert (event.status, event.series, event.at) == (Status.OPENED, "s", 149 * STEP + HOUR)
        assert event.offset == NO_OFFSET
        [event] = of(made.process([samples([0.0], 250)]), Kind.SILENCE)
        assert (event.status, event.close_reason, event.at) == (
            Status.CLOSED,
            "recovered",
            250 * STEP,
        )
        assert event.seq == 1

    def test_it_is_the_same_if_one_batch_holds_it_all(self) -> None:
        parts = [samples(noise(150)), samples(noise(100), 150, "other"), samples([0.0], 250)]
        whole = batch(
            [name for part in parts for name in part.series],
            np.concatenate([part.timestamp for part in parts]),
            np.concatenate([part.values for part in parts]),
        )
        one, many = engine(), engine()
        events = one.process([whole]).events
        pieces = [e for part in cut(whole, [150, 220, 250]) for e in many.process([part]).events]
        assert [(e.id, e.seq) for e in events] == [(e.id, e.seq) for e in pieces]
        assert len(events) == 2
        assert one.digest(Partition("t", 0)) == many.digest(Partition("t", 0))

    def test_a_young_series_and_a_switch_raise_none(self) -> None:
        for policy, known in ((LEVEL, {}), (replace(LEVEL, silence=False), KNOWN)):
            made = engine(policy, known=known)
            made.process([samples(noise(150))])
            assert not made.process([samples(noise(100), 150, series="other")]).events

    def test_a_series_that_is_forgotten_ends_it(self) -> None:
        made = engine(replace(LEVEL, evict_after=3 * HOUR))
        made.process([samples(noise(150))])
        result = made.process([samples(noise(300), 150, series="other")])
        assert [(e.status, e.close_reason) for e in of(result, Kind.SILENCE)] == [
            (Status.OPENED, None),
            (Status.CLOSED, "evicted"),
        ]

    def test_calm_batches_look_at_no_row(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = engine()
        made.process([samples(noise(30))])
        [slab] = made._slabs.values()
        looked, rows = [], slab.rows_in_use

        def look() -> NDArray[np.int64]:
            looked.append(1)
            return rows()

        monkeypatch.setattr(slab, "rows_in_use", look)
        for minute in range(30, 150):
            made.process([samples([0.0], minute)])
        assert len(looked) <= 3


def test_a_lasting_anomaly_ends_as_a_regime_that_closes_when_the_series_is_mature() -> None:
    policy = Policy(level=5.0, regime_change_after=3 * HOUR)
    values = [*noise(150), *(40 + np.array(noise(900, 1))).tolist()]
    result = engine(policy).process([samples(values)])
    anomaly, regime = told(result, Kind.ANOMALY), told(result, Kind.REGIME)
    assert anomaly == [(Status.OPENED, 150, None), (Status.CLOSED, 330, "regime_change")]
    assert [(status, reason) for status, _, reason in regime] == [
        (Status.OPENED, None),
        (Status.CLOSED, "recovered"),
    ]
    assert regime[0][1] == 330
    assert regime[1][1] >= 330 + 120


def test_calm_series_raise_no_other_kind_in_ten_days() -> None:
    rng = np.random.default_rng(5)
    count = 10 * DAY // STEP
    smooth = np.round(rng.normal(size=count).cumsum() * 0.05, 1) * 0.02 + rng.normal(size=count)
    result = engine(Policy(level=50.0)).process([samples(np.round(smooth, 1).tolist())])
    assert count > WINDOW
    assert not [e for e in result.events if e.kind is not Kind.ANOMALY]
