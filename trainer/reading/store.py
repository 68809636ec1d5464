"""Stored samples -> data to learn from: normal ones only, a break wherever some are missing."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainer.data import Dataset, SeriesData, clean
from trainer.reading.rows import read

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.ports import Stored
    from trainer.config.data import Data
    from trainer.reading.rows import SeriesSet


class Slices(NamedTuple):
    """Normal samples before and from one point in time, the same for all series."""

    learn: Dataset
    held_out: Dataset
    at: int  # ms UTC
    anomalous: int  # samples left out, with the margin around them


def normal_data(stored: Stored, config: Data, margin: int, hole: float) -> tuple[Dataset, int]:
    """Leave out anomalous samples and `margin` samples on both sides of each; also counts them.

    A pause of more than `hole` sampling intervals, a sample with a value that cannot be filled, and
    whatever was left out make a break.
    """
    bounds = np.searchsorted(stored.code, np.arange(len(stored.series) + 1))
    series = []
    left_out = 0
    for name, start, end in zip(stored.series, bounds[:-1], bounds[1:], strict=True):
        timestamp = stored.timestamp[start:end]
        if not len(timestamp):
            continue
        bad = widened(stored.anomalous[start:end], margin)
        left_out += int(bad.sum())
        # Holding fills from the samples as they came, so the anomalous go only afterwards.
        cleaned = clean(name, timestamp, stored.values[start:end], config)
        row = np.searchsorted(timestamp, cleaned.timestamp)  # of each complete sample
        kept = ~bad[row]
        row = row[kept]
        times = cleaned.timestamp[kept]
        interval = float(np.median(np.diff(timestamp))) if len(timestamp) > 1 else 0.0
        broken = (np.diff(row) != 1) | (np.diff(times) > hole * interval)
        if len(row):
            breaks = np.flatnonzero(broken) + 1
            series.append(SeriesData(name, times, cleaned.values[kept], breaks))
    return Dataset(list(stored.features), series), left_out


def pauses(stored: Stored) -> NDArray[np.int64]:
    """Ms between successive samples of each series, of all of them."""
    found: NDArray[np.int64] = np.diff(stored.timestamp)[np.diff(stored.code) == 0]
    return found


def widened(flags: NDArray[np.bool_], margin: int) -> NDArray[np.bool_]:
    """Flags [n] and `margin` places before and after each."""
    if not flags.any():
        return flags.copy()
    n = len(flags)
    at = np.flatnonzero(flags)
    steps = np.zeros(n + 1, np.int64)
    np.add.at(steps, np.maximum(at - margin, 0), 1)
    np.add.at(steps, np.minimum(at + margin + 1, n), -1)
    return np.cumsum(steps[:-1]) > 0


def cut(data: Dataset, share: float, left_out: int = 0) -> Slices:
    """The latest `share` of all samples is held out; the cut lies at the same time everywhere."""
    if not data.series:
        return Slices(data, data, 0, left_out)
    times = np.concatenate([one.timestamp for one in data.series])
    at = int(np.quantile(times, 1 - share, method="higher"))
    early, late = [], []
    for one in data.series:
        row = int(np.searchsorted(one.timestamp, at))
        early.append(_part(one, 0, row))
        late.append(_part(one, row, len(one)))
    return Slices(
        Dataset(data.features, [one for one in early if len(one)]),
        Dataset(data.features, [one for one in late if len(one)]),
        at,
        left_out,
    )


def _part(one: SeriesData, start: int, end: int) -> SeriesData:
    breaks = one.breaks[(one.breaks > start) & (one.breaks < end)] - start
    return SeriesData(one.name, one.timestamp[start:end], one.values[start:end], breaks)


def runs(data: SeriesSet) -> list[SeriesData]:
    """Every unbroken stretch as a series of its own, under the name of its series."""
    found = []
    for one in data.series:
        edges = [0, *one.breaks.tolist(), len(one)]
        found += [
            SeriesData(one.name, read(one.timestamp[a:b]), read(one.values[a:b]))
            for a, b in pairwise(edges)
            if b > a
        ]
    return found
