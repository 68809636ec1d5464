"""Fitting on several processes: the same bundle as on one, written once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from stream_detector.adapters.torch_scorer import load_model
from stream_detector.bundle import Registry
from stream_detector.config import ConfigError
from tests.unit.trainer_cases import wave
from trainer import distributed
from trainer.cli import run

if TYPE_CHECKING:
    from pathlib import Path

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.mark.parametrize("name", ["dense_autoencoder", "pca"])
def test_two_processes_learn_what_one_learns_and_the_first_writes_the_bundle(
    name: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "pump.npy", wave(900))
    config = tmp_path / "trainer.yaml"
    # The last batch of a pass holds one window: one of the processes has none of its own.
    config.write_text(
        f"model: {{name: {name}}}\n"
        "fit: {epochs: 3, windows_per_epoch: 201, batch: 25, device: cpu, threads: 1}\n"
    )
    fit = ("fit", "--data", str(tmp_path / "pump.npy"), "--config", str(config), "--json", "--out")
    done = subprocess.run(
        [sys.executable, *TORCHRUN, "-m", "trainer", *fit, str(tmp_path / "two")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)  # one object: one process has spoken
    assert run([*fit, str(tmp_path / "one")]) == 0

    assert Registry(tmp_path / "two").versions() == [summary["version"]]
    two, one = Registry(tmp_path / "two").load(), Registry(tmp_path / "one").load()
    load_model(two, "cpu")
    assert two.manifest.metrics == pytest.approx(one.manifest.metrics, rel=1e-3)
    assert two.manifest.threshold == one.manifest.threshold
    np.testing.assert_allclose(two.golden(1).scores, one.golden(1).scores, rtol=2e-3, atol=1e-5)


def test_alone_a_process_writes_and_sums_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with distributed.joined() as writes:
        assert writes
        assert not distributed.several()
    assert (distributed.rank(), distributed.size()) == (0, 1)
    assert distributed.total(torch.tensor(3.0)).item() == 3.0


@pytest.mark.parametrize(
    ("devices", "processes", "name", "expected"),
    [
        (0, 1, "auto", "cpu"),
        (1, 1, "auto", "cuda"),
        (1, 2, "auto", "cpu"),
        (2, 2, "auto", "cuda:1"),
        (2, 2, "cuda", "cuda:1"),
        (2, 1, "cuda:1", "cuda:1"),
        (2, 2, "cpu", "cpu"),
    ],
)
def test_each_process_takes_a_device_of_its_own(
    devices: int, processes: int, name: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _machine(monkeypatch, devices, processes)
    assert str(distributed.device_of(name)) == expected


@pytest.mark.parametrize(
    ("devices", "processes", "name", "message"),
    [
        (0, 1, "cuda", r"fit\.device: cuda needs 1 CUDA devices here, there are 0"),
        (1, 1, "cuda:1", r"fit\.device: cuda:1 needs 2 CUDA devices here, there are 1"),
        (1, 2, "cuda", r"fit\.device: cuda needs 2 CUDA devices here, there are 1"),
        (2, 2, "cuda:0", r"fit\.device: cuda:0 is one device for 2 processes; set cuda"),
    ],
)
def test_devices_that_are_not_there_are_an_error_that_says_so(
    devices: int, processes: int, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _machine(monkeypatch, devices, processes)
    with pytest.raises(ConfigError, match=message):
        distributed.device_of(name)


def _machine(monkeypatch: pytest.MonkeyPatch, devices: int, processes: int) -> None:
    """A machine with so many CUDA devices, and this the last of so many processes."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr(distributed, "several", lambda: processes > 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setenv("LOCAL_RANK", str(processes - 1))
