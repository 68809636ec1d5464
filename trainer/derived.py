"""Transforms over a whole series, each run from its first sample on, wherever the samples lie."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.transforms import Transforms, transformed
from trainer.data import SeriesData
from trainer.rows import Lazy, read
from trainer.training_set import StoredSeries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream_detector.bundle import Transform
    from trainer.rows import Series


def derived(one: Series, rules: Sequence[Transform]) -> Series:
    """The series as the detector's windows see it. What was cut out is not looked back across."""
    if not rules:
        return one
    edges = [0, *one.breaks.tolist(), len(one)]
    lookback = sum(Transforms(rules).lookback)

    def fetch(start: int, stop: int) -> NDArray[np.float64]:
        found = [np.zeros((0, one.values.shape[1]))]
        for at in range(bisect_right(edges, start) - 1, len(edges) - 1):
            begin, end = max(start, edges[at]), min(stop, edges[at + 1])
            if begin >= end:
                break
            before = max(begin - lookback, edges[at])
            values, times = read(one.values[before:end]), read(one.timestamp[before:end])
            found.append(transformed(rules, values, times)[begin - before :])
        return np.concatenate(found)

    if isinstance(one, SeriesData):
        return replace(one, values=fetch(0, len(one)))
    assert isinstance(one, StoredSeries)
    return replace(one, values=Lazy(fetch, 0, len(one), one.values.shape[1]))
