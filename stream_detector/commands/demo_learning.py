"""The demo's learning part: one bundle for each machine type, from the part without faults.

Imports the trainer, so only the demo's own function may import this, when it runs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from stream_detector.bundle import Registry
from trainer.config import Calibration, Fit, ModelChoice, Split, TrainerConfig
from trainer.data import Dataset, SeriesData
from trainer.train import publish, train

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stream_detector.bundle import Manifest
    from stream_detector.simulation import Fleet

LSTM_GROUP = "web"
"""The product's main model takes most of the time, so one machine type shows it."""


@dataclass(frozen=True, slots=True)
class Lesson:
    group: str
    registry: Registry
    manifest: Manifest
    seconds: float


def learn(
    fleet: Fleet, folder: Path, *, seed: int, alarm_budget: float, quiet: bool
) -> Iterator[Lesson]:
    """Train, calibrate and publish group by group under folder/GROUP.

    Raises DataError or BundleError with one clear line.
    """
    for machine in fleet.machines:
        began = time.monotonic()
        registry = Registry(folder / machine.group)
        config = _config(machine.group, seed, alarm_budget)
        trained = train(_normal(fleet, machine.group), config, quiet=quiet)
        publish(trained, registry)
        yield Lesson(machine.group, registry, trained.manifest, time.monotonic() - began)


def _config(group: str, seed: int, alarm_budget: float) -> TrainerConfig:
    """Small enough for a demo; the trainer's own defaults fit longer."""
    if group == LSTM_GROUP:
        model = ModelChoice(name="lstm_autoencoder")
        sizes = {"epochs": 10, "windows_per_epoch": 4096, "batch": 32, "learning_rate": 0.004}
    else:
        model = ModelChoice(name="dense_autoencoder")
        sizes = {"epochs": 25, "windows_per_epoch": 8192, "batch": 128, "learning_rate": 0.003}
    # Matrices this small gain nothing from a second thread, and lose much on a busy machine.
    fit = msgspec.convert({**sizes, "seed": seed, "device": "cpu", "threads": 1}, type=Fit)
    return TrainerConfig(
        model=model,
        fit=fit,
        split=Split(train=0.6, validation=0.1),
        calibration=Calibration(alarm_budget=alarm_budget),
    )


def _normal(fleet: Fleet, group: str) -> Dataset:
    chunk = next(c for c in fleet.samples(0, fleet.normal_steps) if c.machine.group == group)
    series = []
    for member in fleet.members(group):
        mine = chunk.series == member.index
        series.append(SeriesData(member.name, chunk.timestamp[mine], chunk.values[mine]))
    return Dataset([feature.name for feature in chunk.machine.features], series)
