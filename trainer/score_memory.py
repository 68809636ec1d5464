"""Held-out scores -> what is usual for each series, and what its scores have taught.

The detector's own calibration runs over the held-out scores as if they had come in live, so that a
series of the bundle starts where it would have got to by itself; all others start from what the
series have in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.bundle import WINDOW
from stream_detector.core.calibration import Limits, Rules, State, Terms, judge, prior, settle
from stream_detector.core.calibration.heights import ANCHOR_SHARE, LEAST_ANCHOR
from stream_detector.core.calibration.lesson import HORIZON, LEAST_EXCESS
from stream_detector.core.calibration.tail import start_tail
from stream_detector.core.segments import Segments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FLOOR = 0.04
"""Least spread of a series' log score: four per cent of its usual score."""

PRIOR_WINDOWS = 10.0
"""Independent windows' worth of weight that the fleet's spread has on that of one series."""

PRIOR_EXCESS, PRIOR_PEAKS = 0.4, 10.0
"""Excess of cluster peaks over the anchor, in t, a logarithm of errors: what to start from, and its
weight in peaks."""

EXCESS_CUT = 5.0
"""A held-out anomaly counts at most this many usual excesses, so that it hardly widens the tail."""


class UsualScores(NamedTuple):
    """Of n series."""

    location: NDArray[np.float64]  # [n] of the transformed score
    spread: NDArray[np.float64]  # [n]
    held_out: NDArray[np.int64]  # [n] scores
    memory: NDArray[np.void]  # [n]
    fleet: dict[str, float]  # location, spread, anchor, excess, rate (see bundle.Levels)


def usual_scores(t: Mapping[int, NDArray[np.float64]], count: int) -> UsualScores:
    """From the transformed held-out scores [m] of some of `count` series, by number, in time.

    Windows that overlap tell little news, so the spread of a short slice is drawn to the fleet's
    median; a series without held-out scores gets the fleet's.
    """
    middle = {number: float(np.median(part)) for number, part in t.items()}
    width = {
        number: max(float(np.abs(part - middle[number]).mean()), FLOOR)
        for number, part in t.items()
    }
    fleet = float(np.median(list(middle.values()))), float(np.median(list(width.values())))
    location, spread = np.full(count, fleet[0]), np.full(count, fleet[1])
    for number, part in t.items():
        news = len(part) / WINDOW
        weighted = news * np.log(width[number]) + PRIOR_WINDOWS * np.log(fleet[1])
        location[number], spread[number] = middle[number], np.exp(weighted / (news + PRIOR_WINDOWS))
    z = [(part - location[number]) / spread[number] for number, part in t.items()]
    anchor = max(float(np.quantile(np.concatenate(z), 1 - ANCHOR_SHARE)), LEAST_ANCHOR)
    excess, rate = _clusters(z, anchor, fleet[1])
    memory = np.repeat(prior(anchor, excess, rate), count)
    start_tail(memory, location, spread)
    state = State(memory, location, spread, np.zeros(count, np.int32))
    _teach(state, t, FLOOR)
    seen = state.scored.astype(np.int64)
    names = ("location", "spread", "anchor", "excess", "rate")
    values = dict(zip(names, (*fleet, anchor, excess, rate), strict=True))
    return UsualScores(state.location, state.deviation, seen, state.memory, values)


def _teach(state: State, t: Mapping[int, NDArray[np.float64]], least: float) -> None:
    """Let the series of `state` learn from their scores; none of them is an alarm."""
    rows = np.array(sorted(t), np.int64)
    some = state.take(rows)
    some.memory["known"] = np.minimum([len(t[row]) for row in rows.tolist()], HORIZON)
    scores = np.concatenate([t[row] for row in rows.tolist()])
    segments = Segments(np.repeat(np.arange(len(rows)), [len(t[row]) for row in rows.tolist()]))
    none = np.full(len(rows), np.nan)
    limits = Limits(np.full(len(rows), np.inf), np.zeros(len(scores), np.bool_))
    terms = Terms(none, none, np.full(len(rows), np.inf))
    judge(some, segments, scores, limits, terms, Rules(least, WINDOW, 1))
    settle(some.memory)
    state.put(rows, some)


def _clusters(z: list[NDArray[np.float64]], anchor: float, spread: float) -> tuple[float, float]:
    """Mean excess of the peaks of clusters over the anchor, and clusters a score."""
    peaks = []
    for part in z:
        above = np.flatnonzero(part > anchor)
        apart = np.flatnonzero(np.diff(above) > WINDOW) + 1
        peaks += [float(part[rows].max()) - anchor for rows in np.split(above, apart) if len(rows)]
    total = PRIOR_PEAKS * PRIOR_EXCESS / spread
    if peaks:
        most = EXCESS_CUT * float(np.median(peaks))
        total += float(np.minimum(peaks, most).sum())
    scores = sum(len(part) for part in z)
    rate = max(len(peaks), 1) / max(scores, 1)
    return max(total / (PRIOR_PEAKS + len(peaks)), LEAST_EXCESS / spread), min(rate, 1 / WINDOW)
