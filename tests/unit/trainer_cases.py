"""Series to train on in tests, and a bundle small enough to fit in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.config import Fit, ModelChoice, Split, TrainerConfig
from trainer.data import Dataset, SeriesData
from trainer.preprocess import normalised_windows
from trainer.runs import split
from trainer.scaling import fit_scaling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.windows import WindowSource

MINUTE = 60_000
START = 1_764_201_600_000


def wave(n: int, seed: int = 0, size: float = 1.0, period: float = 48.0) -> NDArray[np.float64]:
    """[n] a season with autocorrelated noise around 10 * size."""
    rng = np.random.default_rng(seed)
    noise = np.zeros(n)
    shocks = rng.normal(0, 0.1, n)
    for i in range(1, n):
        noise[i] = 0.7 * noise[i - 1] + shocks[i]
    values: NDArray[np.float64] = size * (10 + np.sin(2 * np.pi * np.arange(n) / period) + noise)
    return values


def series(name: str, values: NDArray[np.float64]) -> SeriesData:
    columns = values[:, None] if values.ndim == 1 else values
    times = START + MINUTE * np.arange(len(values), dtype=np.int64)
    return SeriesData(name, times, columns)


def fleet(n: int = 4000) -> Dataset:
    """Three series of one feature whose sizes differ by four orders of magnitude."""
    return Dataset(
        ["value"],
        [series(f"s{i}", wave(n, i, 10.0 ** (2 * i), (48.0, 60.0, 90.0)[i])) for i in range(3)],
    )


def quick(**fit: object) -> TrainerConfig:
    """A dense autoencoder for a few epochs: seconds on one core."""
    settings = {"epochs": 8, "threads": 1, "device": "cpu", **fit}
    return TrainerConfig(model=ModelChoice(name="dense_autoencoder"), fit=Fit(**settings))  # type: ignore[arg-type]  # keywords of mixed types


def windows_of(data: Dataset) -> tuple[WindowSource, WindowSource]:
    """Of the training and of the validation part, at scale 1."""
    parts = split(data.series, Split())
    scaling = fit_scaling(parts.train, len(data.series), "standard")
    return (
        normalised_windows(parts.train, scaling, 1),
        normalised_windows(parts.validation, scaling, 1),
    )
