"""How unusual a score is for its own series: location and spread of its scores, followed online.

Robust and slow: each score moves the location by at most one spread, scores that raise an alarm
move nothing, and the newest of many scores counts for 1/2880.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.segments import Segments
    from stream_detector.core.slab import Slab

MATURE = 120
"""Scores that a series needs before it can raise anything."""
HORIZON = 2880
WEIGHT_OF_PRIOR = 30
"""The bundle's spread counts as this many scores of a series that it doesn't know."""
LEAST_SPREAD = 0.5
"""Part of the bundle's spread that a series' own never falls below."""
UPPER = 2.5066282746310002
"""sqrt(2 pi): mean of the positive part of a normal variable -> its standard deviation."""


class Judged(NamedTuple):
    z: NDArray[np.float64]  # [k] (t - location) / deviation, before the score was learnt from
    location: NDArray[np.float64]  # [k]
    deviation: NDArray[np.float64]  # [k]
    seen: NDArray[np.int32]  # [k] scores learnt from before this one
    after: NDArray[np.int32]  # [k] and after it


def judge(
    slab: Slab,
    segments: Segments,
    t: NDArray[np.float64],  # [k] transformed scores
    alarm: NDArray[np.float64],  # [u] z of each row's threshold
    reached: NDArray[np.bool_],  # [k] the score has reached a bound: an alarm whatever its z
    spread: float,  # the bundle's
) -> Judged:
    """Place each score in its series' own distribution, and learn from it."""
    judged = Judged(
        np.empty(len(t)),
        np.empty(len(t)),
        np.empty(len(t)),
        np.empty(len(t), np.int32),
        np.empty(len(t), np.int32),
    )
    waves = int(segments.count.max(initial=0))
    if waves > len(segments):
        _by_row(slab, segments, t, alarm, reached, spread, judged)
    else:
        _by_wave(slab, segments, t, alarm, reached, spread, judged, waves)
    return judged


def _by_wave(
    slab: Slab,
    segments: Segments,
    t: NDArray[np.float64],
    alarm: NDArray[np.float64],
    reached: NDArray[np.bool_],
    spread: float,
    judged: Judged,
    waves: int,
) -> None:
    """The first score of every row, then the second, ..."""
    location = slab.location[segments.row]
    deviation = slab.deviation[segments.row]
    seen = slab.scored[segments.row]
    for wave in range(waves):
        some = np.flatnonzero(segments.count > wave)
        at = segments.start[some] + wave
        value, n = t[at], seen[some]
        m = np.where(n == 0, value, location[some])
        d = deviation[some]
        error = value - m
        z = error / d
        judged.z[at], judged.location[at], judged.deviation[at], judged.seen[at] = z, m, d, n
        calm = ~((n >= MATURE) & ((z >= alarm[some]) | reached[at]))
        rate = np.maximum(1.0 / (n + 1.0), 1.0 / HORIZON)
        rate_of_spread = np.maximum(1.0 / (n + 1.0 + WEIGHT_OF_PRIOR), 1.0 / HORIZON)
        moved = m + rate * np.minimum(np.maximum(error, -d), d)
        upper = UPPER * np.minimum(np.maximum(error, 0.0), 3.0 * d)
        wider = np.maximum(d + rate_of_spread * (upper - d), LEAST_SPREAD * spread)
        location[some] = np.where(calm, moved, m)
        deviation[some] = np.where(calm, wider, d)
        seen[some] = judged.after[at] = n + calm
    slab.location[segments.row] = location
    slab.deviation[segments.row] = deviation
    slab.scored[segments.row] = seen


def _by_row(
    slab: Slab,
    segments: Segments,
    t: NDArray[np.float64],
    alarm: NDArray[np.float64],
    reached: NDArray[np.bool_],
    spread: float,
    judged: Judged,
) -> None:
    """The same arithmetic on plain floats: quicker where few rows have many scores each."""
    values, bounds = t.tolist(), reached.tolist()
    least = LEAST_SPREAD * spread
    for segment, row in enumerate(segments.row.tolist()):
        first = int(segments.start[segment])
        last = first + int(segments.count[segment])
        m, d, n = float(slab.location[row]), float(slab.deviation[row]), int(slab.scored[row])
        limit = float(alarm[segment])
        zs, ms, ds, ns, after = [], [], [], [], []
        for value, over in zip(values[first:last], bounds[first:last], strict=True):
            if n == 0:
                m = value
            error = value - m
            z = error / d
            zs.append(z)
            ms.append(m)
            ds.append(d)
            ns.append(n)
            if n >= MATURE and (z >= limit or over):
                after.append(n)
                continue
            rate = max(1.0 / (n + 1.0), 1.0 / HORIZON)
            rate_of_spread = max(1.0 / (n + 1.0 + WEIGHT_OF_PRIOR), 1.0 / HORIZON)
            m = m + rate * min(max(error, -d), d)
            upper = UPPER * min(max(error, 0.0), 3.0 * d)
            d = max(d + rate_of_spread * (upper - d), least)
            n += 1
            after.append(n)
        judged.z[first:last], judged.location[first:last] = zs, ms
        judged.deviation[first:last], judged.seen[first:last] = ds, ns
        judged.after[first:last] = after
        slab.location[row], slab.deviation[row], slab.scored[row] = m, d, n
