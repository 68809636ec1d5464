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

    from stream_detector.bundle import Expert
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
        self._thresholds(policy, manifest.threshold.method, manifest.threshold.value)

    def _thresholds(self, policy: Policy, method: str, value: float) -> None:
        """Known series' fixed levels [n], or a budget that each series' interval turns into one."""
        for name in ("alarm_budget", "level", "quantile", "sigma"):
            chosen = getattr(policy, name)
            if chosen is not None:
                method, value = name, chosen
        self.budget = value if method == "alarm_budget" else None
        if method == "quantile":
            value = -float(np.log10(1.0 - value))
        self._fixed = np.full(len(self.table.row), value)
        if method == "sigma":
            score = self.table.score_mean + value * self.table.score_std
            t = lv.transformed(score, self.levels)
            self._fixed = self.level_of((t - self.table.score_location) / self.table.score_spread)
        self._usual = float(np.median(self._fixed)) if len(self._fixed) else value

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
        slab.threshold[row] = self._threshold(float(slab.interval[row]), known)

    def learnt(self, slab: Slab, rows: NDArray[np.int64]) -> None:
        """Rows that have just learnt centre, scale and interval get a threshold."""
        for row in rows.tolist():
            slab.threshold[row] = self._threshold(float(slab.interval[row]), None)

    def _threshold(self, interval: float, known: int | None) -> float:
        if self.budget is None:
            return float(self._fixed[known]) if known is not None else self._usual
        windows = DAY / (max(interval, 1.0) * self.scales[0])
        return max(float(np.log10(windows / self.budget)), LOWEST)

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
                    slab.threshold[row] = self._threshold(float(slab.interval[row]), None)
                continue
            anchor = slab.anchor[row].copy()
            moved = slab.last_time.item(row) != NEVER and not np.isnan(anchor).any()
            if slab.state[row] == LEARNING:
                slab.forget_learning(row)
            self.welcome(slab, row)
            if moved:  # the ring is relative to the anchor that the series has
                slab.anchor[row] = anchor
                slab.center[row] = self.table.center[known] - anchor
