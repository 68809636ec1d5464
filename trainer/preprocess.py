"""Clean series -> splits, scaling and windows. numpy only; nothing here knows a model.

    series --split--> runs of train | validation | held out --steps, windows--> what is fitted

A run is a stretch of one series without a break. Windows are cut from one run each, so none
straddles two splits, unless the splits overlap: then a window is of the split of its newest step.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stream_detector.bundle import WINDOW, Normalisation
from stream_detector.core.robust import median_and_spread, zero_range_spread
from trainer.config import CLIP
from trainer.metrics.events import merge
from trainer.reading.rows import Lazy, joined, pieces, read
from trainer.windows import LazyWindows, WindowSet, step_means

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from trainer.config import Local, Split
    from trainer.reading.rows import Rows, Series
    from trainer.windows import WindowSource

Kind = Literal["minmax", "standard", "robust"]

LEARN = 120
"""Samples from which the detector learns the centre and scale of a series it doesn't know."""

LEAST_SHARE = 0.01
"""Floor of a scale, as a share of the training range."""

QUANTILE_VALUES = 1 << 24
"""Values of a series that robust scaling looks at, at most; of more, rows are drawn by seed."""


@dataclass(frozen=True, slots=True)
class Run:
    """An unbroken stretch of one series within one split."""

    series: int  # number in the list of series
    first: int  # row of its first sample in the series: the series' own sample counter
    values: Rows  # [n, F]
    timestamp: Rows  # [n] ms

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Parts:
    train: list[Run]
    validation: list[Run]
    held_out: list[Run]


def split(series: Sequence[Series], shares: Split, scale: int = 1) -> Parts:
    """Cut each series: train first, then validation, the rest is held out; or by drawn blocks.

    With `shares.overlap` the runs of the latter two begin so much earlier that at this scale the
    newest step of their first window is their part's first.
    """
    parts = Parts([], [], [])
    lead = scale * (WINDOW - 1) if shares.overlap else 0
    for number, one in enumerate(series):
        for into, spans in zip(
            (parts.train, parts.validation, parts.held_out), _spans(len(one), shares), strict=True
        ):
            for start, end in spans:
                into.extend(_runs(number, one, max(start - lead, 0), end))
    return parts


def whole(series: Sequence[Series]) -> list[Run]:
    """All of each series, in no parts."""
    return [run for number, one in enumerate(series) for run in _runs(number, one, 0, len(one))]


def _spans(n: int, shares: Split) -> list[list[tuple[int, int]]]:
    """First rows, and the ones behind the last, of the three parts of n rows."""
    if shares.order == "chronological":
        train = round(n * shares.train)
        bounds = (0, train, round(n * (shares.train + shares.validation)), n)
        return [[span] for span in pairwise(bounds)]
    edges = [round(n * block / shares.blocks) for block in range(shares.blocks + 1)]
    train, validation, _ = shares.parts
    drawn = np.random.default_rng(shares.seed).permutation(shares.blocks).tolist()
    return [
        merge([(edges[block], edges[block + 1]) for block in blocks])
        for blocks in (
            drawn[:train],
            drawn[train : train + validation],
            drawn[train + validation :],
        )
    ]


def _runs(number: int, one: Series, start: int, end: int) -> Iterator[Run]:
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

    def normal(self, values: NDArray[np.float64], series: int, clip: float) -> NDArray[np.float32]:
        """Values [..., F] of one series in its own terms, cut at `clip`."""
        normal = (values - self.center[series]) / self.scale[series]
        cut: NDArray[np.float32] = np.clip(normal, -clip, clip).astype(np.float32)
        return cut


def fit_scaling(train: Sequence[Run], series: int, kind: Kind) -> Scaling:
    """Fit on the training runs; every one of the `series` must have at least one."""
    of: list[list[Rows]] = [[] for _ in range(series)]
    for run in train:
        of[run.series].append(run.values)
    parts = [joined(runs) for runs in of]
    fitted = [center_and_scale(values, kind) for values in parts]
    center = np.stack([one[0] for one in fitted])
    scale = np.stack([one[1] for one in fitted])
    return Scaling(center, scale, _mapping(parts, center, scale, kind))


def center_and_scale(
    values: Rows,  # [n, F]
    kind: Kind,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # [F] each
    """Where a series lies and how wide it is; the scale is never below 1% of the range.

    minmax: middle and half of the range; standard: mean and standard deviation; robust: median
    and robust spread.
    """
    if kind == "robust":
        return median_and_spread(_drawn(values))
    ranges = np.array([(part.min(axis=0), part.max(axis=0)) for part in pieces(values)])
    low, high = ranges[:, 0].min(axis=0), ranges[:, 1].max(axis=0)
    if kind == "minmax":
        center, scale = low + (high - low) / 2, (high - low) / 2
    else:
        center = _total(part.sum(axis=0) for part in pieces(values)) / len(values)
        squares = (np.square(part - center).sum(axis=0) for part in pieces(values))
        scale = np.sqrt(_total(squares) / len(values))
    scale = np.maximum(scale, LEAST_SHARE * (high - low))
    return center, np.where(high > low, scale, zero_range_spread(center))


def _total(parts: Iterator[NDArray[np.float64]]) -> NDArray[np.float64]:
    return functools.reduce(np.add, parts)


def _drawn(values: Rows) -> NDArray[np.float64]:
    """All rows, or of very many a seeded draw: one from each of equal stretches."""
    most = max(QUANTILE_VALUES // values.shape[1], LEARN)
    if len(values) <= most:
        return read(values)
    places = np.arange(most) + np.random.default_rng(0).random(most)
    rows = (places * (len(values) / most)).astype(np.int64)
    found, start = [], 0
    for part in pieces(values):
        inside = slice(*np.searchsorted(rows, (start, start + len(part))))
        found.append(part[rows[inside] - start])
        start += len(part)
    return np.concatenate(found)


def _mapping(
    parts: Sequence[Rows],
    center: NDArray[np.float64],
    scale: NDArray[np.float64],
    kind: Kind,
) -> Normalisation:
    """What a new series' first samples tell of the centre and scale it will turn out to have.

    Asked of every stretch of LEARN samples of the training series, since that is all that the
    detector will see of a new one; the medians hold for all of them.
    """
    offsets, factors = [], []
    for values, middle, width in zip(parts, center, scale, strict=True):
        whole = values[: len(values) // LEARN * LEARN] if len(values) > LEARN else values
        found = [
            median_and_spread(part.reshape(-1, min(LEARN, len(part)), part.shape[1]))
            for part in pieces(whole, LEARN)
        ]
        median, spread = (np.concatenate(column) for column in zip(*found, strict=True))
        offsets.append(np.median((middle - median) / spread, axis=0))
        factors.append(np.median(width / spread, axis=0))
    return Normalisation(
        kind=kind,
        offset=float(np.median(np.concatenate(offsets))),
        factor=float(np.median(np.concatenate(factors))),
    )


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
