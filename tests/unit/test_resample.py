"""Resampling: what the steps are, what is said of samples in between, what a hole ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from stream_detector.bundle import BundleError, Registry, Transform
from stream_detector.config import ConfigError, parse_yaml
from stream_detector.core.calibration import prior
from stream_detector.core.engine import Engine
from stream_detector.core.policy import Policy
from stream_detector.core.transforms import transformed
from stream_detector.records import AnomalyEvent, Outcome, Status
from tests.fakes import batch, model
from tests.unit.trainer_cases import MINUTE, fleet, quick, series, wave
from trainer.config import TrainerConfig, TransformRule, Windows
from trainer.data import DataError, Dataset, SeriesData
from trainer.evaluate import scored
from trainer.reading.rows import read
from trainer.train import train, transformed_series

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stream_detector.core.engine import Result

TIMES = np.array([3, 10, 59, 61, 125, 130, 250, 311, 1000, 1065, 1130]) * 1000
VALUES = np.array([1, 3, 2, 7, 5, 4, 6, 8, 9, 2, 0], float)[:, None]
"""Minutes 0, 1, 2, 4, 5, 16, 17 and the last, which nothing completes."""


def every_minute(**changes: object) -> Transform:
    return Transform(kind="resample", every=MINUTE, **changes)  # type: ignore[arg-type]  # mixed


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("mean", [2, 7, 4.5, 4.5, 6, 8, 9, 2]),
        ("last", [2, 7, 4, 4, 6, 8, 9, 2]),
        ("max", [3, 7, 5, 5, 6, 8, 9, 2]),
        ("min", [1, 7, 4, 4, 6, 8, 9, 2]),
        ("sum", [6, 7, 9, 9, 6, 8, 9, 2]),
    ],
)
def test_a_minute_comes_to_what_its_samples_come_to_and_an_empty_one_repeats_it(
    how: str, expected: list[float]
) -> None:
    found = transformed([every_minute(how=how, fill=1)], VALUES, TIMES)
    assert found.values[:, 0].tolist() == expected
    assert (found.timestamp / MINUTE).tolist() == [1, 2, 3, 4, 5, 6, 17, 18]  # their ends
    assert found.breaks.tolist() == [6]


def test_a_hole_longer_than_may_be_filled_is_not_filled_at_all() -> None:
    longer = transformed([every_minute(fill=10)], VALUES, TIMES)
    assert (longer.timestamp / MINUTE).tolist() == list(range(1, 19))
    assert not len(longer.breaks)
    shorter = transformed([every_minute(fill=0)], VALUES, TIMES)
    assert (shorter.timestamp / MINUTE).tolist() == [1, 2, 3, 5, 6, 17, 18]
    assert shorter.breaks.tolist() == [3, 5]


def test_after_a_hole_the_other_transforms_begin_as_at_the_first_step() -> None:
    chain = [every_minute(fill=1), Transform(kind="difference")]
    found = transformed(chain, VALUES, TIMES).values[:, 0]
    assert found.tolist() == [0, 5, -2.5, 0, 1.5, 2, 0, -7]
    chain[1] = Transform(kind="trailing_mean", n=2)
    found = transformed(chain, VALUES, TIMES).values[:, 0]
    assert found.tolist() == [2, 4.5, 5.75, 4.5, 5.25, 7, 9, 5.5]


def test_a_rate_is_per_second_of_the_grid() -> None:
    chain = [every_minute(how="last", fill=0), Transform(kind="rate")]
    times = np.arange(0, 600_000, 20_000) + 7
    found = transformed(chain, times[:, None] / 1000.0, times)
    assert found.values[1:, 0] == pytest.approx(1.0)


def test_what_was_cut_out_of_training_data_is_no_part_of_a_minute() -> None:
    rules, cut = [every_minute(fill=5)], np.array([2])
    found = transformed(rules, VALUES, TIMES, cut)
    assert found.values[:, 0].tolist() == [2, 7, 4.5, 4.5, 6, 8, 9, 2]
    assert found.breaks.tolist() == [6]
    config = TrainerConfig(windows=Windows(transforms=[TransformRule(kind="difference")]))
    jump = SeriesData("s", TIMES[:4], VALUES[:4] ** 2, cut)
    [one] = transformed_series([jump], config)
    assert read(one.values)[:, 0].tolist() == [0, 8, 0, 45]
    assert one.breaks.tolist() == [2]


def test_a_series_of_one_minute_has_no_step() -> None:
    found = transformed([every_minute()], VALUES[:3], TIMES[:3])
    assert found.values.shape == (0, 1)
    assert not len(found.timestamp)
    assert not len(transformed([every_minute()], VALUES[:0], TIMES[:0]).values)


def engine(*then: Transform, policy: Policy | None = None, **changes: object) -> Engine:
    result = Engine("test", policy or Policy(level=7.0))
    chain = [every_minute(**changes), *then]
    result.serve("g", model(known={"s": (0.0, 1.0)}, transforms=chain))
    return result


def three_a_minute(minutes: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    times = np.arange(3 * minutes) * 20_000 + 5_000
    return times, np.random.default_rng(seed).normal(size=3 * minutes)


def opened(result: Result) -> list[AnomalyEvent]:
    return [event for event in result.events if event.status is Status.OPENED]


def test_an_event_speaks_of_the_minute_and_comes_with_the_sample_that_completed_it() -> None:
    times, values = three_a_minute(151)
    values[3 * 149 : 3 * 150] = 60.0, 30.0, 90.0
    result = engine().process([batch(["s"] * len(times), times, values)])
    [event] = opened(result)
    assert event.at == event.started_at == times[3 * 150] == 150 * MINUTE + 5_000
    assert event.offset == 3 * 150
    assert event.observed["value"] == 60.0
    assert (event.window_start, event.window_end) == (90 * MINUTE, 150 * MINUTE)
    [verdicts] = result.verdicts
    assert verdicts.anomalous.tolist() == [False] * 3 * 150 + [True] * 3
    assert (verdicts.outcome == Outcome.ACCEPTED).all()


def test_a_sample_that_completes_nothing_is_given_the_level_of_before() -> None:
    times, values = three_a_minute(130)
    running = Engine("test", Policy(level=7.0))
    served = model(known={"s": (0.0, 1.0)}, transforms=[every_minute()], location=-1.5)
    running.serve("g", served)
    [verdicts] = running.process([batch(["s"] * len(times), times, values)]).verdicts
    level = verdicts.level.reshape(130, 3)
    assert np.isnan(level[:60]).all()
    assert np.isfinite(level[60:]).all()
    np.testing.assert_array_equal(level[60:, 1], level[60:, 0])
    np.testing.assert_array_equal(level[60:, 2], level[60:, 0])
    above = level[60:, 0] > 0
    assert (np.diff(level[60:, 0]) != 0)[above[1:]].all()
    assert above.mean() > 0.5


def test_samples_above_the_threshold_and_quiet_ones_are_counted_by_the_minute() -> None:
    times, values = three_a_minute(200)
    values[3 * 149 : 3 * 151] = 60.0
    whole = batch(["s"] * len(times), times, values)
    patient = Policy(level=7.0, min_length=3, quiet_period=5)
    events = engine(policy=patient).process([whole]).events
    assert opened(engine(policy=Policy(level=7.0, min_length=2)).process([whole]))
    [first] = [event.at for event in events if event.status is Status.OPENED]
    assert first == times[3 * 152]  # the third minute whose window holds it


def test_a_hole_ends_the_windows_and_levels_but_nothing_that_was_learnt() -> None:
    first, values = three_a_minute(130)
    second, more = three_a_minute(70, seed=1)
    running = engine(Transform(kind="trailing_mean", n=3), fill=3)
    running.process([batch(["s"] * len(first), first, values)])
    [slab] = running._slabs.values()
    scores, location = int(slab.scored[0]), float(slab.location[0])
    late = second + 140 * MINUTE
    [verdicts] = running.process([batch(["s"] * len(late), late, more)]).verdicts
    level = verdicts.level.reshape(70, 3)
    assert np.isfinite(level[0]).all()  # it completes the last minute before the hole
    assert np.isnan(level[1:60]).all()
    assert np.isfinite(level[60:]).all()
    assert int(slab.scored[0]) == scores + 1 + 10
    assert abs(float(slab.location[0]) - location) < 0.5
    assert slab.seen[0] == 130 + 69


def test_scores_are_smoothed_within_a_run_only() -> None:
    times, values = three_a_minute(130)
    late = times + 200 * MINUTE
    chain = [every_minute(fill=0)]

    def levels(before: float) -> NDArray[np.float32]:
        running = Engine("test", Policy(level=50.0))
        smooth = model(known={"s": (0.0, 1.0)}, transforms=chain, smoothing=8)
        running.serve("g", smooth)
        running.process([batch(["s"] * len(times), times, values * before)])
        [slab] = running._slabs.values()
        slab.location[:], slab.deviation[:], slab.scored[:] = -3.0, 1.0, 10**6
        slab.memory[:] = prior(2.0, 0.3, 0.01, -3.0)
        [verdicts] = running.process([batch(["s"] * len(late), late, values)]).verdicts
        return verdicts.level[3 * 60 :]

    assert 1.0 < levels(1.0)[0] == pytest.approx(levels(3.0)[0], rel=0.01)


def test_one_sample_that_completes_several_minutes_raises_at_most_one_event() -> None:
    times, values = three_a_minute(150)
    values[-3:] = 30.0, 40.0, 50.0  # repeated for five minutes: the level rises with each
    times, values = np.append(times, 155 * MINUTE + 1), np.append(values, 0.0)
    running = engine(fill=5, how="last")
    result = running.process([batch(["s"] * len(times), times, values)])
    [event] = result.events
    assert (event.status, event.at) == (Status.OPENED, 155 * MINUTE + 1)
    assert event.observed["value"] == 50.0
    assert event.level == result.verdicts[0].level[-1]
    assert next(iter(running._slabs.values())).seen[0] == 155


def test_a_new_series_learns_from_minutes_and_knows_their_length() -> None:
    times, values = three_a_minute(121)
    running = engine()
    running.process([batch(["new"] * len(times), times, 50 + values)])
    [slab] = running._slabs.values()
    assert slab.interval[0] == MINUTE
    means = (50 + values).reshape(-1, 3).mean(axis=1)[:120]
    assert float(slab.anchor[0, 0] + slab.center[0, 0]) == pytest.approx(np.median(means), rel=1e-6)


def test_late_and_missing_values_are_dealt_with_before_the_minutes() -> None:
    times = np.array([5, 25, 15, 25, 45, 65]) * 1000
    values = [[1, 10], [3, np.nan], [100, 100], [100, 100], [5, 30], [0, 0]]
    running = Engine("test", Policy())
    running.serve("g", model(["a", "b"], transforms=[every_minute(how="sum")]))
    [verdicts] = running.process([batch(["s"] * 6, times, np.array(values, float))]).verdicts
    kinds = [Outcome(one).name for one in verdicts.outcome]
    assert kinds == ["ACCEPTED", "ACCEPTED", "LATE", "DUPLICATE", "ACCEPTED", "ACCEPTED"]
    [slab] = running._slabs.values()
    assert slab.anchor[0].tolist() == [1 + 3 + 5, 10 + 10 + 30]


def test_huge_samples_of_a_minute_stay_finite() -> None:
    rule = every_minute(how="sum")
    found = transformed([rule], np.full((400, 1), 1.7e308), np.arange(400) * 1000)
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("[{kind: difference}, {kind: resample, every: 60s}]", "must be the first transform"),
        ("[{kind: resample, every: 1m}, {kind: resample, every: 5m}]", "can be only one"),
        ("[{kind: resample}]", "`every`, a duration such as 60s"),
        ("[{kind: rate, every: 60s}]", "`every`, a duration such as 60s"),
        ("[{kind: resample, every: 0s}]", "resample needs `every` above 0"),
        ("[{kind: resample, every: 60s, fill: 60}]", "windows.transforms"),
        ("[{kind: resample, every: 60s, how: median}]", "windows.transforms"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_with_its_place(rules: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        parse_yaml(f"windows: {{transforms: {rules}}}", TrainerConfig, "trainer.yaml", {})


@pytest.mark.parametrize(
    "rules",
    [
        [Transform(kind="rate"), every_minute()],
        [Transform(kind="resample")],
        [every_minute(fill=60)],
    ],
)
def test_a_bundle_with_a_grid_that_cannot_be_is_refused(
    rules: list[Transform], tmp_path: Path
) -> None:
    manifest = model(transforms=rules).bundle.manifest
    with pytest.raises(BundleError, match="resample"):
        Registry(tmp_path).publish(manifest, {})


def test_transforms_of_older_bundles_mean_what_they_did_and_are_written_as_before() -> None:
    old = b'{"kind":"trailing_mean","n":3}'
    rule = msgspec.json.decode(old, type=Transform)
    assert (rule.every, rule.how, rule.fill) == (0, "mean", 5)
    assert msgspec.json.encode(rule) == old


def config(**changes: object) -> TrainerConfig:
    grid = TransformRule(kind="resample", every="2m", **changes)  # type: ignore[arg-type]  # mixed
    return msgspec.structs.replace(quick(epochs=1), windows=Windows(transforms=[grid]))


def test_the_trainer_knows_series_by_the_grid_and_declares_it() -> None:
    trained = train(fleet(2400), config(how="max"), quiet=True)
    assert trained.manifest.transforms == [Transform(kind="resample", every=2 * MINUTE, how="max")]
    assert trained.manifest.training.rows == 3 * 1199


def test_too_few_steps_are_told_as_such() -> None:
    with pytest.raises(DataError, match="has 199 complete steps after resampling"):
        train(Dataset(["value"], [series("s", wave(400))]), config(), quiet=True)


def test_a_report_shows_the_minute_until_the_next_and_gives_alarms_a_window_of_steps() -> None:
    times, values = three_a_minute(150)
    one = SeriesData("s", times, values[:, None])
    served = model(known={"s": (0.0, 1.0)}, transforms=[every_minute()])
    found = scored(served, Dataset(["value"], [one]), None)
    means = values.reshape(-1, 3).mean(axis=1)
    np.testing.assert_allclose(found.observed[3:, 0], np.repeat(means[:-1], 3), atol=1e-6)
    assert np.isfinite(found.expected[3 * 60 :, 0]).reshape(-1, 3).sum(axis=0).tolist() == [
        90,
        0,
        0,
    ]
    assert found.about.late(20_000) == 60 * MINUTE
    assert found.about.late_samples(20_000) == 180
