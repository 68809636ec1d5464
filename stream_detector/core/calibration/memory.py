"""What a series remembers of its own scores: about 25 numbers, one record a row.

Levels are told from the edge and the tail of t (tail.py). For alarms by budget scores are spoken of
as z = (t - location) / deviation, and three heights of z are followed, each by how often clusters
of scores begin above it: the anchor, which 3% of scores exceed; and two rungs, the
heights that a cluster exceeds once in 1,440 and once in 10,080 scores. A cluster begins with a
score at its height or above and ends after `quiet` scores below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EDGE_UNIT = float(1 << 24)
"""Steps of t in which the edge moves."""
BLOCK = 60
"""Scores between two lessons. What a block has to teach is kept in sums of whole numbers and
extremes, which don't depend on how the stream was cut into batches."""

UNSEEN = 1 << 20
"""Scores since a cluster's last one above its height, where there has been none."""
CLOSED = -np.inf
"""Peak of a cluster that is not open."""

ANCHOR, RARE, RAREST, ALARM = range(4)
"""The heights: the anchor, the rungs, and the one that raises an alarm."""
HEIGHTS = 4

_FOUR = (HEIGHTS,)
MEMORY = np.dtype(
    [
        ("anchor", np.float32),  # z that 3% of scores exceed
        ("anchor_excess", np.float32),  # mean excess of cluster peaks over it
        ("anchor_peaks", np.float32),  # peaks that this rests on
        ("anchor_rate", np.float32),  # clusters over it, a score
        ("rare", np.float32),  # z of the first rung
        ("excess", np.float32),  # mean excess of cluster peaks over it
        ("peaks", np.float32),  # peaks that this rests on
        ("begun_at", np.float32),  # first rung as its open cluster began
        ("step_back", np.float32),  # what it rose by then
        ("rarest", np.float32),  # second rung: correction of what the first one tells, in excesses
        ("own", np.float32),  # the same of the height that raises an alarm
        ("known", np.float32),  # scores that location and deviation rest on
        ("learnt", np.float32),  # scores in all
        ("edge", np.int64),  # t that 3% of scores exceed, in 1/EDGE_UNIT
        ("edge_scores", np.int32),  # that this rests on
        ("tail", np.float32),  # mean excess of scores over it, in t
        ("tail_weight", np.float32),  # scores that this rests on
        ("peak", np.float32, _FOUR),  # of the open clusters, z; CLOSED
        ("quiet", np.int32, _FOUR),  # scores since the last one at each height, to the last block
        ("age", np.int32, _FOUR),  # scores since the clusters began
        # Of the block that is being filled:
        ("count", np.uint8),
        ("over", np.uint8),  # scores over the anchor
        ("tail_count", np.uint8),  # scores over the edge, but for outliers
        ("tail_sum", np.int64),  # of their excesses, in 1/EDGE_UNIT
        ("outlier", np.bool_),  # there was one
        ("begun", np.uint8),  # alarms that began
        ("first", np.uint8, _FOUR),  # place of the first score at each height; BLOCK
        ("last", np.int8, _FOUR),  # and of the last; -1
        ("run", np.uint16),  # scores in a row that call for an alarm, to the newest
        ("top", np.float32),  # highest z
        ("sum", np.float32),  # of cut z, in 1/1024: whole numbers, so exact
        ("size", np.float32),  # of their absolute values
    ]
)


def settle(memory: NDArray[np.void]) -> None:
    """End clusters and the block: scores that follow have nothing to do with those before."""
    memory["peak"], memory["quiet"], memory["age"] = CLOSED, UNSEEN, 0
    memory["run"] = 0
    clear_block(memory)


def clear_block(memory: NDArray[np.void]) -> None:
    memory["count"] = memory["over"] = memory["begun"] = 0
    memory["tail_count"] = memory["tail_sum"] = memory["outlier"] = 0
    memory["first"], memory["last"] = BLOCK, -1
    memory["top"], memory["sum"], memory["size"] = CLOSED, 0, 0
