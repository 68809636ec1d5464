"""Centre and scale of series, and what the first samples of a new one tell of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from stream_detector.bundle import Normalisation
from stream_detector.core.robust import median_and_spread, zero_range_spread
from trainer.reading.rows import joined, pieces, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from trainer.reading.rows import Rows
    from trainer.runs import Run

Kind = Literal["minmax", "standard", "robust"]

LEARN = 120
"""Samples from which the detector learns the centre and scale of a series it doesn't know."""

LEAST_SHARE = 0.01
"""Floor of a scale, as a share of the training range."""

QUANTILE_VALUES = 1 << 24
"""Values of a series that robust scaling looks at, at most; of more, rows are drawn by seed."""


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
