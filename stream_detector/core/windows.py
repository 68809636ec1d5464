"""Accepted samples -> steps at each scale -> windows; centre and scale of new series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.robust import median_and_spread
from stream_detector.core.segments import Segments
from stream_detector.core.slab import KNOWN, LEARN, LEARNING, LEARNT, NOT_LEARNING, WINDOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.admission import Admitted
    from stream_detector.core.slab import Slab


@dataclass(frozen=True, slots=True)
class WindowSet:
    """Windows of one slab at one scale; w windows, cut from `flat` when they are needed."""

    flat: NDArray[np.float32]  # [*, F]
    start: NDArray[np.int64]  # [w] of each window in flat
    sample: NDArray[np.int64]  # [w] which accepted sample completed it
    row: NDArray[np.int64]  # [w]

    def __len__(self) -> int:
        return len(self.start)

    def windows(self, first: int, last: int) -> NDArray[np.float32]:
        """[last - first, 60, F]"""
        windows: NDArray[np.float32] = self.flat[self.start[first:last, None] + np.arange(WINDOW)]
        return windows


def learn(slab: Slab, admitted: Admitted, offset: float, factor: float) -> NDArray[np.int64]:
    """Collect first samples of new series; at the 120th they get centre and scale.

    Returns the rows that have just learnt theirs.
    """
    segments = admitted.segments
    young = slab.state[segments.row] == LEARNING
    if not young.any():
        return np.empty(0, np.int64)
    for row in segments.row[young & (slab.slot[segments.row] == NOT_LEARNING)].tolist():
        slab.slot[row] = slab.pool.take()
    nth = admitted.before[segments.of] + segments.nth  # [m] 0 for a series' first sample
    mine = np.flatnonzero(young[segments.of] & (nth < LEARN))
    slot = slab.slot[segments.row[segments.of[mine]]]
    slab.pool.values[slot, nth[mine]] = admitted.values[mine]
    slab.pool.steps[slot, nth[mine]] = admitted.since[mine]

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


def collect(slab: Slab, admitted: Admitted) -> dict[int, WindowSet]:
    """Scale -> the windows that these samples completed; moves the rings on."""
    segments = admitted.segments
    seen = admitted.before[segments.of] + segments.nth + 1  # [m] counting the sample itself
    state = slab.state[segments.row]
    ready = ((state == KNOWN) | (state == LEARNT))[segments.of]
    ready &= (state == KNOWN)[segments.of] | (seen >= LEARN)
    result = {}
    for place, scale in enumerate(slab.scales):
        if scale == 1:
            result[scale] = _window_set(
                slab, place, segments, admitted.values, seen, np.arange(len(seen)), ready
            )
            continue
        values, sample = _steps(slab, slab.coarse.index(scale), scale, admitted, seen)
        steps = Segments(segments.row[segments.of[sample]])
        result[scale] = _window_set(
            slab, place, steps, values, seen[sample] // scale, sample, ready[sample]
        )
    return result


def _steps(
    slab: Slab, place: int, scale: int, admitted: Admitted, seen: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Means of `scale` samples: values [s, F] and the sample [s] that completed each.

    Sums grow sample by sample in order, so they do not depend on how the stream was cut.
    """
    segments = admitted.segments
    step = (seen - 1) // scale
    first = np.empty(len(seen), np.bool_)
    first[:1] = True
    first[1:] = (segments.of[1:] != segments.of[:-1]) | (step[1:] != step[:-1])
    of = np.cumsum(first) - 1  # [m] which sum a sample belongs to
    carried = of[segments.start]
    which = np.concatenate((carried, of))
    sums = np.empty((int(of[-1]) + 1 if len(of) else 0, slab.features))
    for feature in range(slab.features):
        old = slab.sums[segments.row, place, feature]
        new = admitted.values[:, feature].astype(np.float64)
        sums[:, feature] = np.bincount(which, np.concatenate((old, new)), len(sums))
    done = seen % scale == 0
    left = sums[of[segments.last]]
    left[done[segments.last]] = 0
    slab.sums[segments.row, place] = left
    sample = np.flatnonzero(done)
    return (sums[of[sample]] / scale).astype(np.float32), sample


def _window_set(
    slab: Slab,
    place: int,
    segments: Segments,
    values: NDArray[np.float32],  # [s, F] new steps
    count: NDArray[np.int64],  # [s] steps of the series so far, counting this one
    sample: NDArray[np.int64],  # [s]
    ready: NDArray[np.bool_],  # [s]
) -> WindowSet:
    rows = segments.row
    before = count[segments.start] - 1  # [u] steps in the ring
    oldest = (before[:, None] - (WINDOW - 1) + np.arange(WINDOW - 1)) % WINDOW
    flat = segments.flat(slab.ring[rows[:, None], place, oldest], values)
    fresh = segments.nth >= segments.count[segments.of] - WINDOW
    slab.ring[rows[segments.of[fresh]], place, (count[fresh] - 1) % WINDOW] = values[fresh]
    whole = np.flatnonzero(ready & (count >= WINDOW))
    return WindowSet(
        flat, segments.looking_back(WINDOW - 1)[whole], sample[whole], rows[segments.of[whole]]
    )
