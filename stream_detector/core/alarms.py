"""When a score is an alarm: at a level of its series, or at a score that a rule has fixed.

A series has one of the two, the other is infinite in its row of the slab: `threshold`, a level,
which follows what the series' scores have lately been; or `bound`, a score, which nothing moves.
Events and reports speak of levels alone, so a bound is told as the level that it has at the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.core import levels as lv

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.calibration import Judged
    from stream_detector.core.segments import Segments
    from stream_detector.core.serving import Serving
    from stream_detector.core.slab import Slab


class Limits(NamedTuple):
    """What the new scores of some rows are held against."""

    z: NDArray[np.float64]  # [u] of the level; infinite where a score decides
    bound: NDArray[np.float32]  # [k] the score; infinite where a level decides
    reached: NDArray[np.bool_]  # [k] the score is at its bound or above
    fixed: NDArray[np.bool_]  # [k] a score decides


def limits(
    slab: Slab,
    serving: Serving,
    segments: Segments,
    fused: NDArray[np.float32],  # [k]
) -> Limits:
    bound = slab.bound[segments.row]
    fixed = np.isfinite(bound)
    z = serving.z_of(slab.threshold[segments.row].astype(np.float64))
    z[fixed] = np.inf
    each = bound[segments.of]
    return Limits(z, each, fused >= each, fixed[segments.of])


def thresholds(
    slab: Slab,
    serving: Serving,
    segments: Segments,
    held: Limits,
    judged: Judged,
    level: NDArray[np.float32],  # [k]
) -> NDArray[np.float32]:  # [k]
    """The level that each score needed.

    The level of a bound is the one that its score would have had then. Where rounding, or the flat
    part of levels below the first knot, would make a score and its bound alike, the threshold gives
    way: a level is at its threshold or above exactly if the score has reached its bound.
    """
    result: NDArray[np.float32] = slab.threshold[segments.row][segments.of]
    if not held.fixed.any():
        return result
    some = np.flatnonzero(held.fixed)
    t = lv.transformed(held.bound[some], serving.levels)
    z = (t - judged.location[some]) / judged.deviation[some]
    needed = serving.level_of(z).astype(np.float32)
    lowest = np.nextafter(level[some], np.float32(np.inf))
    result[some] = np.where(
        held.reached[some], np.minimum(needed, level[some]), np.maximum(needed, lowest)
    )
    return result


def ratio(
    serving: Serving,
    segments: Segments,
    held: Limits,
    judged: Judged,
    fused: NDArray[np.float32],  # [k]
) -> NDArray[np.float64]:  # [k]
    """Each score over the score at which its series would have raised an alarm."""
    z = np.where(held.fixed, 0.0, held.z[segments.of])
    score = lv.untransformed(judged.location + z * judged.deviation, serving.levels)
    bound = np.where(held.fixed, held.bound, score)
    result: NDArray[np.float64] = np.maximum(fused, 0) / np.maximum(bound, 1e-30)
    return result
