"""z -> level, and the z that a budget or a level asks for.

The rate at which clusters begin above z falls log-linearly from the anchor to the first rung, to
the second, and beyond. A level is -log10 of the tail probability: known at the anchor and at the
first rung, and above that in proportion to the rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ANCHOR_SHARE = 0.03
ANCHOR_LEVEL = -float(np.log10(ANCHOR_SHARE))
MIDDLE_LEVEL = float(np.log10(2))
"""Level of the usual score, z = 0: half of all are higher."""
RARE_RATE = 1 / 1440
"""Clusters a score at the first rung: one a day, where scores come by the minute."""
STEP = 7.0
RAREST_RATE = RARE_RATE / STEP
TOP_LEVEL = 99.0

LEAST_ANCHOR = 0.25
"""The anchor never falls below: scores that hardly ever change have no tail to follow."""
NEWS_OF_PEAKS = 0.7
"""Cluster peaks tell the mean excess less well than as many independent values would."""
NEWS_BEYOND = 24.0
"""Peaks' worth of knowledge of how the tail goes on beyond the second rung."""
_LN10 = float(np.log(10))


def stretched(peaks: NDArray[np.float64] | float, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far to go, in mean excesses, for exp(-x) of an exponential tail whose mean excess was

    found from so many peaks: the quantile of its predictive distribution, a Pareto.
    """
    n = np.asarray(peaks, np.float64)
    return n * np.expm1(x / n)


@dataclass(frozen=True, slots=True)
class Heights:
    """Of n rows, in z; rates are clusters a score."""

    anchor: NDArray[np.float64]
    rate: NDArray[np.float64]  # at the anchor; above RARE_RATE
    rare: NDArray[np.float64]
    rarest: NDArray[np.float64]
    slope: NDArray[np.float64]  # z that divides the rate by e, beyond the second rung
    excess: NDArray[np.float64]  # the unit of what control adds
    share: NDArray[np.float64]  # of the scores, at the first rung

    @classmethod
    def of(cls, memory: NDArray[np.void]) -> Heights:
        anchor, excess, rare, peaks, rarest = (
            memory[name].astype(np.float64)
            for name in ("anchor", "excess", "rare", "peaks", "rarest")
        )
        rate = np.maximum(memory["anchor_rate"].astype(np.float64), 1.2 * RARE_RATE)
        # Below 1 where the tail is lighter further out, as that of a sum of squares is.
        bend = np.clip(excess * np.log(rate / RARE_RATE) / (rare - anchor), 0.5, 1.1)
        usual = excess * np.exp(0.2 * np.log(bend))
        news = NEWS_OF_PEAKS * np.minimum(peaks + 5, 30)
        step = usual * stretched(news, np.full(len(usual), np.log(STEP))) + excess * rarest
        step = np.maximum(step, 0.3 * excess)
        slope = 0.5 * (step / np.log(STEP) + usual)
        most = ANCHOR_SHARE * RARE_RATE / rate  # clusters don't grow with their height
        share = np.clip(memory["rare_share"].astype(np.float64), RARE_RATE / 2, most)
        return cls(anchor, rate, rare, rare + step, slope, excess, share)

    def at_rate(self, rate: NDArray[np.float64]) -> NDArray[np.float64]:
        """z above which clusters begin so often; at least the anchor. `rate` [n], above 0."""
        x = np.log(RARE_RATE / rate)
        low = self.rare + (self.rare - self.anchor) * x / np.log(self.rate / RARE_RATE)
        near = self.rare + (self.rarest - self.rare) * x / np.log(STEP)
        beyond = np.maximum(x - np.log(STEP), 0.0)
        far = self.rarest + self.slope * stretched(NEWS_BEYOND, np.minimum(beyond, 300.0))
        z = np.where(x < 0, low, np.where(beyond > 0, far, near))
        return np.maximum(z, self.anchor)

    def _knots(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Levels of the rungs."""
        rare = -np.log(self.share) / _LN10
        return rare, rare + np.log(STEP) / _LN10

    def level(
        self, z: NDArray[np.float64], of: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Level of z [m], each of row `of` [m]; one for each row where that is left out."""
        rare, rarest = self._knots()
        parts = (self.anchor, self.rare, self.rarest, self.slope, rare, rarest)
        if of is not None:
            parts = tuple(part[of] for part in parts)  # type: ignore[assignment]
        anchor_z, rare_z, rarest_z, slope, rare, rarest = parts
        usual = MIDDLE_LEVEL + (ANCHOR_LEVEL - MIDDLE_LEVEL) * z / anchor_z
        low = ANCHOR_LEVEL + (rare - ANCHOR_LEVEL) * (z - anchor_z) / (rare_z - anchor_z)
        near = rare + (rarest - rare) * (z - rare_z) / (rarest_z - rare_z)
        far = rarest + (z - rarest_z) / (slope * _LN10)
        level = np.where(
            z < rare_z,
            np.where(z < anchor_z, usual, low),
            np.where(z < rarest_z, near, far),
        )
        clipped: NDArray[np.float64] = np.clip(level, 0.0, TOP_LEVEL)
        return clipped

    def at_level(self, level: NDArray[np.float64]) -> NDArray[np.float64]:
        """The z of a level [n] above 0: the inverse of `level`."""
        rare, rarest = self._knots()
        usual = self.anchor * (level - MIDDLE_LEVEL) / (ANCHOR_LEVEL - MIDDLE_LEVEL)
        share = (level - ANCHOR_LEVEL) / (rare - ANCHOR_LEVEL)
        low = self.anchor + (self.rare - self.anchor) * share
        near = self.rare + (self.rarest - self.rare) * (level - rare) / (rarest - rare)
        far = self.rarest + self.slope * _LN10 * (level - rarest)
        return np.where(
            level < rare,
            np.where(level < ANCHOR_LEVEL, usual, low),
            np.where(level < rarest, near, far),
        )
