"""What holds an anomaly back or ends it early: filters of deviation and an episode's own peak."""

from __future__ import annotations

from math import expm1
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector.core.episode import Episode, Now, Window
    from stream_detector.core.policy import Policy
    from stream_detector.core.slab import Slab
    from stream_detector.manifest import Expert

LARGEST = 700.0
"""exp of more overflows."""
SAME_UNIT = frozenset({"resample", "trailing_mean", "difference"})
"""Transforms whose results have the unit of what came in."""


class Filters:
    """Direction and least deviation that one of the features must have."""

    def __init__(self, slab: Slab, features: Sequence[str], policy: Policy) -> None:
        self._slab = slab
        self._features = features
        self._sign = {"above": 1, "below": -1}.get(policy.direction, 0)
        self._absolute = dict(policy.min_absolute)
        self._relative = policy.min_relative
        # A spread of logarithms or of rates says nothing of deviations in the input's units.
        self._spread = all(rule.kind in SAME_UNIT for rule in slab.transforms.rules)
        self._none = not (self._sign or self._absolute or self._relative)

    def objection(self, row: int, now: Now, window: Window) -> str | None:
        """Why no episode may open: `direction`, `deviation`; None where it may."""
        if self._none:
            return None
        found = "direction"
        for at, name in enumerate(self._features):
            expected = window.expected[name]
            deviation = now.observed[name] - expected
            if deviation * self._sign < 0 or (self._sign and deviation == 0):
                continue
            found = "deviation"
            usual = abs(expected)
            if self._spread:
                usual = max(usual, float(self._slab.spread[row, at]))
            least = max(self._absolute.get(name, 0.0), (self._relative or 0.0) * usual)
            if abs(deviation) >= least:
                return None
        return found


def is_logarithmic(experts: Sequence[Expert]) -> bool:
    """Whether the fused score is a logarithm: where all experts' tails are."""
    return all(expert.tail is not None and expert.tail.shape == "log" for expert in experts)


class Peaks:
    """Ends an episode at a share of its own peak, and keeps what is left of it from opening anew.

    Scores are compared on their natural scale: exp(score) - 1 where they are logarithms.
    """

    def __init__(self, slab: Slab, policy: Policy, *, logarithmic: bool) -> None:
        self._slab = slab
        self._share = policy.close_below
        self._half_life = policy.peak_half_life
        self._logarithmic = logarithmic

    def admits(self, row: int, score: float, nth: int) -> bool:
        """Whether a score is large enough beside the peak of an anomaly that is over."""
        if self._share is None:
            return True
        peak = self._decayed(float(self._slab.peak[row]), int(self._slab.peaked[row]), nth)
        return peak <= 0 or self._natural(score) >= self._share * peak

    def fell(self, row: int, episode: Episode, score: float, nth: int) -> bool:
        """Note one more score of an episode; True where it fell below the share of its peak."""
        if self._share is None:
            return False
        natural = self._natural(score)
        peak = self._decayed(episode.peak, episode.peaked, nth)
        if natural >= peak:
            episode.peak, episode.peaked = natural, nth
            return False
        if natural >= self._share * peak:
            return False
        self._slab.peak[row], self._slab.peaked[row] = episode.peak, episode.peaked
        return True

    def _natural(self, score: float) -> float:
        return expm1(min(score, LARGEST)) if self._logarithmic else score

    def _decayed(self, peak: float, since: int, nth: int) -> float:
        return float(peak * 0.5 ** ((nth - since) / self._half_life))
