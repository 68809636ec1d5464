"""The windows that a model is fitted to, cut on demand: overlap costs nothing.

Those of series in temporary files are the same as those of series in memory, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stream_detector.bundle import WINDOW
from trainer.reading.rows import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trainer.config import Local
    from trainer.runs import Run
    from trainer.scaling import Scaling


def step_means(values: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    """[n, F] -> [n - scale + 1, F]: means of `scale` samples, beginning at every sample."""
    means: NDArray[np.float64] = sliding_window_view(values, scale, axis=0).mean(axis=-1)
    return means


def _levelled(windows: NDArray[np.float32], local: Local) -> NDArray[np.float32]:
    if not local:
        return windows
    middle = np.median if local == "median" else np.mean
    return windows - middle(windows[:, :-1], axis=1, keepdims=True)


class WindowSource(Protocol):
    """Normalised windows of one scale."""

    @property
    def scale(self) -> int: ...
    @property
    def features(self) -> int: ...
    def __len__(self) -> int: ...
    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Some of the windows, [len(rows), 60, F]; local: less the middle of all but the newest."""


@dataclass(frozen=True, slots=True)
class WindowSet:
    """Windows cut from normalised steps in memory."""

    steps: NDArray[np.float32]  # [T, F] the mean of `scale` samples, beginning at every sample
    starts: NDArray[np.int64]  # [N] row of a window's first step
    scale: int
    local: Local = False

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def features(self) -> int:
        return int(self.steps.shape[1])

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        offsets = self.scale * np.arange(WINDOW)
        return _levelled(self.steps[self.starts[rows][:, None] + offsets], self.local)


class LazyWindows:
    """Windows that are read one by one; of more than `cap`, a seeded draw."""

    def __init__(
        self,
        runs: Sequence[Run],
        scaling: Scaling,
        scale: int,
        *,
        stride: int,
        cap: int | None,
        seed: int,
        local: Local,
        clip: float,
    ) -> None:
        self.scale = scale
        self._local = local
        self._clip = clip
        self.features = scaling.center.shape[1]
        self._scaling = scaling
        self._stride = stride
        self._runs = [run for run in runs if len(run) >= scale * WINDOW]
        counts = [(len(run) - scale * WINDOW) // stride + 1 for run in self._runs]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._count = int(sum(counts))
        self._drawn: NDArray[np.int64] | None = None
        if cap is not None and self._count > cap:
            rng = np.random.default_rng(seed)
            self._drawn = np.sort(rng.choice(self._count, cap, replace=False))

    def __len__(self) -> int:
        return self._count if self._drawn is None else len(self._drawn)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        numbers = rows if self._drawn is None else self._drawn[rows]
        windows = np.empty((len(rows), WINDOW, self.features), np.float32)
        at = np.searchsorted(self._ends, numbers, side="right")
        first = numbers - np.concatenate([[0], self._ends])[at]
        for row, (number, start) in enumerate(zip(at.tolist(), first.tolist(), strict=True)):
            run, begin = self._runs[number], start * self._stride
            samples = read(run.values[begin : begin + self.scale * WINDOW])
            steps = step_means(samples, self.scale)[:: self.scale]
            windows[row] = self._scaling.normal(steps, run.series, self._clip)
        return _levelled(windows, self._local)
