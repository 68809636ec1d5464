"""Which features are to blame for a score: what differs now from how the series usually scores.

A feature that has drifted since training has a part in every score, and would come first at all
times. So of each feature's part, its share of the score times the score, only what exceeds its mean
over calm windows counts. That mean is learnt block by block, and no window at or above its
threshold is part of it: what an open episode is about does not become usual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.segments import Segments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.scoring import Scored
    from stream_detector.core.slab import Slab
    from stream_detector.core.windows import WindowSet

BLOCK = 20
"""Windows of an unbroken run after which the mean moves on."""
MEMORY = 200
"""Calm windows that the mean rests on, about."""

Told = dict[int, tuple["WindowSet", "NDArray[np.float32]", "NDArray[np.float32]"]]
"""Scale -> its windows, each feature's share of the blame [w, F], and expected values [w, F]."""


def told(
    slab: Slab,
    scored: dict[int, tuple[WindowSet, Scored]],
    score: NDArray[np.float32],  # [s] fused
    calm: NDArray[np.bool_],  # [s] below the threshold
) -> Told:
    """What events say of windows; learns what is usual where there are several features."""
    result = {}
    for place, (scale, (windows, answer)) in enumerate(scored.items()):
        share = answer.contribution
        if slab.features > 1 and len(windows):
            at = windows.step
            height = np.maximum(np.nan_to_num(score[at]), np.float32(0.0))
            share = unusual(slab, place, windows, share, height, calm[at] & answer.finite)
        result[scale] = windows, share, answer.expected
    return result


def unusual(
    slab: Slab,
    place: int,  # of the scale
    windows: WindowSet,
    share: NDArray[np.float32],  # [w, F] of the score
    score: NDArray[np.float32],  # [w] >= 0
    calm: NDArray[np.bool_],  # [w]
) -> NDArray[np.float32]:
    """[w, F] shares of what exceeds the usual; as given where nothing does. Moves the mean on."""
    segments, width = Segments(windows.row), slab.features
    rows = segments.row
    part = share * score[:, None]
    done = windows.nth % BLOCK == 0
    # One block more than is complete at the end of each segment, perhaps without a window yet.
    before = np.cumsum(done) - done
    block = before + segments.of  # [w]
    first = block[segments.start]  # [u]
    last = block[segments.last] + done[segments.last]
    blocks = int(last[-1]) + 1

    good = calm & np.isfinite(part).all(axis=1)
    count = np.bincount(block[good], minlength=blocks)
    count[first] += slab.blame_count[rows, place]
    which = np.concatenate((first, block[good]))
    new = np.concatenate((slab.blame_sum[rows, place], part[good]))
    # Sums grow window by window in order, so they do not depend on how the stream was cut.
    cells = which[:, None] * width + np.arange(width)
    total = np.bincount(cells.ravel(), new.ravel(), blocks * width).reshape(blocks, width)

    usual = np.empty((blocks, width), np.float32)
    mean, known = slab.blame[rows, place], slab.blame_known[rows, place]
    usual[first] = mean
    for ahead in range(int((last - first).max(initial=0))):
        some = np.flatnonzero(first + ahead < last)
        at = first[some] + ahead
        n = count[at]
        known[some] = np.minimum(known[some] + n, MEMORY)
        weight = (n / np.maximum(known[some], 1))[:, None]
        there = total[at] / np.maximum(n, 1)[:, None]
        mean[some] += (weight * (there - mean[some])).astype(np.float32)
        usual[at + 1] = mean[some]
    slab.blame[rows, place], slab.blame_known[rows, place] = mean, known
    slab.blame_sum[rows, place], slab.blame_count[rows, place] = total[last], count[last]

    above = np.maximum(part - usual[block], np.float32(0.0))
    whole = above.sum(axis=1, keepdims=True)
    found: NDArray[np.float32] = np.where(
        whole > 0, above / np.where(whole > 0, whole, np.float32(1.0)), share
    )
    return found
