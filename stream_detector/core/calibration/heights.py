"""The z that a budget asks for.

The rate at which clusters begin above z falls log-linearly from the anchor to the first rung, to
the second, and beyond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ANCHOR_SHARE = 0.03
RARE_RATE = 1 / 1440
"""Clusters a score at the first rung: one a day, where scores come by the minute."""
STEP = 7.0
_LOG_STEP = float(np.log(STEP))
RAREST_RATE = RARE_RATE / STEP

LEAST_ANCHOR = 0.25
"""The anchor never falls below: scores that hardly ever change have no tail to follow."""
NEWS_OF_PEAKS = 0.7
"""Cluster peaks tell the mean excess less well than as many independent values would."""
NEWS_BEYOND = 24.0
"""Peaks' worth of knowledge of how the tail goes on beyond the second rung."""


def stretched(
    peaks: NDArray[np.float64] | float, x: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """How far to go, in mean excesses, for exp(-x) of an exponential tail whose mean excess was

    found from so many peaks: the quantile of its predictive distribution, a Pareto.
    """
    found: NDArray[np.float64] = peaks * np.expm1(x / peaks)
    return found


@dataclass(frozen=True, slots=True)
class Heights:
    """Of n rows, in z; rates are clusters a score."""

    anchor: NDArray[np.float64]
    rate: NDArray[np.float64]  # at the anchor; above RARE_RATE
    rare: NDArray[np.float64]
    rarest: NDArray[np.float64]
    slope: NDArray[np.float64]  # z that divides the rate by e, beyond the second rung
    excess: NDArray[np.float64]  # the unit of what control adds

    def take(self, rows: NDArray[np.integer]) -> Heights:
        return Heights(
            self.anchor[rows], self.rate[rows], self.rare[rows],
            self.rarest[rows], self.slope[rows], self.excess[rows],
        )  # fmt: skip

    @classmethod
    def of(cls, memory: NDArray[np.void]) -> Heights:
        anchor, excess, rare, peaks, rarest = (
            memory[name].astype(np.float64)
            for name in ("anchor", "excess", "rare", "peaks", "rarest")
        )
        rate = np.maximum(memory["anchor_rate"].astype(np.float64), 1.2 * RARE_RATE)
        # Below 1 where the tail is lighter further out, as that of a sum of squares is.
        bend = excess * np.log(rate / RARE_RATE) / (rare - anchor)
        bend = np.minimum(np.maximum(bend, 0.5), 1.1)  # np.clip takes many times as long
        usual = excess * np.exp(0.2 * np.log(bend))
        news = NEWS_OF_PEAKS * np.minimum(peaks + 5, 30)
        step = usual * stretched(news, _LOG_STEP) + excess * rarest
        step = np.maximum(step, 0.3 * excess)
        slope = 0.5 * (step / _LOG_STEP + usual)
        return cls(anchor, rate, rare, rare + step, slope, excess)

    def at_rate(self, rate: NDArray[np.float64]) -> NDArray[np.float64]:
        """z above which clusters begin so often; at least the anchor. `rate` [n], above 0."""
        x = np.log(RARE_RATE / rate)
        low = self.rare + (self.rare - self.anchor) * x / np.log(self.rate / RARE_RATE)
        near = self.rare + (self.rarest - self.rare) * x / _LOG_STEP
        beyond = np.maximum(x - _LOG_STEP, 0.0)
        far = self.rarest + self.slope * stretched(NEWS_BEYOND, np.minimum(beyond, 300.0))
        z = np.where(x < 0, low, np.where(beyond > 0, far, near))
        return np.maximum(z, self.anchor)
