"""The simulated fleet: what its labels say is what its samples show."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from stream_detector.simulation import DAY_MS, Fault, Fleet, Label


def course(fleet: Fleet, index: int) -> np.ndarray:
    """All values of one series, [steps, F]."""
    group = fleet.series[index].machine.group
    chunks = [c for c in fleet.samples(0, fleet.steps) if c.machine.group == group]
    return np.asarray(chunks[0].values[chunks[0].series == index])


def test_every_machine_type_takes_part_with_its_own_features() -> None:
    fleet = Fleet(series=8, minutes=60)
    widths = {m.group: len(m.features) for m in fleet.machines}
    assert widths == {"pump": 5, "turbine": 4, "web": 1}
    assert [len(fleet.members(group)) for group in widths] == [3, 2, 3]
    assert len({s.name for s in fleet.series}) == 8


def test_faults_lie_in_the_part_after_the_normal_one_and_apart_from_each_other() -> None:
    fleet = Fleet(series=20, minutes=6000, anomaly_rate=4, seed=3)
    assert len(fleet.labels) > 100
    assert {label.kind for label in fleet.labels} == set(Fault)
    for label in fleet.labels:
        assert fleet.normal_steps < label.start <= label.end < fleet.steps
        assert label.start_time == fleet.time_of(label.series, label.start)
        assert label.start_time <= label.end_time
    for _, group in itertools.groupby(fleet.labels, key=lambda label: label.series):
        labels = list(group)
        assert all(b.start - a.end >= 180 for a, b in itertools.pairwise(labels))


def test_only_what_the_labels_name_differs_from_the_fleet_without_faults() -> None:
    faulty = Fleet(series=9, minutes=4000, anomaly_rate=4, seed=5)
    normal = Fleet(series=9, minutes=4000, anomaly_rate=0, seed=5)
    assert not normal.labels
    for series in faulty.series:
        differs = course(faulty, series.index) != course(normal, series.index)  # [steps, F]
        expected = np.zeros_like(differs)
        for label in faulty.labels:
            if label.series == series.index:
                columns = [f.name in label.features for f in series.machine.features]
                expected[label.start : label.end + 1] |= np.array(columns)
        assert not (differs & ~expected).any()
        # A reading may meet the normal one by chance, within the sensor's resolution.
        assert differs.sum() > 0.9 * expected.sum()


def deviation(fleet: Fleet, normal: Fleet, label: Label) -> np.ndarray:
    """Deviation of the features concerned from the normal course, in local sigmas, [n, f]."""
    series = fleet.series[label.series]
    columns = [i for i, f in enumerate(series.machine.features) if f.name in label.features]
    difference = course(fleet, label.series) - course(normal, label.series)
    part = difference[label.start : label.end + 1, columns]
    return np.asarray(part / series.sigma[columns])


@pytest.mark.parametrize("kind", list(Fault))
def test_a_fault_is_as_large_as_its_label_says(kind: Fault) -> None:
    faulty = Fleet(series=6, minutes=6000, anomaly_rate=4, seed=11)
    normal = Fleet(series=6, minutes=6000, anomaly_rate=0, seed=11)
    labels = [label for label in faulty.labels if label.kind is kind]
    assert labels
    for label in labels:
        found = deviation(faulty, normal, label)
        if kind in {Fault.SPIKE, Fault.LEVEL_SHIFT}:
            assert np.abs(found) == pytest.approx(label.magnitude, rel=0.02)
        elif kind is Fault.DRIFT:
            assert np.abs(found[-1]) == pytest.approx(label.magnitude, rel=0.02)
            assert np.all(np.abs(found[0]) < label.magnitude / 20)
        elif kind is Fault.NOISE_BURST:
            assert found.std() == pytest.approx(label.magnitude, rel=0.6)
        elif kind is Fault.FREQUENCY_CHANGE:
            # The deviation is largest in the feature that follows the cycle most.
            assert np.sqrt((found**2).mean(axis=0)).max() == pytest.approx(
                label.magnitude, rel=0.25
            )
        else:
            series = faulty.series[label.series]
            column = [f.name for f in series.machine.features].index(label.features[0])
            stuck = course(faulty, label.series)[label.start : label.end + 1, column]
            assert len(label.features) == 1
            assert len(np.unique(stuck)) == 1


def test_a_local_sigma_is_the_standard_deviation_within_a_window() -> None:
    fleet = Fleet(series=8, minutes=3000, anomaly_rate=0, seed=2)
    for series in fleet.series:
        values = course(fleet, series.index)
        windows = [values[i : i + 60].std(axis=0) for i in range(0, len(values), 60)]
        assert np.median(windows, axis=0) == pytest.approx(series.sigma, rel=0.4)


def test_features_of_a_machine_move_together_and_noise_has_memory() -> None:
    fleet = Fleet(series=3, minutes=3000, anomaly_rate=0, seed=4)
    pump = course(fleet, 0)
    together = np.corrcoef(pump.T)
    assert together[1, 4] > 0.6  # pressure and current follow the same load
    web = course(fleet, 2)[:, 0]
    steps = np.diff(web)
    assert np.corrcoef(steps[1:], steps[:-1])[0, 1] > -0.45  # white noise would give -0.5


def test_the_daily_season_follows_the_clock_whatever_the_interval() -> None:
    fleet = Fleet(series=3, minutes=4 * 1440, interval_ms=300_000, anomaly_rate=0, seed=6)
    web = course(fleet, 2)[:, 0]
    day = DAY_MS // 300_000
    assert np.corrcoef(web[:-day], web[day:])[0, 1] > 0.8
    assert np.corrcoef(web[: -day // 2], web[day // 2 :])[0, 1] < 0


def test_web_series_differ_by_orders_of_magnitude() -> None:
    fleet = Fleet(series=40, minutes=60, seed=8)
    centers = [s.center[0] for s in fleet.members("web")]
    assert max(centers) / min(centers) > 100


def test_records_are_the_default_json_contract_in_order_of_time() -> None:
    fleet = Fleet(series=8, minutes=120, seed=9)
    wires = fleet.records(0, 30)
    assert len(wires) == 8 * 30
    assert [w.timestamp for w in wires] == sorted(w.timestamp for w in wires)
    for wire in wires:
        sample = json.loads(wire.value)
        assert sample["series"] == wire.series
        assert sample["timestamp"] == wire.timestamp
        if "web" in wire.series:
            assert isinstance(sample["value"], float)
        else:
            assert len(sample["values"]) in {4, 5}


def test_a_series_keeps_its_course_when_the_fleet_grows() -> None:
    small = Fleet(series=8, minutes=200, anomaly_rate=0, seed=1)
    pump = course(small, 0)
    large = Fleet(series=80, minutes=200, anomaly_rate=0, seed=1)
    assert np.array_equal(pump, course(large, 0))


def test_a_label_has_the_fields_of_the_label_contract() -> None:
    label = Fleet(series=3, minutes=6000, anomaly_rate=4).labels[0]
    body = label.body()
    contract = ("schema_version", "series", "from", "to", "label", "episode_id", "author", "at")
    assert tuple(body)[:8] == contract
    assert body["label"] == "anomaly"
    assert body["kind"] == label.kind.value


@pytest.mark.parametrize(
    "wrong", [{"series": 0}, {"minutes": 0}, {"anomaly_rate": -1}, {"normal_fraction": 2}]
)
def test_impossible_fleets_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Fleet(**wrong)  # type: ignore[arg-type]  # the wrong value is the test
