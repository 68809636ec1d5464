"""What the end of a block teaches: location and spread, the anchor, the rungs, the own correction.

The anchor is a running quantile. The rungs and the height of alarms are driven by how often
clusters begin above them, not by a fitted tail: what is promised is a rate of episodes, and windows
that overlap come in clusters of a size that no tail tells. Where too few clusters begin to be
driven by, an exponential tail reaches out from the rung below. Nothing is learnt while an alarm
lasts, so that an anomaly does not become usual, until it has lasted for so long that it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.core.calibration.heights import (
    ANCHOR_SHARE,
    LEAST_ANCHOR,
    RARE_RATE,
    RAREST_RATE,
    Heights,
    stretched,
)
from stream_detector.core.calibration.memory import (
    ALARM,
    ANCHOR,
    BLOCK,
    CLOSED,
    MEMORY,
    RARE,
    RAREST,
    UNSEEN,
    clear_block,
    settle,
)
from stream_detector.core.calibration.tail import learn_tail, start_tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

MATURE = 120
"""Scores that a series needs before it can raise anything."""
HORIZON = 2880
"""The newest of many scores counts for 1 / HORIZON in location and deviation."""
SETTLED = 240
"""Scores before the anchor begins to move."""
FIRST = 1440
"""Scores before the first rung is driven; until then it keeps a wide distance from the anchor."""
CONTROLLED = 720
"""Scores before corrections are driven."""
QUIET = 60
"""Scores below a height that end a cluster above it; a window's length."""
LEAST_EXCESS = 0.15
"""Of cluster peaks over the anchor, in t, a logarithm of errors: no tail falls faster."""
LONG = 240
"""Scores after which a cluster above a rung counts again. In the midst of scores that are high for
half of each day one cluster begins a day, as above a height that is rare: this tells them apart."""
OUTLIER = 5.0
"""A cluster so many mean excesses above its height is an anomaly: it teaches nothing."""
LASTING = 720
"""Scores after which an alarm was no chance: it does not use up the budget."""
MOST = 2.0
"""Corrections are at most so many mean excesses."""
RENEWED = 720
"""Scores that location and deviation rest on at most, once a new normal has begun."""
UNIT = 1024.0
"""Steps of z that are summed."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What rows are held to; [n] each."""

    promised: NDArray[np.float64]  # episodes a score; NaN where a level or a score decides
    level: NDArray[np.float64]  # that raises an alarm; NaN where a budget or a score decides
    lasting: NDArray[np.float64]  # scores after which an alarm is the new normal

    def take(self, rows: NDArray[np.integer]) -> Terms:
        return Terms(self.promised[rows], self.level[rows], self.lasting[rows])

    def asked(self, heights: Heights) -> NDArray[np.float64]:
        """z that the budget asks for before the series' own correction; of any where none does."""
        budget = np.isfinite(self.promised)
        return heights.at_rate(np.where(budget, self.promised, RARE_RATE))

    def height(
        self, memory: NDArray[np.void], heights: Heights, asked: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """z that raises an alarm; infinite where no budget decides."""
        own = memory["own"].astype(np.float64)
        z = np.maximum(asked + own * heights.excess, heights.anchor)
        return np.where(np.isfinite(self.promised), z, np.inf)


def prior(
    anchor: float, excess: float, rate: float, location: float = 0.0, deviation: float = 1.0
) -> NDArray[np.void]:  # [1] of MEMORY
    """The record of a series of which nothing is known but what is usual for others."""
    record = np.zeros(1, MEMORY)
    record["anchor"], record["anchor_excess"], record["anchor_rate"] = anchor, excess, rate
    start_tail(record, np.array([location]), np.array([deviation]))
    reach_out(record, np.zeros(1, np.int64))
    settle(record)
    return record


class Usual(NamedTuple):
    """Location and deviation [n] of scores."""

    location: NDArray[np.float64]
    deviation: NDArray[np.float64]


def learn(
    memory: NDArray[np.void],  # [n] whose block is full; written
    usual: Usual,
    heights: Heights,  # of the block
    asked: NDArray[np.float64],  # [n] by the budget, z
    terms: Terms,
    least: float,  # deviation
    quiet: int,  # samples below the threshold that end an episode
) -> Usual:
    """Take in the block, and begin the next one; returns location and deviation from now on."""
    learnt = memory["learnt"].astype(np.float64)
    before = memory["peak"][:, ALARM] == CLOSED
    clusters = _follow(memory, quiet)
    alarm = clusters.at(ALARM)
    lasting = alarm.during & (alarm.age > terms.lasting)
    later = learnt >= FIRST
    calm = ~(alarm.during & later)
    memory["learnt"] = learnt + BLOCK

    _correct(memory, heights, clusters, terms, asked, learnt >= CONTROLLED)
    _first_rung(memory, clusters.at(RARE), later, lasting)
    _anchor(memory, clusters.at(ANCHOR), calm & (learnt >= SETTLED), learnt - SETTLED)
    first = (~later).nonzero()[0]
    if len(first):
        reach_out(memory, first)
    excess = memory["anchor_excess"] = np.maximum(
        memory["anchor_excess"], LEAST_EXCESS / usual.deviation
    )
    memory["excess"] = np.maximum(memory["excess"], 0.25 * excess)
    memory["rare"] = np.maximum(memory["rare"], memory["anchor"] + 0.3 * excess)
    first = (memory["known"] == 0).nonzero()[0]
    usual = _usual(memory, usual, least, calm, lasting)
    learn_tail(memory, before | lasting)
    if len(first):  # until now the location was that of others
        records = memory[first]
        start_tail(records, usual.location[first], usual.deviation[first])
        memory[first] = records
    clear_block(memory)
    return usual


def reach_out(memory: NDArray[np.void], rows: NDArray[np.int64]) -> None:
    """The first rung, of rows for which it has not been driven yet."""
    excess = memory["anchor_excess"][rows].astype(np.float64)
    rate = np.maximum(memory["anchor_rate"][rows].astype(np.float64), 1.2 * RARE_RATE)
    peaks = np.minimum(memory["anchor_peaks"][rows].astype(np.float64) + 2, 40) / 2
    away = 0.8 * excess * stretched(peaks, np.log(rate / RARE_RATE))
    memory["rare"][rows] = memory["anchor"][rows] + away
    memory["excess"][rows] = 0.8 * excess


class _Clusters(NamedTuple):
    """What a block means for the clusters above each height; [n, 4], or [n] above one of them."""

    begun: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    peak: NDArray[np.float64]  # z, of the one that ended, or is open
    age: NDArray[np.float64]  # scores since it began
    during: NDArray[np.bool_]  # one was open in some part of the block

    def at(self, height: int) -> _Clusters:
        begun, ended, peak, age, during = self
        return _Clusters(
            begun[:, height], ended[:, height], peak[:, height], age[:, height], during[:, height]
        )


def _follow(memory: NDArray[np.void], quiet: int) -> _Clusters:
    """Open and close clusters by the places of the block's first and last score at each height."""
    quiets = np.array([QUIET] * ALARM + [quiet])
    peak, since = memory["peak"].copy(), memory["quiet"]
    age = memory["age"].astype(np.float64)
    first, last = memory["first"], memory["last"]
    there = last >= 0
    was = peak > CLOSED
    begun = there & (~was | (since + first >= quiets))
    rungs = slice(RARE, RAREST + 1)
    begun[:, rungs] |= there[:, rungs] & was[:, rungs] & (age[:, rungs] > LONG)
    begun[:, ALARM] = memory["begun"] > 0
    silent = np.where(there, BLOCK - 1 - last, since + BLOCK)
    ended = was & (begun | (~there & (silent >= quiets)))
    top = memory["top"][:, None]
    kept = np.where(was & ~ended, peak, CLOSED)
    memory["peak"] = np.where(there, np.maximum(kept, top), kept)
    memory["quiet"] = np.minimum(silent, UNSEEN)
    memory["age"] = np.where(begun, BLOCK - first, np.minimum(age + BLOCK, UNSEEN))
    # An alarm that has ended within a block, as short quiet periods allow, was open in it.
    return _Clusters(begun, ended, peak.astype(np.float64), age, was | begun)


def _correct(
    memory: NDArray[np.void],
    heights: Heights,
    clusters: _Clusters,
    terms: Terms,
    asked: NDArray[np.float64],
    driven: NDArray[np.bool_],
) -> None:
    """Drive the corrections of the second rung and of alarms to their rates."""
    alarm, rarest = clusters.at(ALARM), clusters.at(RAREST)
    unending = alarm.during & (alarm.age > LASTING)
    far = OUTLIER * heights.excess
    # The second rung: its own clusters are what is counted.
    real = rarest.ended & ((rarest.age >= LASTING) | (rarest.peak > heights.rarest + far))
    gain = 0.5
    still = unending | (rarest.during & (rarest.age > LASTING))
    change = rarest.begun * gain - real * gain - np.where(still, 0.0, gain * RAREST_RATE * BLOCK)
    _add(memory, "rarest", change, driven)
    # Alarms: where the second rung is near it has been driven to their rate already.
    budget = np.isfinite(terms.promised)
    promised = np.where(budget, terms.promised, 0.0)
    gain_of = np.where(promised < RARE_RATE / 10, 0.5, 0.25)
    real = alarm.ended & ((alarm.age >= LASTING) | (alarm.peak > asked + far))
    change = memory["begun"] - 1.0 * real - np.where(unending, 0.0, promised * BLOCK)
    _add(memory, "own", gain_of * change, driven & budget)


def _add(
    memory: NDArray[np.void], name: str, change: NDArray[np.float64], driven: NDArray[np.bool_]
) -> None:
    old = memory[name]
    memory[name] = np.where(driven, np.minimum(np.maximum(old + change, -MOST), MOST), old)


def _first_rung(
    memory: NDArray[np.void],
    clusters: _Clusters,
    later: NDArray[np.bool_],
    lasting: NDArray[np.bool_],
) -> None:
    """Drive it to its rate, and take the mean excess from the peaks over it."""
    begun, ended = clusters.begun, clusters.ended & later
    rare, excess = memory["rare"].astype(np.float64), memory["excess"].astype(np.float64)
    peaks = memory["peaks"].astype(np.float64)
    over = clusters.peak - memory["begun_at"]
    outlier = ended & (over > OUTLIER * excess)
    taught = ended & ~outlier
    excess = np.where(taught, excess + (over - excess) / np.minimum(peaks + 5, 30), excess)
    memory["excess"], memory["peaks"] = excess, peaks + taught
    rare = np.where(outlier, rare - memory["step_back"], rare)
    gain = np.maximum(0.2, 1.0 / (1.5 + 0.5 * memory["peaks"])) * excess
    memory["begun_at"] = np.where(begun, rare, memory["begun_at"])
    memory["step_back"] = np.where(begun, gain, memory["step_back"])
    driven = later & ~lasting
    memory["rare"] = np.where(driven, rare + gain * (begun - RARE_RATE * BLOCK), rare)


def _anchor(
    memory: NDArray[np.void],
    clusters: _Clusters,
    moves: NDArray[np.bool_],
    settled: NDArray[np.float64],  # scores since it began to move
) -> None:
    anchor, excess, peaks, rate = (
        memory[name].astype(np.float64)
        for name in ("anchor", "anchor_excess", "anchor_peaks", "anchor_rate")
    )
    settled = np.maximum(settled, 0.0)
    over = np.minimum(clusters.peak - anchor, 5.0 * excess)
    weight = np.maximum(1 / 60, 1 / (peaks + 10))
    memory["anchor_excess"] = np.where(clusters.ended, excess + weight * (over - excess), excess)
    memory["anchor_peaks"] = np.minimum(peaks + clusters.ended, 1000)
    weight = np.minimum(np.maximum(1 / (7 * 1440), 1 / (settled + 480)) * BLOCK, 1.0)
    memory["anchor_rate"] = np.where(moves, rate + weight * (clusters.begun / BLOCK - rate), rate)
    gain = np.minimum(np.maximum(0.004, 10.0 / (10.0 + settled)), 1 / 3)
    change = gain * (memory["over"] - ANCHOR_SHARE * BLOCK)
    change = np.minimum(np.maximum(change, -0.5), 1.0)
    moved = np.maximum(anchor + change, LEAST_ANCHOR)
    memory["anchor"] = np.where(moves, moved, anchor)


def _usual(
    memory: NDArray[np.void],
    usual: Usual,
    least: float,
    calm: NDArray[np.bool_],
    lasting: NDArray[np.bool_],
) -> Usual:
    """Means of the block, in which errors are cut; of a new normal they count more."""
    known = memory["known"].astype(np.float64)
    known = np.where(lasting, np.minimum(known, RENEWED), known)
    mean = memory["sum"] / (UNIT * BLOCK)
    size = memory["size"] / (UNIT * BLOCK)
    weight = np.maximum(BLOCK / (known + BLOCK), BLOCK / HORIZON)
    size = np.where(known == 0, 1.0, size)  # distances from a location that was not its own
    learns = calm | lasting
    location = usual.location + np.where(learns, weight * mean * usual.deviation, 0.0)
    deviation = usual.deviation * np.where(learns, 1.0 + weight * (size - 1.0), 1.0)
    memory["known"] = np.where(learns, np.minimum(known + BLOCK, HORIZON), memory["known"])
    return Usual(location, np.maximum(deviation, least))
