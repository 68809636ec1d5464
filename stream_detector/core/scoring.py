"""Windows -> scores in tiles of a fixed ladder, smoothed, as tail excesses."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.core import levels as lv
from stream_detector.core.segments import Segments
from stream_detector.core.slab import WINDOW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream_detector.core.serving import Serving
    from stream_detector.core.slab import Slab
    from stream_detector.core.windows import WindowSet
    from stream_detector.manifest import Expert


class Scored(NamedTuple):
    """What the module says of the windows of one WindowSet."""

    scores: NDArray[np.float32]  # [w, E]
    contribution: NDArray[np.float32]  # [w, F]
    expected: NDArray[np.float32]  # [w, F] relative to the anchor
    finite: NDArray[np.bool_]  # [w] false: a fault of the model, not an anomaly


def tiles(count: int, rungs: Sequence[int]) -> list[int]:
    """Tile sizes that hold `count` windows: the largest that fill, then the smallest that does."""
    result = []
    for rung in reversed(rungs):
        result += [rung] * (count // rung)
        count %= rung
    if count:
        result.append(rungs[0])
    return result


def score(serving: Serving, scale: int, sets: Sequence[tuple[Slab, WindowSet]]) -> list[Scored]:
    """Score the windows of several slabs at one scale in common tiles."""
    sizes = [len(part) for _, part in sets]
    total = sum(sizes)
    width = len(serving.features)
    scores = np.empty((total, 0), np.float32)
    contribution = np.empty((total, width), np.float32)
    expected = np.empty((total, width), np.float32)
    cut = _Cutter(sets)
    done = 0
    for rung in tiles(total, serving.scorer.rungs):
        taken = min(rung, total - done)
        answer = serving.scorer.score(scale, *cut.tile(rung, taken, width))
        if not done:
            scores = np.empty((total, answer.scores.shape[1]), np.float32)
        scores[done : done + taken] = answer.scores[:taken]
        contribution[done : done + taken] = answer.contribution[:taken]
        expected[done : done + taken] = answer.expected[:taken]
        done += taken
    finite = np.logical_and.reduce(np.isfinite(scores), axis=1)
    ends = np.cumsum([0, *sizes])
    return [
        Scored(scores[a:b], contribution[a:b], expected[a:b], finite[a:b])
        for a, b in pairwise(ends.tolist())
    ]


class _Cutter:
    """Takes windows off a list of sets, tile by tile."""

    def __init__(self, sets: Sequence[tuple[Slab, WindowSet]]) -> None:
        self._sets = sets
        self._set = 0
        self._next = 0

    def tile(
        self, rung: int, taken: int, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """The next `taken` windows, padded to `rung` with repetitions of the first."""
        windows = np.empty((rung, WINDOW, width), np.float32)
        center = np.empty((rung, width), np.float32)
        spread = np.empty((rung, width), np.float32)
        filled = 0
        while filled < taken:
            slab, part = self._sets[self._set]
            count = min(taken - filled, len(part) - self._next)
            place = slice(filled, filled + count)
            rows = part.row[self._next : self._next + count]
            windows[place] = part.windows(self._next, self._next + count)
            center[place] = slab.center[rows]
            spread[place] = slab.spread[rows]
            filled += count
            self._next += count
            if self._next == len(part):
                self._set, self._next = self._set + 1, 0
        for array in (windows, center, spread):
            array[taken:] = array[0]
        return windows, center, spread


def excesses(
    slab: Slab, serving: Serving, sets: dict[int, tuple[WindowSet, Scored]], steps: int
) -> NDArray[np.float32]:
    """[s, X] tail excess of each expert where a window was completed, else NaN."""
    result = np.full((steps, len(serving.experts)), np.nan, np.float32)
    for scale, (windows, scored) in sets.items():
        good = np.flatnonzero(scored.finite)
        if not len(good):
            continue
        segments = Segments(windows.row[good])
        for at in serving.by_scale[scale]:
            expert = serving.experts[at]
            scores, nth = scored.scores[good, expert.output], windows.nth[good]
            smooth = _smooth(slab.history[at], segments, scores, nth, expert)
            result[windows.step[good], at] = lv.excess_of(smooth, expert.tail)
    return result


def _smooth(
    history: NDArray[np.float32],  # [R, n - 1], newest last; written
    segments: Segments,
    scores: NDArray[np.float32],  # [w]
    nth: NDArray[np.int64],  # [w] window of its unbroken run, from 1
    expert: Expert,
) -> NDArray[np.float32]:
    """[w] mean, maximum or median of the last n scores of each run, of as many as there are."""
    h = history.shape[1]
    if h == 0:
        return scores
    flat = segments.flat(history[segments.row], scores)
    start = segments.looking_back(h)
    history[segments.row] = flat[start[segments.last][:, None] + 1 + np.arange(h)]
    if expert.smoothing.kind == "median":
        place = np.arange(h + 1)
        past = flat[start[:, None] + place]
        return lv.median(np.where(nth[:, None] > h - place, past, np.float32(np.nan)))
    total = np.zeros(len(scores), np.float32)
    count = np.zeros(len(scores), np.float32)
    if expert.smoothing.kind == "max":
        total.fill(-np.inf)
    for back in range(h + 1):  # one by one: a sum's last bits depend on its order
        part = flat[start + back]
        there = ~np.isnan(part) & (nth > h - back)
        if expert.smoothing.kind == "max":
            np.maximum(total, part, out=total, where=there)
        else:
            np.add(total, part, out=total, where=there)
            count += there
    return total if expert.smoothing.kind == "max" else total / count
