"""Series -> runs of the train, validation and held-out splits.

A run is a stretch of one series without a break. Windows are cut from one run each, so none
straddles two splits, unless the splits overlap: then a window is of the split of its newest step.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.bundle import WINDOW
from trainer.metrics.events import merge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.config import Split
    from trainer.reading.rows import Rows, Series


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
    if shares.order == "whole":
        return [[(0, n)]] * 3
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
