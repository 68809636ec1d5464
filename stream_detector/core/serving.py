"""What a bundle means for the engine: experts by scale, known series, levels, threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core import levels as lv
from stream_detector.core.clock import NEVER
from stream_detector.core.policy import DAY
from stream_detector.core.slab import KNOWN, LEARNING, LEARNT, Slab
from stream_detector.core.transforms import Transforms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.bundle import Expert, Threshold
    from stream_detector.core.policy import Policy
    from stream_detector.ports import Model, Scorer

PRIOR = 1000
"""Scores that a known series counts as having been seen, when the bundle is taken up."""
RECONSTRUCTION = "reconstruction"
LOWEST = 0.5
"""Least threshold: below it a third of all windows would be alarms, whatever the budget says."""
TOP_LEVEL = 99.0


class Serving:
    """One model in use by one group."""

    def __init__(self, model: Model, policy: Policy) -> None:
        bundle = model.bundle
        manifest = bundle.manifest
        self.scorer: Scorer = model.scorer
        self.version = manifest.version
        self.features: tuple[str, ...] = tuple(manifest.features)
        self.scales: tuple[int, ...] = tuple(sorted(manifest.scales))
        self.experts: list[Expert] = sorted(manifest.experts, key=lambda e: (e.scale, e.output))
        self.by_scale = {
            k: [i for i, expert in enumerate(self.experts) if expert.scale == k]
            for k in self.scales
        }
        self.weights = np.array([expert.weight for expert in self.experts], np.float32)
        self.rule = manifest.fusion
        self.transforms = Transforms(manifest.transforms)
        self.levels = manifest.levels
        self.offset = manifest.normalisation.offset
        self.factor = manifest.normalisation.factor
        self.table = bundle.series
        self._choose(policy, manifest.threshold)

    def _choose(self, policy: Policy, given: Threshold) -> None:
        """Known series' levels [n] or scores [n] that raise an alarm, and those of all others.

        Or a budget, that each series' interval turns into a level. A series that the bundle knows
        nothing of, or no longer, has no score of its own to reach where each series has one: it
        gets the usual level of those scores.
        """
        rule, table = policy.rule, self.table
        method, value = rule or (given.method, given.value)
        self.budget = value if method == "alarm_budget" else None
        level = -float(np.log10(1.0 - value)) if method == "quantile" else value
        self._level = np.full(len(table.row), level)
        self._bound = np.full(len(table.row), np.inf)
        self._usual_level, self._usual_bound = level, np.inf
        fixed = value if method == "error" else given.score if rule is None else None
        if fixed is not None:
            self._level[:] = self._usual_level = np.inf
            self._bound[:] = self._usual_bound = fixed
            return
        scores = table.score_threshold if rule is None else None
        if scores is None and method == "sigma":
            scores = lv.just_above(table.score_mean + value * table.score_std)
        if scores is None or not np.isfinite(scores).any():
            return
        known = np.isfinite(scores)
        t = lv.transformed(scores[known], self.levels)
        z = (t - table.score_location[known]) / table.score_spread[known]
        self._usual_level = float(np.median(self.level_of(z)))
        self._level = np.where(known, np.inf, self._usual_level)
        self._bound = np.where(known, scores, np.inf)

    def level_of(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        level = lv.level_of(z, self.levels.z, self.levels.level, self.levels.slope)
        return np.minimum(level, TOP_LEVEL)

    def z_of(self, level: NDArray[np.floating]) -> NDArray[np.float64]:
        return lv.z_of(level, self.levels.z, self.levels.level, self.levels.slope)

    def slab(self) -> Slab:
        smoothing = [max(0, expert.smoothing.n - 1) for expert in self.experts]
        return Slab(len(self.features), self.scales, smoothing, self.transforms)

    def fits(self, other: Serving) -> bool:
        """Whether state made under the other model still means the same under this one."""
        mine = [expert.smoothing.n for expert in self.experts], self.transforms.rules
        theirs = [expert.smoothing.n for expert in other.experts], other.transforms.rules
        return (self.features, self.scales, mine) == (other.features, other.scales, theirs)

    def welcome(self, slab: Slab, row: int) -> None:
        """Give a fresh row what the bundle knows of its series."""
        known = self.table.row.get(slab.names[row] or "")
        slab.deviation[row] = self.levels.spread
        if known is None:
            return
        slab.state[row] = KNOWN
        slab.anchor[row] = self.table.center[known]
        slab.center[row] = 0
        slab.spread[row] = self.table.scale[known]
        slab.interval[row] = self.table.interval[known]
        slab.location[row] = self.table.score_location[known]
        slab.deviation[row] = self.table.score_spread[known]
        slab.scored[row] = PRIOR
        self._set_limits(slab, row, known)

    def learnt(self, slab: Slab, rows: NDArray[np.int64]) -> None:
        """Rows that have just learnt centre, scale and interval get a threshold."""
        for row in rows.tolist():
            self._set_limits(slab, row, None)

    def _set_limits(self, slab: Slab, row: int, known: int | None) -> None:
        level, bound = self._usual_level, self._usual_bound
        if self.budget is not None:
            windows = DAY / (max(float(slab.interval[row]), 1.0) * self.scales[0])
            level = max(float(np.log10(windows / self.budget)), LOWEST)
        elif known is not None:
            level, bound = float(self._level[known]), float(self._bound[known])
        slab.threshold[row], slab.bound[row] = level, bound

    def take_over(self, slab: Slab) -> None:
        """Serve a slab that another model served: windows stay, what scores meant is forgotten."""
        for history in slab.history:
            history.fill(np.nan)
        slab.excess.fill(np.nan)
        slab.level.fill(np.nan)
        for name, row in slab.index.items():
            known = self.table.row.get(name)
            if known is None:
                if slab.state[row] == KNOWN:
                    slab.state[row] = LEARNT
                slab.scored[row] = 0
                slab.deviation[row] = self.levels.spread
                if slab.state[row] == LEARNT:
                    self._set_limits(slab, row, None)
                continue
            anchor = slab.anchor[row].copy()
            moved = slab.last_time.item(row) != NEVER and not np.isnan(anchor).any()
            if slab.state[row] == LEARNING:
                slab.forget_learning(row)
            self.welcome(slab, row)
            if moved:  # the ring is relative to the anchor that the series has
                slab.anchor[row] = anchor
                slab.center[row] = self.table.center[known] - anchor
