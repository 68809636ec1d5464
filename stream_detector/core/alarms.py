"""When a score is an alarm: by a budget, at a level of its series, or at a score that a rule fixed.

A series has one of the three in its row of the slab: `promised`, the alarms a score that are
accepted; `wanted`, a level, which like a budget follows what the series' scores have lately been;
or `bound`, a score, which nothing moves. Events and reports speak of levels alone, so a budget or a
bound is told as the level that it has at the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.core import levels as lv
from stream_detector.core.calibration import Limits, State, Terms, judge
from stream_detector.core.segments import Segments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.serving import Serving
    from stream_detector.core.slab import Slab


class Verdict(NamedTuple):
    """Of k new scores."""

    level: NDArray[np.float32]
    threshold: NDArray[np.float32]  # the level that each score needed
    ratio: NDArray[np.float64]  # score / the score that it needed
    seen: NDArray[np.int32]  # scores of the series before


def remembered(slab: Slab, rows: NDArray[np.int64]) -> State:
    """What rows know of their scores; a copy."""
    return State(slab.memory[rows], slab.location[rows], slab.deviation[rows], slab.scored[rows])


def learn_again(
    slab: Slab,
    serving: Serving,
    before: State,  # [1] of the row; [0] where no score of it came
    row: int,
    fused: NDArray[np.float32],  # [k] its scores since then that count
) -> None:
    """Forget what scores have taught that turned out to be those of a series that starts anew."""
    if not len(before.scored):  # a level that was held ended its old life: nothing was taught
        return
    slab.memory[row], slab.scored[row] = before.memory[0], before.scored[0]
    slab.location[row], slab.deviation[row] = before.location[0], before.deviation[0]
    judged(slab, serving, Segments(np.full(len(fused), row)), fused)


def judged(
    slab: Slab,
    serving: Serving,
    segments: Segments,
    fused: NDArray[np.float32],  # [k]
) -> Verdict:
    """Judge new scores of some rows, and learn from them.

    Where rounding would make a score and its bound alike, the threshold gives way: a level is at
    its threshold or above exactly if the score has reached its bound.
    """
    rows = segments.row
    bound = slab.bound[rows]
    fixed, each = np.isfinite(bound), bound[segments.of]
    reached = fused >= each
    limit = np.full(len(rows), np.inf)
    limit[fixed] = lv.transformed(bound[fixed], serving.levels)
    state = remembered(slab, rows)
    terms = Terms(
        slab.promised[rows].astype(np.float64),
        slab.wanted[rows].astype(np.float64),
        serving.lasting(slab, rows),
    )
    t = lv.transformed(fused, serving.levels)
    found = judge(state, segments, t, Limits(limit, reached), terms, serving.rules)
    slab.memory[rows], slab.scored[rows] = state.memory, state.scored
    slab.location[rows], slab.deviation[rows] = state.location, state.deviation

    level, threshold = found.level.astype(np.float32), found.threshold.astype(np.float32)
    some = np.flatnonzero(fixed[segments.of])
    if len(some):
        lowest = np.nextafter(level[some], np.float32(np.inf))
        threshold[some] = np.where(
            reached[some],
            np.minimum(threshold[some], level[some]),
            np.maximum(threshold[some], lowest),
        )
    needed = lv.untransformed(found.t, serving.levels)
    needed[some] = each[some]
    ratio = np.maximum(fused, 0) / np.maximum(needed, 1e-30)
    return Verdict(level, threshold, ratio, found.seen)
