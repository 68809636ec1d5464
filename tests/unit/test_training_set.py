"""Files -> what is learnt from: the same in memory and in temporary files, without anomalies."""

from __future__ import annotations

import datetime as dt
import errno
import gc
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

import trainer.reading.intake
import trainer.reading.merging
import trainer.reading.rows
from stream_detector.bundle import SERIES, SeriesTable
from tests.unit.trainer_cases import MINUTE, START, quick, wave
from trainer.config import ModelChoice, Split, TransformRule, Windows
from trainer.config.data import Data, LabelRule
from trainer.data import DataError, SeriesData
from trainer.reading.marks import UCR
from trainer.reading.rows import joined, read
from trainer.reading.spool import RowFile
from trainer.reading.training_set import StoredSeries, training_set
from trainer.train import train

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.config import TrainerConfig
    from trainer.reading.rows import Series
    from trainer.train import Trained

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ROWS = 24_000


@pytest.fixture(scope="module")
def untidy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two series, over a MiB: out of order, with repeated times, holes and labelled anomalies."""
    folder = tmp_path_factory.mktemp("untidy")
    rng = np.random.default_rng(5)
    for name, size in (("a", 1.0), ("b", 1000.0)):
        values = np.stack([wave(ROWS, 1, size), wave(ROWS, 2, 3 * size)], axis=1)
        fault = np.zeros(ROWS, np.int64)
        for at in (3000, 18_000, 23_000):
            values[at : at + 30] += 50 * size
            fault[at : at + 30] = 1
        order = np.argsort(np.arange(ROWS) + rng.normal(0, 500, ROWS))
        order = np.insert(order, rng.integers(0, ROWS, 200), rng.integers(0, ROWS, 200))
        lines = ["series,timestamp,x,y,fault"]
        for row in order.tolist():
            x, y = values[row] + rng.normal(0, 1e-3)  # so that repeated times differ
            cell = "" if row % 97 == 0 or 5000 <= row < 5010 else repr(float(x))
            lines.append(f"{name},{START + MINUTE * row},{cell},{float(y)!r},{fault[row]}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def trained(path: Path, config: TrainerConfig, *, stored: bool, **data: Any) -> Trained:
    given = Data(features=["x", "y"], memory=1 if stored else 64, **data)
    found = training_set(path, given)
    kinds = {type(one) for one in found.series}
    assert kinds == {StoredSeries if stored else SeriesData}
    return train(found, config, quiet=True, now=NOW)


@pytest.mark.parametrize(
    ("scaling", "piece"),
    [("standard", trainer.reading.rows.PIECE_VALUES), ("minmax", 3000), ("robust", 3000)],
)
def test_a_bundle_is_the_same_to_the_bit_wherever_the_samples_lie(
    untidy: Path, scaling: Any, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (trainer.reading.rows, trainer.reading.intake, trainer.reading.merging):
        monkeypatch.setattr(module, "PIECE_VALUES", piece)
    labels = LabelRule(column="fault")
    config = msgspec.structs.replace(
        quick(epochs=1),
        scaling=scaling,
        windows=Windows(
            scales=[1, 3],
            stride=2,
            max_windows=500,
            local=True,
            clip=5.0,
            transforms=[
                TransformRule(kind="resample", every="2m"),
                TransformRule(kind="trailing_mean", n=4),
                TransformRule(kind="difference"),
            ],
        ),
    )
    first, second = (
        trained(untidy, config, stored=stored, labels=labels, missing="interpolate")
        for stored in (False, True)
    )
    assert first.manifest == second.manifest
    assert first.files == second.files


def test_a_model_that_is_solved_at_once_is_the_same_too(untidy: Path) -> None:
    config = msgspec.structs.replace(
        quick(), model=ModelChoice(name="pca"), windows=Windows(scales="auto")
    )
    labels = LabelRule(column="fault")
    first, second = (
        trained(untidy, config, stored=stored, labels=labels) for stored in (False, True)
    )
    assert first.files == second.files
    assert first.manifest.training.rows == second.manifest.training.rows > 2 * ROWS - 2000


def test_temporary_files_are_gone_with_the_last_of_their_series(untidy: Path) -> None:
    def temporary() -> int:
        links = Path("/proc/self/fd").iterdir()
        return sum("(deleted)" in str(link.readlink()) for link in links if link.is_symlink())

    before = temporary()
    found = training_set(untidy, Data(features=["x", "y"], memory=1))
    some = found.series[0].values[5:7]
    del found
    assert temporary() > before
    assert read(some).shape == (2, 2)
    del some
    gc.collect()
    assert temporary() == before


def test_a_full_disk_is_an_error_that_names_the_folder_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full:
        def write(self, data: object) -> int:  # noqa: ARG002  as of a file
            raise OSError(errno.ENOSPC, "No space left on device")

    file = RowFile(np.float64, (2,))
    monkeypatch.setattr(file, "_file", Full())
    with pytest.raises(DataError, match=r"No space left on device; let TMPDIR name a folder"):
        file.append(np.zeros((3, 2)))


def test_rows_that_are_joined_are_read_across_their_seams() -> None:
    file = RowFile(np.float64, (1,))
    file.append(np.arange(10.0)[:, None])
    both = joined([file.rows(0, 3), np.arange(20.0, 25.0)[:, None], file.rows(8, 10)])
    whole = [0, 1, 2, 20, 21, 22, 23, 24, 8, 9]
    assert both.shape == (10, 1)
    for start in range(11):
        for stop in range(start, 11):
            assert read(both[start:stop])[:, 0].tolist() == whole[start:stop]
    assert read(both[2:9][1:-1])[:, 0].tolist() == whole[3:8]


def write(path: Path, values: NDArray[np.float64], labels: NDArray[np.int64] | None = None) -> None:
    lines = ["timestamp,x" + (",fault" if labels is not None else "")]
    for row, value in enumerate(values.tolist()):
        label = "" if labels is None else f",{labels[row]}"
        lines.append(f"{START + MINUTE * row},{value}{label}")
    path.write_text("\n".join(lines) + "\n")


def learnt(one: Series) -> list[int]:
    """Numbers of the samples that are left, whose values are their numbers."""
    return [round(value) for value in read(one.values)[:, 0].tolist()]


def test_labelled_anomalies_are_left_out_with_a_margin_and_break_the_series(
    tmp_path: Path,
) -> None:
    fault = np.zeros(100, np.int64)
    fault[[0, 30, 31, 36, 98]] = 1
    path = tmp_path / "pump.csv"
    write(path, np.arange(100.0), fault)
    found = training_set(path, Data(labels=LabelRule(column="fault"), margin=2))
    (one,) = found.series
    assert learnt(one) == [*range(3, 28), *range(39, 96)]
    assert one.breaks.tolist() == [25]
    assert found.left_out == 18
    assert found.features == ["x"]


def test_a_file_of_labels_does_the_same(tmp_path: Path) -> None:
    path, labels = tmp_path / "pump.csv", tmp_path / "labels.ndjson"
    write(path, np.arange(100.0))
    lines = [
        {"series": "pump", "from": START + MINUTE * 30, "to": START + MINUTE * 31},
        {"series": "pump", "from": START, "to": START + MINUTE * 99, "label": "maintenance"},
        {"series": "other", "from": START, "to": START + MINUTE * 99},
    ]
    labels.write_text("\n".join(map(json.dumps, lines)))
    found = training_set(path, Data(labels=LabelRule(file=str(labels)), margin=5))
    (one,) = found.series
    assert learnt(one) == [*range(25), *range(37, 100)]
    assert one.breaks.tolist() == [25]


def test_of_files_named_as_in_the_ucr_archive_only_the_training_part_is_learnt(
    tmp_path: Path,
) -> None:
    path = tmp_path / "001_UCR_Anomaly_WAVE_40_60_70.txt"
    path.write_text("\n".join(map(str, range(100))))
    assert UCR.search(path.stem) is not None
    config = Data(labels=LabelRule(names="ucr"))
    found = training_set(path, config)
    assert learnt(found.series[0]) == list(range(40))
    assert found.left_out == 60
    path.rename(tmp_path / "wave.txt")
    with pytest.raises(DataError, match=r"series wave: .* does not end in _TRAINEND_START_END"):
        training_set(tmp_path, config)


def test_without_labels_nothing_is_said_to_be_left_out(tmp_path: Path) -> None:
    write(tmp_path / "pump.csv", np.arange(10.0))
    found = training_set(tmp_path, Data())
    assert found.left_out is None
    assert found.rows == 10


def test_where_all_is_anomalous_the_error_says_where_to_look(tmp_path: Path) -> None:
    write(tmp_path / "pump.csv", np.arange(10.0), np.ones(10, np.int64))
    with pytest.raises(DataError, match="no complete samples"):
        training_set(tmp_path, Data(labels=LabelRule(column="fault")))


def test_no_window_of_training_calibration_or_golden_ones_sees_a_labelled_anomaly(
    tmp_path: Path,
) -> None:
    values = wave(3000)
    fault = np.zeros(3000, np.int64)
    for at in (500, 2200, 2700):  # of training, validation, calibration
        values[at : at + 10] = 1e9
        fault[at : at + 10] = 1
    write(tmp_path / "pump.csv", values, fault)
    found = training_set(tmp_path, Data(labels=LabelRule(column="fault")))
    made = train(found, quick(epochs=1), quiet=True)
    assert made.manifest.metrics["held_out_error"] < 5
    assert made.manifest.metrics["validation_error_1"] < 5
    found = training_set(tmp_path, Data())
    spoilt = train(found, quick(epochs=1), quiet=True)
    assert spoilt.manifest.training.rows == 3000
    assert made.manifest.training.rows == 3000 - 3 * 130


def test_transforms_do_not_look_back_across_what_was_left_out(tmp_path: Path) -> None:
    values = np.concatenate([wave(1500), wave(1500, 1) + 1e6])
    fault = np.zeros(3000, np.int64)
    fault[1500] = 1
    write(tmp_path / "pump.csv", values, fault)
    config = msgspec.structs.replace(
        quick(epochs=1),
        windows=Windows(transforms=[TransformRule(kind="difference")]),
        scaling="minmax",
        split=Split(train=0.8, validation=0.1),
    )
    found = training_set(tmp_path, Data(labels=LabelRule(column="fault"), margin=0))
    made = train(found, config, quiet=True)
    assert SeriesTable.from_bytes(made.files[SERIES]).scale.item() < 10
