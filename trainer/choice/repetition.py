"""Whether windows repeat themselves, asked of the data before anything is fitted.

Where a window of held-out data resembles none of the training windows, its shape says nothing, and
experts that compare shapes add noise to those that look at the newest step. Distances to the
nearest of a random sample, as in trainer/experts/nearest.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.preprocess import normalised_windows
from trainer.runs import split
from trainer.scaling import fit_scaling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trainer.config import TrainerConfig
    from trainer.reading.rows import Series
    from trainer.windows import WindowSource

REPEATING = 0.4
"""Windows repeat where less than this part of them is new, by `news`."""
MEMORY, ASKED = 1024, 2048
"""Training windows to look for the nearest among, and held-out windows that are asked, at most."""


def repeats(series: Sequence[Series], config: TrainerConfig) -> bool:
    """Whether most of a held-out window has been there before; true where nothing asks, false where

    nothing is held out.
    """
    if config.split.order == "whole":
        return False
    asks = any(rule.when != "always" for rule in config.experts or ())
    return not (asks or config.windows.aperiodic) or news(series, config) < REPEATING


def news(series: Sequence[Series], config: TrainerConfig) -> float:
    """Squared distance of the median held-out window of scale 1 to the nearest training window,

    both less their means, as a part of the median window's own square: 0 where all was there
    before, about 1 to 2 for noise. 1 where a part has no window.
    """
    parts = split(series, config.split)
    if len({run.series for run in parts.train}) < len(series):
        return 1.0
    scaling = fit_scaling(parts.train, len(series), config.scaling)
    known, asked = (
        _shapes(
            normalised_windows(
                runs, scaling, 1, cap=most, seed=config.fit.seed, clip=config.windows.clip
            )
        )
        for runs, most in ((parts.train, MEMORY), (parts.held_out, ASKED))
    )
    if not len(known) or not len(asked):
        return 1.0
    size = np.square(asked).sum(axis=1)
    apart = size[:, None] - 2 * asked @ known.T + np.square(known).sum(axis=1)
    nearest = np.maximum(apart.min(axis=1), 0.0)
    return float(np.median(nearest) / max(np.median(size), 1e-9))


def _shapes(windows: WindowSource) -> NDArray[np.float32]:  # [n, 60 F]
    found = windows.take(np.arange(len(windows)))
    shapes: NDArray[np.float32] = found - found.mean(axis=1, keepdims=True)
    return shapes.reshape(len(found), found.shape[1] * found.shape[2])
