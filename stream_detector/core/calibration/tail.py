"""t -> level: -log10 of the share of a series' scores that are as high.

A running quantile, the edge, and an exponential tail above it. The edge moves with every score, as
Robbins and Monro have it, so that the later ones of an anomaly's scores are not rare any more; the
tail's mean excess moves with blocks, from a few scores' worth of what is usual for others. Rungs
(lesson.py) tell how often episodes begin, which is another question: scores come in clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.calibration.memory import EDGE_UNIT
from stream_detector.core.segments import heads

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARE = 0.03
"""Of the scores that exceed the edge."""
EDGE_LEVEL = -float(np.log10(SHARE))
MIDDLE_LEVEL = float(np.log10(2))
"""Level of the usual score: half of all are higher."""
TOP_LEVEL = 99.0

GAIN = 0.004
"""By which the edge moves at least, in t, a logarithm of errors: about a week of scores count."""
YOUNG = 10.0
"""The edge of n scores moves by YOUNG / (YOUNG + n) where that is more."""
EDGE_WEIGHT, TAIL_WEIGHT = 100, 10
"""Scores, and scores over the edge, that what is usual for other series is worth."""
LEAST_TAIL = 0.03
"""Mean excess over the edge, in t: no tail falls faster."""
OUTLIER = 8.0
"""A score so many mean excesses over the edge is an anomaly. One of a block's counts, for so much,
and moves the edge of a young series no more than that of an old one."""
LONGEST = 1000.0
"""Scores over the edge that the mean excess rests on at most."""
LEAST_EDGE = 0.25
"""Deviations from the location to the edge: scores that hardly ever change have no tail."""
_LN10 = float(np.log(10))
_LEAST_RISE = round(GAIN * EDGE_UNIT)
_MOST = 1e6
"""Size of t beyond which nothing is told apart."""


@dataclass(frozen=True, slots=True)
class Tail:
    """Of n scores, or of n series; all in t."""

    location: NDArray[np.float64]
    edge: NDArray[np.float64]
    excess: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        memory: NDArray[np.void],  # [u]
        location: NDArray[np.float64],
        deviation: NDArray[np.float64],
    ) -> Tail:
        return cls.at(memory["edge"] / EDGE_UNIT, memory["tail"], location, deviation)

    @classmethod
    def at(
        cls,
        edge: NDArray[np.float64],  # [n]
        tail: NDArray[np.float32],
        location: NDArray[np.float64],
        deviation: NDArray[np.float64],
    ) -> Tail:
        excess = np.maximum(tail.astype(np.float64), LEAST_TAIL)
        return cls(location, np.maximum(edge, location + LEAST_EDGE * deviation), excess)

    def level(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of t [n]."""
        usual = (t - self.location) / (self.edge - self.location)
        low = MIDDLE_LEVEL + (EDGE_LEVEL - MIDDLE_LEVEL) * usual
        high = EDGE_LEVEL + (t - self.edge) / (self.excess * _LN10)
        level = np.where(t < self.edge, low, high)
        return np.minimum(np.maximum(level, 0.0), TOP_LEVEL)  # np.clip takes many times as long

    def t(self, level: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of levels [n] from 0 to the highest: the inverse of `level`."""
        usual = (level - MIDDLE_LEVEL) / (EDGE_LEVEL - MIDDLE_LEVEL)
        low = self.location + (self.edge - self.location) * usual
        high = self.edge + self.excess * _LN10 * (level - EDGE_LEVEL)
        return np.where(level < EDGE_LEVEL, low, high)


def start_tail(
    memory: NDArray[np.void],  # [n], written
    location: NDArray[np.float64],
    deviation: NDArray[np.float64],
) -> None:
    """Expect scores to lie about the location as those of other series do."""
    memory["edge"] = np.rint((location + memory["anchor"] * deviation) * EDGE_UNIT)
    memory["tail"] = memory["anchor_excess"] * deviation
    memory["edge_scores"], memory["tail_weight"] = EDGE_WEIGHT, TAIL_WEIGHT


def walk(
    memory: NDArray[np.void],  # [n], written
    of: NDArray[np.int64],  # [k] row of each score, rows one after another
    begin: NDArray[np.int64],  # [n] first score of each
    t: NDArray[np.float64],  # [k]
) -> NDArray[np.float64]:
    """Take in scores; returns the edge [k] that each one met, in t.

    The edge falls by known steps until a score exceeds it, so it is walked from one such score to
    the next, all rows at once, and in whole numbers: no cut of the stream shows.
    """
    lone = len(begin) == 1  # what a row has is then broadcast to its scores
    count = memory["edge_scores"].astype(np.int64) - begin
    gain = np.maximum(GAIN, YOUNG / (YOUNG + (count if lone else count[of]) + np.arange(len(of))))
    falls = np.rint(gain * (SHARE * EDGE_UNIT)).astype(np.int64)
    rises = np.rint(gain * EDGE_UNIT).astype(np.int64)  # beside the fall
    fallen = falls.cumsum() - falls
    if not lone:
        fallen -= fallen[begin][of]
    # Against an edge that never falls: a score that is not over it here never will be.
    within = np.minimum(np.maximum(t, -_MOST), _MOST)
    lifted = np.rint(within * EDGE_UNIT).astype(np.int64) + fallen
    before = memory["edge"].astype(np.int64)
    edge = before.copy()
    most = np.rint(np.maximum(memory["tail"], LEAST_TAIL) * (OUTLIER * EDGE_UNIT)).astype(np.int64)
    risen = np.zeros(len(of), np.int64)
    left = (lifted > (edge if lone else edge[of])).nonzero()[0]
    while len(left):
        first = heads(of[left])
        some = left[first]
        row = of[some]
        excess = lifted[some] - edge[row]
        usual = excess < most[row]
        memory["tail_sum"][row] += np.where(usual, excess, 0)
        memory["tail_count"][row] += usual
        memory["outlier"][row] |= ~usual
        risen[some] = np.where(usual, rises[some], _LEAST_RISE)
        edge[row] += risen[some]
        left = left[~first]
        left = left[lifted[left] > edge[of[left]]]
    risen = risen.cumsum() - risen
    met = (before if lone else before[of] - risen[begin][of]) + risen - fallen
    memory["edge"] = edge - np.add.reduceat(falls, begin)
    memory["edge_scores"] += np.bincount(of, minlength=len(begin)).astype(np.int32)
    edges: NDArray[np.float64] = met / EDGE_UNIT
    return edges


def learn_tail(memory: NDArray[np.void], calm: NDArray[np.bool_]) -> None:
    """The mean excess of calm rows, from the scores over the edge in a block that is full."""
    weight, tail = memory["tail_weight"].astype(np.float64), memory["tail"].astype(np.float64)
    count = memory["tail_count"] + memory["outlier"]
    most = OUTLIER * np.maximum(tail, LEAST_TAIL)
    total = memory["tail_sum"] / EDGE_UNIT + memory["outlier"] * most
    memory["tail"] = np.where(calm, (weight * tail + total) / (weight + count), tail)
    memory["tail_weight"] = np.where(calm, np.minimum(weight + count, LONGEST), weight)
