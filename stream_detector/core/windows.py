"""Steps of scale 1 -> steps at each scale -> windows; centre and scale of new series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.robust import median_and_spread
from stream_detector.core.segments import Segments
from stream_detector.core.slab import KNOWN, LEARN, LEARNING, LEARNT, NOT_LEARNING, WINDOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.slab import Slab
    from stream_detector.core.steps import Steps


@dataclass(frozen=True, slots=True)
class WindowSet:
    """Windows of one slab at one scale; w windows, cut from `flat` when they are needed."""

    flat: NDArray[np.float32]  # [*, F]
    start: NDArray[np.int64]  # [w] of each window in flat
    step: NDArray[np.int64]  # [w] which step of scale 1 completed it
    row: NDArray[np.int64]  # [w]
    nth: NDArray[np.int64]  # [w] windows of its unbroken run so far, counting itself

    def __len__(self) -> int:
        return len(self.start)

    def windows(self, first: int, last: int) -> NDArray[np.float32]:
        """[last - first, 60, F]"""
        windows: NDArray[np.float32] = self.flat[self.start[first:last, None] + np.arange(WINDOW)]
        return windows


def learn(slab: Slab, steps: Steps, offset: float, factor: float) -> NDArray[np.int64]:
    """Collect first steps of new series; at the 120th they get centre and scale.

    Returns the rows that have just learnt theirs.
    """
    segments = steps.segments
    young = slab.state[segments.row] == LEARNING
    if not young.any():
        return np.empty(0, np.int64)
    for row in segments.row[young & (slab.slot[segments.row] == NOT_LEARNING)].tolist():
        slab.slot[row] = slab.pool.take()
    mine = np.flatnonzero(young[segments.of] & (steps.nth <= LEARN))
    slot = slab.slot[segments.row[segments.of[mine]]]
    slab.pool.values[slot, steps.nth[mine] - 1] = steps.values[mine]
    slab.pool.steps[slot, steps.nth[mine] - 1] = steps.since[mine]

    ready: NDArray[np.int64] = segments.row[young & (slab.seen[segments.row] >= LEARN)]
    if len(ready):
        slot = slab.slot[ready]
        anchor = slab.anchor[ready]
        median, spread = median_and_spread(slab.pool.values[slot] + anchor[:, None])
        slab.center[ready] = median + offset * spread - anchor
        slab.spread[ready] = factor * spread
        slab.interval[ready] = np.median(slab.pool.steps[slot, 1:], axis=1)
        slab.state[ready] = LEARNT
        for freed in slot.tolist():
            slab.pool.release(freed)
        slab.slot[ready] = NOT_LEARNING
    return ready


def collect(slab: Slab, steps: Steps) -> dict[int, WindowSet]:
    """Scale -> the windows that these steps completed; moves the rings on."""
    segments = steps.segments
    state = slab.state[segments.row]
    ready = ((state == KNOWN) | (state == LEARNT))[segments.of]
    ready &= (state == KNOWN)[segments.of] | (steps.nth >= LEARN)
    result = {}
    for place, scale in enumerate(slab.scales):
        values, done = steps.values, np.arange(len(steps.nth))
        coarse = segments
        if scale > 1:
            values, done = _coarse(slab, slab.coarse.index(scale), scale, steps)
            coarse = Segments(segments.row[segments.of[done]])
        result[scale] = _window_set(slab, place, scale, coarse, values, steps, done, ready)
    return result


def _coarse(
    slab: Slab, place: int, scale: int, steps: Steps
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Means of `scale` steps: values [c, F] and the step [c] that completed each.

    Sums grow step by step in order, so they do not depend on how the stream was cut. Means are
    aligned to the series' own count; one that straddles a hole is in no window.
    """
    segments, nth = steps.segments, steps.nth
    mean = (nth - 1) // scale
    first = np.empty(len(nth), np.bool_)
    first[:1] = True
    first[1:] = (segments.of[1:] != segments.of[:-1]) | (mean[1:] != mean[:-1])
    of = np.cumsum(first) - 1  # [s] which sum a step belongs to
    carried = of[segments.start]
    which = np.concatenate((carried, of))
    sums = np.empty((int(of[-1]) + 1 if len(of) else 0, slab.features))
    for feature in range(slab.features):
        old = slab.sums[segments.row, place, feature]
        new = steps.values[:, feature].astype(np.float64)
        sums[:, feature] = np.bincount(which, np.concatenate((old, new)), len(sums))
    done = nth % scale == 0
    left = sums[of[segments.last]]
    left[done[segments.last]] = 0
    slab.sums[segments.row, place] = left
    completed = np.flatnonzero(done)
    return (sums[of[completed]] / scale).astype(np.float32), completed


def _window_set(
    slab: Slab,
    place: int,
    scale: int,
    segments: Segments,
    values: NDArray[np.float32],  # [c, F] new steps of this scale
    steps: Steps,
    done: NDArray[np.int64],  # [c] step of scale 1 that completed each
    ready: NDArray[np.bool_],  # [s]
) -> WindowSet:
    rows = segments.row
    count = steps.nth[done] // scale  # [c] steps of the series so far, counting this one
    before = count[segments.start] - 1  # [u] steps in the ring
    oldest = (before[:, None] - (WINDOW - 1) + np.arange(WINDOW - 1)) % WINDOW
    flat = segments.flat(slab.ring[rows[:, None], place, oldest], values)
    fresh = segments.nth >= segments.count[segments.of] - WINDOW
    slab.ring[rows[segments.of[fresh]], place, (count[fresh] - 1) % WINDOW] = values[fresh]
    spare = steps.length[done] - WINDOW * scale  # steps of the run before the window
    whole = np.flatnonzero(ready[done] & (spare >= 0))
    return WindowSet(
        flat,
        segments.looking_back(WINDOW - 1)[whole],
        done[whole],
        rows[segments.of[whole]],
        spare[whole] // scale + 1,
    )
