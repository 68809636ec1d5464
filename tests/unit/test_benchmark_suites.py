"""Each suite's files as they are published, and its protocol on answers made by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.unit.benchmark_cases import MINUTE, case, says, write_ucr
from trainer.benchmarks.kpi import HOLD
from trainer.benchmarks.nab import RECORD, Nab
from trainer.benchmarks.ranges import GAP, GRACE, RangeSuite
from trainer.benchmarks.skab import TRAIN, Skab
from trainer.benchmarks.suites import SUITES
from trainer.benchmarks.ucr import SLACK, Ucr
from trainer.commands.benchmark import TITLES
from trainer.data import DataError
from trainer.metrics import wilson

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.benchmarks.cases import Case, Suite

START = datetime(2020, 3, 1, tzinfo=UTC)


def clock(step: int, seconds: int) -> str:
    return f"{START + timedelta(seconds=seconds * step):%Y-%m-%d %H:%M:%S}"


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_a_folder_without_files_of_the_suite_says_what_is_missing_and_where_it_comes_from(
    suite: Suite, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match=r"no file of .*https://") as error:
        suite.find(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_every_suite_has_a_command() -> None:
    assert list(TITLES) == list(SUITES)


def test_ucr_reads_the_training_part_and_the_anomaly_from_the_name(tmp_path: Path) -> None:
    path = write_ucr(tmp_path / "ucr", 7, train=300, n=700)
    other = write_ucr(tmp_path / "ucr" / "deeper", 9)
    other.write_text("  ".join(other.read_text().split()))  # some files are one line
    assert Ucr().find(tmp_path) == Ucr().find(tmp_path / "ucr") == [path, other]
    read = Ucr().read(path)
    assert (read.train, read.tested, read.anomalies) == (300, 400, [(500, 520)])
    assert read.truth == [(200, 220)]
    assert len(Ucr().read(other).values) == 1400
    path.write_text("1.0\ntwo\n")
    with pytest.raises(DataError, match="needs numbers"):
        Ucr().read(path)


@pytest.mark.parametrize(
    ("peak", "hit"),
    [(300 - SLACK - 1, False), (300 - SLACK, True), (310, True), (320 + SLACK, True),
     (320 + SLACK + 1, False)],
)  # fmt: skip
def test_ucr_counts_a_largest_score_within_100_points_of_the_anomaly(peak: int, hit: bool) -> None:  # noqa: FBT001
    score = np.zeros(800)
    score[peak] = 1
    judged = Ucr().judge(case(800, [(300, 320)]), says(score, 9))
    assert judged.body == {"hit": hit, "peak": 10 + peak, "anomaly": [310, 330]}


def test_ucr_counts_failed_files_as_missed_and_gives_wilsons_interval() -> None:
    one = case(800, [(300, 320)])
    score = np.zeros(800)
    score[300] = 1
    judged = [Ucr().judge(one, says(score, 9)), Ucr().judge(one, None), Ucr().judge(None, None)]
    assert Ucr().total(judged) == {"accuracy": pytest.approx(1 / 3)}
    assert Ucr().intervals(judged)["accuracy"] == wilson(1, 3)


def write_nab(root: Path) -> Path:
    """One file of 200 rows with a time that comes twice, and a window of rows 120 to 139."""
    path = root / "data" / "real" / "one.csv"
    path.parent.mkdir(parents=True)
    times = [clock(step, 300) for step in range(200)]
    times[50] = times[49]
    lines = [f"{time},{step % 7}.5" for step, time in enumerate(times)]
    path.write_text("timestamp,value\n" + "\n".join(lines) + "\n")
    (root / "labels").mkdir()
    windows = {"real/one.csv": [[f"{times[120]}.000000", f"{times[139]}.000000"]]}
    windows["real/absent.csv"] = []
    (root / "labels" / "combined_windows.json").write_text(json.dumps(windows))
    return path


def test_nab_reads_every_row_and_trains_on_probation(tmp_path: Path) -> None:
    path = write_nab(tmp_path / "nab")
    assert Nab().find(tmp_path) == Nab().find(tmp_path / "nab") == [path]
    read = Nab().read(path)
    assert (read.name, len(read.values), read.train) == ("real/one", 200, 30)
    assert read.anomalies == [(120, 139)]
    labels = tmp_path / "nab" / "labels" / "combined_windows.json"
    labels.write_text('{"real/one.csv": [["2031-01-01 00:00:00", "2031-01-02 00:00:00"]]}')
    with pytest.raises(DataError, match="no row between"):
        Nab().read(path)


def test_nab_tells_an_alarm_once_and_a_fixed_threshold_counts_the_starts_of_episodes(
    tmp_path: Path,
) -> None:
    one = Nab().read(write_nab(tmp_path))
    level = np.ones(one.tested)
    level[90:100] = 5.0  # rows 120 to 129: the window's first half
    level[20:30] = 4.0  # ten rows outside any window
    judged = Nab().judge(one, says(level, 3.0, [(20, 29), (90, 160)]))
    assert judged.body == {"windows": 1, "episodes": 2, "windows_found": 1, "false": 1}
    found = Nab().total([judged])
    assert found["standard"] == pytest.approx(100)
    assert found["standard_threshold"] == 5.0
    assert found["standard_fixed"] == pytest.approx(100 - 50 * 0.11)
    assert found["standard_every_row"] == pytest.approx(100)
    shadowed = np.ones(one.tested)
    shadowed[90 - RECORD : 90] = 5.0  # outside the window, and higher than what follows in it
    shadowed[90:100] = 4.0
    found = Nab().total([Nab().judge(one, says(shadowed, 3.0, [(90 - RECORD, 160)]))])
    assert found["standard"] == 0
    assert found["standard_fixed"] == pytest.approx(-50 * 0.11)


def test_nab_counts_the_windows_of_a_failed_file_as_missed(tmp_path: Path) -> None:
    one = Nab().read(write_nab(tmp_path))
    level = np.where(np.arange(one.tested) == 90, 5.0, 0.0)
    good, bad = Nab().judge(one, says(level, 3.0, [(90, 95)])), Nab().judge(one, None)
    assert Nab().total([good])["standard_fixed"] == pytest.approx(100)
    assert Nab().total([good, bad])["standard_fixed"] == pytest.approx(50)
    assert Nab().total([good, bad])["standard"] == pytest.approx(50)


def write_skab(path: Path, rows: int, anomaly: range) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["datetime;Pressure;Current;anomaly;changepoint"]
    for step in range(rows):
        flags = f"{float(step in anomaly)};{float(step == anomaly.start)}"
        lines.append(f"{clock(step, 1)};{step % 5}.5;{step % 3};{flags}")
    path.write_text("\n".join(lines) + "\n")


def test_skab_reads_labelled_files_and_trains_on_the_first_400_rows(tmp_path: Path) -> None:
    write_skab(tmp_path / "valve1" / "0.csv", 600, range(500, 550))
    write_skab(tmp_path / "other" / "1.csv", 380, range(0))
    (tmp_path / "anomaly-free.csv").write_text("datetime;Pressure\n2020-01-01 00:00:00;1.0\n")
    suite = Skab()
    short, whole = suite.find(tmp_path)
    read = suite.read(whole)
    assert (read.name, read.features) == ("valve1/0", ["Pressure", "Current"])
    assert (read.train, read.tested, read.truth) == (TRAIN, 200, [(100, 149)])
    assert (read.values.shape, read.interval) == ((600, 2), 1000)
    with pytest.raises(DataError, match="380 rows"):
        suite.read(short)


def test_skab_pools_rows_and_a_failed_file_misses_all_of_its_anomaly() -> None:
    suite, one = Skab(), case(100, [(50, 69)])
    said = np.zeros(100)
    said[45:60] = 4.0
    judged = suite.judge(one, says(said, 3.0, [(45, 79)]))
    failed = suite.judge(one, None)
    found = suite.total([judged])
    assert (found["f1"], found["far"]) == pytest.approx((2 * 10 / (20 + 15), 5 / 80))
    assert found["mar"] == pytest.approx(0.5)
    assert (found["episode_far"], found["episode_mar"]) == pytest.approx((15 / 80, 0))
    both = suite.total([judged, failed, suite.judge(None, None)])
    assert (both["far"], both["mar"]) == pytest.approx((5 / 160, 30 / 40))
    low, high = suite.intervals([judged, failed])["f1"]
    assert 0 <= low < both["f1"] < high <= 1


def test_smd_reads_its_published_text_files_and_packed_arrays_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    train, test = rng.random((30, 3)), rng.random((20, 3))
    label = np.zeros(20)
    label[5:8] = 1
    for part, values in (("train", train), ("test", test), ("test_label", label)):
        (tmp_path / "text" / part).mkdir(parents=True)
        np.savetxt(tmp_path / "text" / part / "machine-1-1.txt", values, delimiter=",")
    (tmp_path / "smd").mkdir()
    np.savez(tmp_path / "smd" / "machine-1-1.npz", train=train, test=test, test_label=label)
    suite = SUITES["smd"]
    (text,), (packed,) = suite.find(tmp_path / "text"), suite.find(tmp_path)
    for read in (suite.read(text), suite.read(packed)):
        assert (read.name, read.train, read.tested) == ("machine-1-1", 30, 20)
        assert read.truth == [(5, 7)]
        np.testing.assert_allclose(read.values, np.concatenate([train, test]))
    np.savez(packed, train=train, test=test[:, :2], test_label=label)
    with pytest.raises(DataError, match="machine-1-1"):
        suite.read(packed)


def test_smap_msl_takes_intervals_from_the_table_of_labels(tmp_path: Path) -> None:
    root = tmp_path / "smap_msl"
    for part, rows in (("train", 30), ("test", 50)):
        (root / part).mkdir(parents=True)
        for channel in ("P-1", "M-9"):
            np.save(root / part / f"{channel}.npy", np.ones((rows, 2)))
    labels = root / "labeled_anomalies.csv"
    labels.write_text(
        "chan_id,spacecraft,anomaly_sequences,class,num_values\n"
        'P-1,SMAP,"[[5, 9], [20, 60]]","[point, point]",50\n'
        'P-1,SMAP,"[[7, 12]]",[contextual],50\n'
    )
    suite = SUITES["smap_msl"]
    (path,) = suite.find(tmp_path)  # M-9 has no labels
    read = suite.read(path)
    assert (read.name, read.group, read.truth) == ("P-1", "smap", [(5, 12), (20, 49)])
    np.savez(root / "P-1.npz", train=np.ones((30, 2)), test=np.ones((50, 2)))
    packed = suite.read(root / "P-1.npz")
    assert (packed.truth, packed.values.shape) == (read.truth, read.values.shape)
    labels.write_text("chan_id,spacecraft\nP-1,SMAP\n")
    with pytest.raises(DataError, match="anomaly_sequences"):
        suite.find(tmp_path)


def write_kpi(path: Path, *, packed: bool) -> None:
    label = np.zeros(40)
    label[10:15] = 1
    parts = {
        "train": np.arange(60.0), "test": np.arange(40.0), "test_label": label,
        "train_timestamp": 60.0 * np.arange(60), "test_timestamp": 60.0 * np.arange(60, 100),
    }  # fmt: skip
    if packed:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **parts)  # type: ignore[arg-type]  # names of arrays are free
        return
    path.mkdir(parents=True)
    for name, values in parts.items():
        np.save(path / f"{name}.npy", values)


def test_kpi_reads_both_collections_below_one_folder_or_one_alone(tmp_path: Path) -> None:
    write_kpi(tmp_path / "aiops_kpi" / "x.npz", packed=True)
    write_kpi(tmp_path / "WSD" / "3", packed=False)
    suite = SUITES["kpi"]
    found = [suite.read(path) for path in suite.find(tmp_path)]
    assert [(one.name, one.group) for one in found] == [("wsd/3", "wsd"), ("aiops/x", "aiops")]
    assert [one.truth for one in found] == [[(10, 14)], [(10, 14)]]
    assert [one.interval for one in found] == [MINUTE, MINUTE]
    assert len(suite.find(tmp_path / "aiops_kpi")) == 1


def ranges(tested: int, *anomalies: tuple[int, int], group: str = "") -> Case:
    return case(tested, anomalies, group=group)


def test_range_suites_judge_episodes_as_they_were_told() -> None:
    one = ranges(1440, (100, 119), (500, 519), (900, 919))
    score = np.zeros(1440)
    score[100:120] = 1
    episodes = [
        (105, 110), (110 + GAP, 125), (519 + GRACE, 560), (919 + GRACE + 1, 990), (1300, 1310),
    ]  # fmt: skip
    body = RangeSuite().judge(one, says(score, 0.5, episodes)).body
    assert (body["anomalies"], body["alarms"], body["found"]) == (3, 4, 2)
    assert body["event_f1"] == pytest.approx(2 * 2 / (3 + 4))
    assert body["detection_delay"] == pytest.approx((5 + 19 + GRACE) / 2)
    assert body["false_alarms_per_day"] == pytest.approx(2)
    inside = sum(last - first + 1 for first, last in episodes)
    assert body["alarm_share"] == pytest.approx(inside / 1440)
    assert 0 < body["vus_pr"] < 1
    assert body["auc_pr"] == pytest.approx(1 / 3 + 2 / 3 * 60 / 1440, abs=0.01)


def test_kpi_holds_the_scores_of_every_detector_alike_and_tells_them_unheld_too() -> None:
    one = ranges(1440, (100, 119))
    spike = np.zeros(1440)
    spike[100] = 1
    held = np.zeros(1440)
    held[100 : 100 + HOLD] = 1
    suite = SUITES["kpi"]
    found = suite.judge(one, says(spike, 0.5, [])).body
    assert found["vus_pr"] == RangeSuite().judge(one, says(held, 0.5, [])).body["vus_pr"]
    assert found["vus_pr_unheld"] == RangeSuite().judge(one, says(spike, 0.5, [])).body["vus_pr"]
    assert found["vus_pr_unheld"] < 0.5 * found["vus_pr"]
    assert not any("held" in name for name in suite.baselines)


def test_range_suites_average_over_files_and_groups_and_count_failed_ones() -> None:
    suite = RangeSuite()
    score = np.zeros(300)
    score[100:120] = 1
    found = suite.judge(ranges(300, (100, 119), group="a"), says(score, 0.5, [(100, 119)]))
    missed = suite.judge(ranges(300, (100, 119), group="b"), None)
    quiet = suite.judge(ranges(300, group="b"), says(score, 0.5, [(100, 119)]))
    unread = suite.judge(None, None)
    metrics = suite.total([found, missed, quiet, unread])
    assert metrics["event_f1"] == pytest.approx(1 / 3)
    assert (metrics["a_event_f1"], metrics["b_event_f1"]) == (1, 0)
    # Two anomalies, two alarms, of which the one without an anomaly counts too.
    assert metrics["event_f1_pooled"] == pytest.approx(2 / 4)
    assert metrics["detection_delay"] == 0
    day = 86_400_000 / (300 * MINUTE)
    assert metrics["false_alarms_per_day"] == pytest.approx(day / 2)
    assert "event_f1" not in quiet.body  # nothing was there to find
    low, high = suite.intervals([found, missed, quiet, unread])["event_f1"]
    assert low < 1 / 3 < high
