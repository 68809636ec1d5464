"""Clean series -> splits, scaling and windows. numpy only; nothing here knows a model.

    series --split--> runs of train | validation | held out --steps, windows--> what is fitted

A run is a stretch of one series without a break. Windows are cut from one run each, so none
straddles two splits, unless the splits overlap: then a window is of the split of its newest step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stream_detector.bundle import WINDOW, Normalisation
from stream_detector.core.robust import median_and_spread, zero_range_spread
from trainer.config import CLIP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from trainer.config import Local, Split
    from trainer.data import SeriesData

Kind = Literal["minmax", "standard", "robust"]

LEARN = 120
"""Samples from which the detector learns the centre and scale of a series it doesn't know."""

LEAST_SHARE = 0.01
"""Floor of a scale, as a share of the training range."""


@dataclass(frozen=True, slots=True)
class Run:
    """An unbroken stretch of one series within one split."""

    series: int  # number in the list of series
    first: int  # row of its first sample in the series: the series' own sample counter
    values: NDArray[np.float64]  # [n, F]
    timestamp: NDArray[np.int64]  # [n] ms

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Parts:
    train: list[Run]
    validation: list[Run]
    held_out: list[Run]


def split(series: Sequence[SeriesData], shares: Split, scale: int = 1) -> Parts:
    """Cut each series in time: train first, then validation, the rest is held out.

    With `shares.overlap` the runs of the latter two begin so much earlier that at this scale the
    newest step of their first window is their part's first.
    """
    parts = Parts([], [], [])
    lead = scale * (WINDOW - 1) if shares.overlap else 0
    for number, one in enumerate(series):
        n = len(one)
        train = round(n * shares.train)
        bounds = (0, train, round(n * (shares.train + shares.validation)), n)
        for into, start, end in zip(
            (parts.train, parts.validation, parts.held_out), bounds[:-1], bounds[1:], strict=True
        ):
            into.extend(_runs(number, one, max(start - lead, 0), end))
    return parts


def _runs(number: int, one: SeriesData, start: int, end: int) -> Iterator[Run]:
    inner = [int(row) for row in one.breaks if start < row < end]
    for first, last in zip([start, *inner], [*inner, end], strict=True):
        if last > first:
            yield Run(number, first, one.values[first:last], one.timestamp[first:last])


@dataclass(frozen=True, slots=True)
class Scaling:
    """Centre and scale of each series, in the input's units, from its training part alone."""

    center: NDArray[np.float64]  # [n, F]
    scale: NDArray[np.float64]  # [n, F], above zero
    normalisation: Normalisation


def fit_scaling(train: Sequence[Run], series: int, kind: Kind) -> Scaling:
    """Fit on the training runs; every one of the `series` must have at least one."""
    joined = [
        np.concatenate([run.values for run in train if run.series == number])
        for number in range(series)
    ]
    fitted = [center_and_scale(values, kind) for values in joined]
    center = np.stack([one[0] for one in fitted])
    scale = np.stack([one[1] for one in fitted])
    return Scaling(center, scale, _mapping(joined, center, scale, kind))


def center_and_scale(
    values: NDArray[np.float64],  # [n, F]
    kind: Kind,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # [F] each
    """Where a series lies and how wide it is; the scale is never below 1% of the range.

    minmax: middle and half of the range; standard: mean and standard deviation; robust: median
    and robust spread.
    """
    if kind == "robust":
        return median_and_spread(values)
    low, high = values.min(axis=0), values.max(axis=0)
    if kind == "minmax":
        center, scale = low + (high - low) / 2, (high - low) / 2
    else:
        center, scale = values.mean(axis=0), values.std(axis=0)
    scale = np.maximum(scale, LEAST_SHARE * (high - low))
    return center, np.where(high > low, scale, zero_range_spread(center))


def _mapping(
    joined: Sequence[NDArray[np.float64]],
    center: NDArray[np.float64],
    scale: NDArray[np.float64],
    kind: Kind,
) -> Normalisation:
    """What a new series' first samples tell of the centre and scale it will turn out to have.

    Asked of every stretch of LEARN samples of the training series, since that is all that the
    detector will see of a new one; the medians hold for all of them.
    """
    offsets, factors = [], []
    for values, middle, width in zip(joined, center, scale, strict=True):
        stretches = max(len(values) // LEARN, 1)
        blocks = values[: stretches * LEARN].reshape(stretches, -1, values.shape[1])
        median, spread = median_and_spread(blocks)  # [stretches, F]
        offsets.append(np.median((middle - median) / spread, axis=0))
        factors.append(np.median(width / spread, axis=0))
    return Normalisation(
        kind=kind,
        offset=float(np.median(np.concatenate(offsets))),
        factor=float(np.median(np.concatenate(factors))),
    )


@dataclass(frozen=True, slots=True)
class WindowSet:
    """Windows of one scale, cut on demand from normalised steps, so that overlap costs nothing."""

    steps: NDArray[np.float32]  # [T, F] the mean of `scale` samples, beginning at every sample
    starts: NDArray[np.int64]  # [N] row of a window's first step
    scale: int
    local: Local = False

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Normalised windows [len(rows), 60, F]; `local`: less the middle of all but the newest."""
        offsets = self.scale * np.arange(WINDOW)
        windows: NDArray[np.float32] = self.steps[self.starts[rows][:, None] + offsets]
        if not self.local:
            return windows
        middle = np.median if self.local == "median" else np.mean
        return windows - middle(windows[:, :-1], axis=1, keepdims=True)


def normalised_windows(
    runs: Sequence[Run],
    scaling: Scaling,
    scale: int,
    *,
    stride: int = 1,
    cap: int | None = None,
    seed: int = 0,
    local: Local = False,
    clip: float = CLIP,
) -> WindowSet:
    """Windows of all runs, normalised. They begin at every `stride`-th sample, at any phase of

    the step: where a detector's counter begins is chance. Of more than `cap`, a seeded draw stays.
    """
    pieces: list[NDArray[np.float32]] = []
    starts: list[NDArray[np.int64]] = []
    total = 0
    for run in runs:
        count = len(run) - scale * WINDOW + 1
        if count < 1:
            continue
        means = sliding_window_view(run.values, scale, axis=0).mean(axis=-1)
        normal = (means - scaling.center[run.series]) / scaling.scale[run.series]
        pieces.append(np.clip(normal, -clip, clip).astype(np.float32))
        starts.append(total + np.arange(0, count, stride, dtype=np.int64))
        total += len(means)
    width = scaling.center.shape[1]
    steps = np.concatenate([np.zeros((0, width), np.float32), *pieces])
    every = np.concatenate([np.zeros(0, np.int64), *starts])
    if cap is not None and len(every) > cap:
        every = np.sort(np.random.default_rng(seed).choice(every, cap, replace=False))
    return WindowSet(steps, every, scale, local)


def stream_windows(
    run: Run, scale: int, anchor: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The windows that a detector would score, in time: [m, 60, F] relative to the anchor [F].

    Steps are aligned to the series' own sample counter. Also the row in the run of each window's
    newest sample [m].
    """
    skip = -run.first % scale
    whole = (len(run) - skip) // scale
    if whole < WINDOW:
        empty = np.zeros((0, WINDOW, run.values.shape[1]), np.float32)
        return empty, np.zeros(0, dtype=np.int64)
    blocks = run.values[skip : skip + whole * scale].reshape(whole, scale, -1)
    steps = (blocks.mean(axis=1) - anchor).astype(np.float32)
    windows = sliding_window_view(steps, WINDOW, axis=0).transpose(0, 2, 1)
    newest = skip + scale * np.arange(WINDOW, whole + 1) - 1
    return windows, newest
