"""What lies behind verdicts, for reports and measurements; not made in the service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.episodes import Samples
    from stream_detector.core.intake import Piece
    from stream_detector.records import Batch


@dataclass(frozen=True, slots=True)
class Detail:
    """What lies behind the verdicts of some samples of one batch; m samples, F features."""

    batch: Batch
    place: NDArray[np.int64]  # [m] of each sample in the batch
    score: NDArray[np.float32]  # [m] fused; NaN before the first
    threshold: NDArray[np.float64]  # [m] level at which its series raises an alarm
    observed: NDArray[np.float64]  # [m, F] as sent, or of the bucket; NaN where it made no step
    expected: NDArray[np.float64]  # [m, F] in its place; NaN where the finest scale had no window
    contribution: NDArray[np.float64]  # [m, F] NaN likewise


def detail_of(piece: Piece, samples: Samples) -> Detail:
    slab, steps = piece.job.slab, samples.steps
    anchor = slab.anchor[steps.segments.row[steps.segments.of]]  # [s, F]
    windows, contribution, expected = samples.windows[slab.scales[0]]
    of_step = np.full((3, *anchor.shape), np.nan)
    of_step[0] = steps.stages[0]
    of_step[1, windows.step] = slab.transforms.expected(
        [stage[windows.step] for stage in steps.stages],
        steps.since[windows.step, None],
        anchor[windows.step] + expected,
    )
    of_step[2, windows.step] = contribution
    completing = samples.step >= 0
    of_sample = np.full((3, len(samples.at), anchor.shape[1]), np.nan)
    of_sample[:, completing] = of_step[:, samples.step[completing]]
    threshold = samples.threshold.astype(np.float64)
    return Detail(piece.job.batch, piece.place[samples.at], samples.score, threshold, *of_sample)
