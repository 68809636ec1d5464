"""Runs -> windows, as a model is fitted to them and as a detector sees them. numpy only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stream_detector.bundle import WINDOW
from trainer.config import CLIP
from trainer.reading.rows import Lazy, pieces, read
from trainer.windows import LazyWindows, WindowSet, step_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trainer.config import Local
    from trainer.runs import Run
    from trainer.scaling import Scaling
    from trainer.windows import WindowSource


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
) -> WindowSource:
    """Windows of all runs, normalised. They begin at every `stride`-th sample, at any phase of

    the step: where a detector's counter begins is chance. Of more than `cap`, a seeded draw stays.
    The same windows, wherever the samples lie.
    """
    if any(isinstance(run.values, Lazy) for run in runs):
        return LazyWindows(
            runs, scaling, scale, stride=stride, cap=cap, seed=seed, local=local, clip=clip
        )
    parts: list[NDArray[np.float32]] = []
    starts: list[NDArray[np.int64]] = []
    total = 0
    for run in runs:
        count = len(run) - scale * WINDOW + 1
        if count < 1:
            continue
        means = step_means(read(run.values), scale)
        parts.append(scaling.normal(means, run.series, clip))
        starts.append(total + np.arange(0, count, stride, dtype=np.int64))
        total += len(means)
    width = scaling.center.shape[1]
    steps = np.concatenate([np.zeros((0, width), np.float32), *parts])
    every = np.concatenate([np.zeros(0, np.int64), *starts])
    if cap is not None and len(every) > cap:
        every = np.sort(np.random.default_rng(seed).choice(every, cap, replace=False))
    return WindowSet(steps, every, scale, local)


def stream_windows(
    run: Run, scale: int, anchor: NDArray[np.float64], most: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The windows that a detector would score, in time: [m, 60, F] relative to the anchor [F].

    Steps are aligned to the series' own sample counter. Also the row in the run of each window's
    newest sample [m]. `most` leaves the latest so many.
    """
    skip = -run.first % scale
    whole = (len(run) - skip) // scale
    count = whole - WINDOW + 1
    if count < 1:
        empty = np.zeros((0, WINDOW, run.values.shape[1]), np.float32)
        return empty, np.zeros(0, dtype=np.int64)
    left_out = 0 if most is None else max(count - most, 0)
    steps = [
        (part.reshape(-1, scale, part.shape[1]).mean(axis=1) - anchor).astype(np.float32)
        for part in pieces(run.values[skip + left_out * scale : skip + whole * scale], scale)
    ]
    windows = sliding_window_view(np.concatenate(steps), WINDOW, axis=0).transpose(0, 2, 1)
    newest = skip + scale * np.arange(WINDOW + left_out, whole + 1) - 1
    return windows, newest
