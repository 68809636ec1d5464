"""Every command that reads files reads archives, and arrays by name: fit, evaluate, replay."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream_detector.cli import execute
from trainer.cli import run

if TYPE_CHECKING:
    from pathlib import Path

START = 1_764_201_600


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two machines as published data sets have them: train, test and their labels in one npz."""
    path = tmp_path_factory.mktemp("packed") / "machines.zip"
    with zipfile.ZipFile(path, "w") as out:
        for seed, name in enumerate(("m-1", "m-2")):
            rng = np.random.default_rng(seed)
            at = np.arange(3000)
            values = np.stack([np.sin(at / 7), np.cos(at / 9)], axis=1)
            values += rng.normal(0, 0.05, values.shape)
            label = np.zeros(3000, np.int8)
            label[[700, *range(2700, 2720)]] = 1
            values[label > 0] += 9
            buffer = io.BytesIO()
            np.savez_compressed(
                buffer,
                train=values[:2000],
                train_timestamp=START + 60.0 * at[:2000],
                train_label=label[:2000],
                test=values[2000:],
                test_timestamp=START + 60.0 * at[2000:],
                test_label=label[2000:],
            )
            out.writestr(f"machines/{name}.npz", buffer.getvalue())
        out.writestr("README.md", "Two machines.")
    return path


def test_an_archive_of_arrays_is_learnt_from_evaluated_and_replayed(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, registry = tmp_path / "trainer.yaml", str(tmp_path / "registry")
    config.write_text(
        "data: {array: train, labels: {column: label}}\n"
        "model: {name: dense_autoencoder}\nfit: {epochs: 10, device: cpu, threads: 1}\n"
    )
    given = ["--data", str(archive)]
    assert run(["fit", "--json", *given, "--config", str(config), "--out", registry]) == 0
    fitted = json.loads(capsys.readouterr().out)
    assert (fitted["features"], fitted["series"]) == (["f0", "f1"], 2)
    assert (fitted["rows"], fitted["left_out_samples"]) == (2 * (2000 - 121), 2 * 121)

    chosen = ["--array", "test", "--label-column", "label"]
    assert run(["evaluate", "--json", "--bundle", registry, *given, *chosen]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["samples"], body["labelled"], body["recall"]) == (2000, 2, 1.0)

    events = tmp_path / "events.ndjson"
    arguments = ["--input", str(archive), "--array", "test", "--output", str(events), "--json"]
    assert execute(["replay", "--bundle", registry, *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == 2000
    found = [json.loads(line) for line in events.read_text().splitlines()]
    assert {event["subject"] for event in found} == {"m-1", "m-2"}


def test_which_array_is_meant_is_asked_in_one_line(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fit", "--data", str(archive), "--out", str(tmp_path / "registry")]) == 1
    message = capsys.readouterr().err
    assert "machines.zip/machines/m-1.npz: holds the arrays train, train_timestamp" in message
    assert "data.array in trainer.yaml, or --array" in message
    assert message.count("\n") == 1
