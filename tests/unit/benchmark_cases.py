"""Tiny suites in the formats of the public ones, and detectors' answers made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.benchmarks.cases import Answer, Case

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from trainer.metrics.events import Interval

MINUTE = 60_000


def beats(n: int, seed: int = 0) -> NDArray[np.float64]:
    """[n] a season of 40 samples with a little noise."""
    noise = np.random.default_rng(seed).normal(0, 0.05, n)
    values: NDArray[np.float64] = np.sin(2 * np.pi * np.arange(n) / 40) + noise
    return values


def write_ucr(
    folder: Path, number: int, *, train: int = 800, n: int = 1400, name: str = "WAVE"
) -> Path:
    """A season that stands still for half a period, 100 samples before the file's end."""
    folder.mkdir(parents=True, exist_ok=True)
    start = n - 200
    values = beats(n, number)
    values[start : start + 20] = 3.0
    path = folder / f"{number:03}_UCR_Anomaly_{name}_{train}_{start}_{start + 20}.txt"
    path.write_text("\n".join(f"{value:.6f}" for value in values) + "\n")
    return path


def case(
    tested: int,
    anomalies: Sequence[Interval],  # rows of the tested part
    *,
    train: int = 10,
    group: str = "",
    interval: int = MINUTE,
) -> Case:
    n = train + tested
    return Case(
        "hand-made", ["value"], interval * np.arange(n, dtype=np.int64), np.zeros((n, 1)), train,
        [(train + first, train + last) for first, last in anomalies], group,
    )  # fmt: skip


def says(
    score: Sequence[float] | NDArray[np.float64],
    threshold: float,
    episodes: Sequence[Interval] = (),
) -> Answer:
    """An answer whose level is its score."""
    values = np.asarray(score, np.float64)
    inside = np.zeros(len(values), np.bool_)
    for first, last in episodes:
        inside[first : last + 1] = True
    return Answer(values, values, threshold, values >= threshold, inside, list(episodes))
