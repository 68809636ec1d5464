"""`stream-trainer threshold`: another threshold for a bundle, chosen from labelled data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from stream_detector.adapters.torch_scorer import load_model
from stream_detector.bundle import Registry
from trainer.cli import run
from trainer.config.data import Data
from trainer.data import load
from trainer.evaluate import scored
from trainer.reading.marks import from_column
from trainer.thresholds import settled

if TYPE_CHECKING:
    from pathlib import Path

START, STEP = 1_767_225_600_000, 60_000
FAULTS = {"a": [(2600, 2660), (2850, 2852)], "b": [(2300, 2330)]}


def write(path: Path, start: int, stop: int) -> None:
    """Series a and b with a column that marks the faults."""
    lines = ["series,timestamp,temp,fault"]
    for name, faults in FAULTS.items():
        rng = np.random.default_rng(ord(name))
        values = 50 + 10 * np.sin(np.arange(stop) / 5) + rng.normal(0, 1, stop)
        for first, last in faults:
            values[first:last] += 40
        for step in range(start, stop):
            flag = int(any(first <= step < last for first, last in faults))
            lines.append(f"{name},{START + STEP * step},{values[step]:.4f},{flag}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("threshold")
    write(root / "normal.csv", 0, 2000)
    write(root / "later.csv", 2000, 3000)
    (root / "trainer.yaml").write_text(
        "data: {features: [temp]}\nmodel: {name: pca}\nfit: {device: cpu, threads: 1}\n"
        "calibration: {threshold: {vote: {least: 2, of: [{sigma: 4}, {pot: 0.001}, {maximum: 1}]}}}"
    )
    data, config = root / "normal.csv", root / "trainer.yaml"
    arguments = ["--data", str(data), "--config", str(config), "--out", str(root / "registry")]
    assert run(["fit", "--json", *arguments]) == 0
    return root


def threshold(root: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    capsys.readouterr()
    usual = ["--bundle", str(root / "registry"), "--data", str(root / "later.csv")]
    assert run(["threshold", "--json", *usual, *more]) == 0
    body = msgspec.json.decode(capsys.readouterr().out)
    assert isinstance(body, dict)
    return body


def test_a_vote_travels_in_the_bundle_as_one_score_of_each_series(trained: Path) -> None:
    registry = Registry(trained / "registry")
    bundle = registry.load(registry.versions()[0])
    given, table = bundle.manifest.threshold, bundle.series
    assert (given.method, given.value, given.scope) == ("vote", 2.0, "series")
    assert "2 of 3 agree" in given.provenance
    assert table.score_threshold is not None
    assert (table.score_threshold > table.score_mean).all()


def test_f_beta_on_labelled_data_becomes_a_new_version_that_alarms_at_that_score(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(trained / "registry")
    before = registry.current()
    rule = ("--label-column", "fault", "--rule", "{f_beta: 1.0, scope: global}")
    body = threshold(trained, capsys, *rule)
    assert (body["previous"], body["promoted"]) == (before, False)
    assert registry.current() == before
    assert body["version"] in registry.versions()
    assert "anomalous by column fault" in body["threshold"]["provenance"]

    bundle, old = registry.load(body["version"]), registry.load(before)
    assert bundle.series.score_threshold is None
    assert {k: v for k, v in bundle.files.items() if k != "series.npz"} == {
        k: v for k, v in old.files.items() if k != "series.npz"
    }
    data = load(trained / "later.csv", Data(features=["temp"]))
    seen = scored(load_model(bundle), data, from_column(trained / "later.csv", "fault"))
    reached = seen.score >= np.float32(body["threshold"]["score"])
    np.testing.assert_array_equal(seen.above[seen.counts], reached[seen.counts])
    assert {episode.series for episode in seen.about.episodes} == {"a", "b"}

    again = threshold(trained, capsys, *rule, "--promote")
    assert again["promoted"]
    assert registry.current() == again["version"]


def test_each_series_own_scores_are_kept_by_series_and_told_to_people(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = threshold(trained, capsys, "--label-column", "fault", "--rule", "quantile: 0.99")
    bundle = Registry(trained / "registry").load(body["version"])
    data = load(trained / "later.csv", Data(features=["temp"]))
    seen = scored(load_model(bundle), data, from_column(trained / "later.csv", "fault"))
    assert bundle.series.score_threshold is not None
    parts = settled(seen)
    for name, limit in zip(bundle.series.row, bundle.series.score_threshold, strict=True):
        assert limit == pytest.approx(np.quantile(parts[name].normal, 0.99), rel=1e-5)
        assert parts[name].score[parts[name].truth].max() > limit
    capsys.readouterr()
    usual_call = ["--bundle", str(trained / "registry"), "--data", str(trained / "later.csv")]
    assert run(["threshold", *usual_call, "--rule", "error: 0.5"]) == 0
    printed = capsys.readouterr().out
    assert "makes it CURRENT" in printed
    assert "threshold: set directly, for all series: 0.5" in printed


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--rule", "sigma"], 2, "--rule: expected keys and values"),
        (["--rule", "{sigma: 3, level: 4}"], 2, "--rule: a threshold needs one of"),
        (["--rule", "magic: 3"], 2, "unknown field `magic`"),
        (["--rule", "f_beta: 1.0"], 1, "needs scores of normal and anomalous labelled samples"),
        (["--rule", "sigma: 3", "--labels", "none.ndjson"], 2, "no such file"),
        (["--rule", "sigma: 3", "--label-column", "nothing"], 1, "nothing"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_line_and_publishes_nothing(
    arguments: list[str],
    code: int,
    words: str,
    trained: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry = Registry(trained / "registry")
    before = registry.versions()
    usual = ["--bundle", str(registry.path), "--data", str(trained / "later.csv")]
    assert run(["threshold", *usual, *arguments]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert words in printed.err
    assert registry.versions() == before
