"""`stream-trainer evaluate`: alarms of a bundle on files, and how they answer labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from stream_detector.adapters.torch_scorer import load_model
from stream_detector.bundle import Registry
from trainer.cli import run
from trainer.config.data import Data
from trainer.data import DataError, load
from trainer.evaluate import label_column, read_labels, scored

if TYPE_CHECKING:
    from pathlib import Path

STEP = 60_000
FAULTS = {"a": [(2600, 2660), (2850, 2852)], "b": []}


def wave(name: str, n: int) -> np.ndarray:  # [n] float64
    rng = np.random.default_rng(ord(name))
    values = 50 + 10 * np.sin(np.arange(n) / 5) + rng.normal(0, 1, n)
    for start, stop in FAULTS[name]:
        values[start:stop] += 40
    return values


def write(path: Path, start: int, stop: int) -> None:
    """Series a and b with a column that marks the faults."""
    lines = ["series,timestamp,temp,fault"]
    for name, faults in FAULTS.items():
        for step, value in enumerate(wave(name, stop)[start:], start):
            flag = int(any(a <= step < b for a, b in faults))
            lines.append(f"{name},{1_767_225_600_000 + STEP * step},{value:.4f},{flag}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluate")
    write(root / "normal.csv", 0, 2000)
    write(root / "later.csv", 2000, 3000)
    (root / "trainer.yaml").write_text(
        "data: {features: [temp]}\nmodel: {name: dense_autoencoder}\n"
        "fit: {epochs: 15, device: cpu, threads: 1}\ncalibration: {alarm_budget: 0.5}\n"
    )
    data, config = root / "normal.csv", root / "trainer.yaml"
    arguments = ["--data", str(data), "--config", str(config), "--out", str(root / "registry")]
    assert run(["fit", "--json", *arguments]) == 0
    return root


def evaluate(files: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, object]:
    capsys.readouterr()
    arguments = ["--bundle", str(files / "registry"), "--data", str(files / "later.csv")]
    assert run(["evaluate", "--json", *arguments, *more]) == 0
    body = msgspec.json.decode(capsys.readouterr().out)
    assert isinstance(body, dict)
    return body


def test_faults_marked_by_a_column_are_found(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = evaluate(files, capsys, "--label-column", "fault")
    assert (body["series"], body["samples"], body["labelled"]) == (2, 2000, 2)
    assert body["recall"] == 1.0
    assert isinstance(body["precision"], float)
    assert body["precision"] >= 0.5
    assert body["series_days"] == pytest.approx((2000 - 2 * 59) * STEP / 86_400_000)


def test_faults_named_by_a_file_of_labels_are_found(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = files / "labels.ndjson"
    lines = [
        {"series": "a", "from": 1_767_225_600_000 + STEP * 2600, "to": "2026-01-02T20:19:00Z"},
        {"series": "a", "from": 0, "to": 1, "label": "maintenance"},
        {"series": "stranger", "from": 0, "to": 1, "label": "anomaly"},
    ]
    labels.write_bytes(b"\n".join(msgspec.json.encode(line) for line in lines))
    body = evaluate(files, capsys, "--labels", str(labels))
    assert (body["labelled"], body["recall"]) == (1, 1.0)


def test_without_labels_there_are_rates_and_no_recall(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = evaluate(files, capsys)
    assert body["labelled"] is None
    assert body["recall"] is None
    assert body["precision"] is None
    episodes, days = body["episodes"], body["series_days"]
    assert isinstance(episodes, int)
    assert isinstance(days, float)
    assert body["episodes_per_series_day"] == pytest.approx(episodes / days)
    assert (
        run(["evaluate", "--bundle", str(files / "registry"), "--data", str(files / "later.csv")])
        == 0
    )
    assert "episodes" in capsys.readouterr().out


def test_bad_arguments_exit_with_2_and_a_registry_without_bundle_with_1(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "--bundle", str(files), "--data", str(tmp_path / "none")]) == 2
    assert run(["evaluate", "--bundle", str(tmp_path), "--data", str(files / "later.csv")]) == 1
    assert "no CURRENT bundle" in capsys.readouterr().err


def test_a_line_that_is_no_label_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.ndjson"
    path.write_text('{"series": "a", "from": 1, "to": 2}\n{"series": "a", "from": "soon"}\n')
    with pytest.raises(DataError, match="line 2"):
        read_labels(path, ["a"])


def test_stretches_of_a_label_column_are_joined_by_series(files: Path) -> None:
    start = 1_767_225_600_000
    assert label_column(files / "later.csv", "fault")["a"] == [
        (start + STEP * 2600, start + STEP * 2659),
        (start + STEP * 2850, start + STEP * 2851),
    ]


def test_a_report_made_again_from_saved_scores_says_the_same(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = tmp_path / "first.html", tmp_path / "again.html"
    scores, review = tmp_path / "scores.parquet", tmp_path / "review.csv"
    outputs = ["--report", str(first), "--scores", str(scores), "--review", str(review)]
    body = evaluate(files, capsys, "--label-column", "fault", *outputs)
    arguments = ["evaluate", "--from-scores", str(scores), "--report", str(again)]
    assert run([*arguments, "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out) == body
    assert again.read_text() == first.read_text()
    assert len(review.read_text().splitlines()) == 2001
    assert run(arguments) == 0
    assert "events: precision" in capsys.readouterr().out


def test_labelled_files_get_every_measure(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = evaluate(files, capsys, "--label-column", "fault")
    events, ranks, points = body["event_wise"], body["ranks"], body["points"]
    assert isinstance(events, dict)
    assert isinstance(ranks, dict)
    assert isinstance(points, dict)
    assert (events["anomalies"], events["found"], events["gap_samples"]) == (2, 2, 0)
    assert ranks["roc_auc"] > 0.8
    assert 0 < ranks["vus_pr"] <= 1
    assert points["specificity"] > 0.9
    assert {"confusion", "classification_report", "detection_delay", "errors"} <= set(body)


def test_what_was_observed_and_expected_is_kept_for_every_window(files: Path) -> None:
    registry = Registry(files / "registry")
    data = load(files / "later.csv", Data(features=["temp"]))
    result = scored(load_model(registry.load(), device="cpu", threads=1), data, None)
    assert [name for name, _ in result.parts()] == ["a", "b"]
    for (_, rows), one in zip(result.parts(), data.series, strict=True):
        np.testing.assert_allclose(result.observed[rows], one.values, rtol=1e-5)
        for values in (result.expected[rows], result.contribution[rows], result.score[rows]):
            assert np.isnan(values[:59]).all()
            assert np.isfinite(values[59:]).all()
    np.testing.assert_allclose(result.contribution[-1].sum(), 1, rtol=1e-4)
    quiet = np.abs(result.observed - result.expected)[1100:, 0]
    assert np.median(quiet) < 5  # the wave swings by 20
    assert not result.label.any()
    assert not result.labelled


def test_files_of_the_ucr_archive_are_judged_behind_their_training_part(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "009_UCR_Anomaly_WAVE_1000_1600_1660.csv"
    values = wave("a", 3000)[1000:]
    path.write_text("temp\n" + "\n".join(f"{value:.4f}" for value in values) + "\n")
    capsys.readouterr()
    bundle = str(files / "registry")
    assert run(["evaluate", "--json", "--bundle", bundle, "--data", str(path)]) == 0
    body = msgspec.json.decode(capsys.readouterr().out)
    assert (body["labelled"], body["recall"], body["counted"]) == (1, 1.0, 1000)
    assert body["anomalous_samples"] == 60
    assert "names of the files" in body["labels_from"]


def test_arguments_that_do_not_fit_together_exit_with_2(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(files / "later.csv")
    for arguments in (
        [],
        ["--data", data],
        ["--from-scores", data, "--data", data],
        ["--bundle", str(files / "registry"), "--data", data, "--scores", "scores.txt"],
    ):
        assert run(["evaluate", *arguments]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert run(["evaluate", "--from-scores", data]) == 1
    assert "not scores saved by" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
