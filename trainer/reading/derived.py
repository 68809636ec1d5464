"""Transforms over whole series, wherever their samples lie; none looks across what was cut out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.resample import Buckets, run_lengths
from stream_detector.core.segments import Segments
from stream_detector.core.transforms import Transforms, transformed
from trainer.data import SeriesData
from trainer.reading.rows import PIECE_VALUES, read
from trainer.reading.spool import SampleFiles
from trainer.reading.training_set import StoredSeries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream_detector.bundle import Transform
    from trainer.reading.rows import Series
    from trainer.reading.spool import Piece


def derived(series: Sequence[Series], rules: Sequence[Transform]) -> list[Series]:
    """The series as the detector's windows see them; those in files become others in files."""
    found: list[Series] = []
    files: SampleFiles | None = None
    for one in series:
        if isinstance(one, SeriesData):
            values = transformed(rules, one.values, one.timestamp, one.breaks)
            found.append(replace(one, **values._asdict()))
        elif not rules:
            found.append(one)
        else:
            files = files or SampleFiles.of(one.values.shape[1])
            found.append(_stored(one, rules, files))
    return found


def _stored(one: Series, rules: Sequence[Transform], files: SampleFiles) -> StoredSeries:
    start = len(files.times)
    begins: list[NDArray[np.int64]] = []
    width = one.values.shape[1]
    step = max(PIECE_VALUES // width // 8, 1)  # filling holes makes more steps than samples
    for first, last in pairwise([0, *one.breaks.tolist(), len(one)]):
        run = _Run(rules, width)
        for at in range(first, last, step):
            piece = slice(at, min(at + step, last))
            steps, length = run.push(read(one.timestamp[piece]), read(one.values[piece]))
            begins.append(len(files.times) - start + np.flatnonzero(length == 1))
            files.append(*steps)
    span = start, len(files.times)
    breaks = np.concatenate([np.zeros(0, np.int64), *begins])[1:]
    return StoredSeries(one.name, files.times.rows(*span), files.values.rows(*span), breaks)


class _Run:
    """What `core.transforms.transformed` makes of one run, piece by piece."""

    def __init__(self, rules: Sequence[Transform], width: int) -> None:
        self._chain = Transforms(rules)
        self._buckets = Buckets.none(1, width)
        self._history = [np.full((1, h, width), np.nan) for h in self._chain.lookback]
        self._steps = 0
        self._begun = np.zeros(1, np.int64)
        self._latest: NDArray[np.int64] | None = None

    def push(
        self, timestamp: NDArray[np.int64], values: NDArray[np.float64]
    ) -> tuple[Piece, NDArray[np.int64]]:
        """Steps that these samples complete, and how many each unbroken run of steps then has."""
        chain = self._chain
        segments = Segments(np.zeros(len(timestamp), np.int64))
        if chain.grid is None:
            before = timestamp[:1] if self._latest is None else self._latest
            since = (timestamp - segments.previous(timestamp, before)).astype(np.float32)
            self._latest = timestamp[-1:]
            length = self._steps + segments.nth + 1
        else:
            _, timestamp, values, last = chain.resample(self._buckets, segments, timestamp, values)
            segments = Segments(np.zeros(len(timestamp), np.int64))
            nth, begun = self._steps + segments.nth + 1, self._begun[: len(segments)]
            length, self._begun[: len(segments)] = run_lengths(segments, nth, begun, last)
            since = np.full(len(timestamp), chain.every, np.float32)
        self._steps += len(timestamp)
        stages = chain.apply(self._history, segments, values, since, length)
        return (timestamp, stages[-1]), length
