"""What a bundle means for the engine: experts by scale, known series, levels, threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core import levels as lv
from stream_detector.core.calibration import (
    FIRST,
    LASTING,
    MATURE,
    RENEWED,
    Rules,
    Tail,
    prior,
    settle,
)
from stream_detector.core.clock import FOREVER, NEVER
from stream_detector.core.policy import CENSUS, DAY
from stream_detector.core.slab import KNOWN, LEARNING, LEARNT, Slab
from stream_detector.core.transforms import Transforms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.policy import Policy
    from stream_detector.manifest import Expert, Threshold
    from stream_detector.ports import Model, Scorer

PRIOR = 1000
"""What a known series' usual score rests on, in scores, at most: it may have moved since."""
LEAST_SPREAD = 0.5
"""Part of the bundle's spread that a series' own never falls below."""
RECONSTRUCTION = "reconstruction"


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
        levels = manifest.levels
        usual = levels.location, levels.spread
        self.prior = prior(levels.anchor, levels.excess, levels.rate, *usual)
        self.rules = Rules(LEAST_SPREAD * levels.spread, policy.quiet_period, policy.min_length)
        self._total = policy.alarm_budget_total
        self._shares = policy.shares
        self._budget: float | None = None
        self._choose(policy, manifest.threshold)

    def _choose(self, policy: Policy, given: Threshold) -> None:
        """Known series' levels [n] or scores [n] that raise an alarm, and those of all others.

        Or a budget, that each series' interval turns into a level. A series that the bundle knows
        nothing of, or no longer, has no score of its own to reach where each series has one: it
        gets the usual level of those scores.
        """
        rule, table = policy.rule, self.table
        method, value = rule or (given.method, given.value)
        if rule is None and self._total is not None and method != "alarm_budget":
            rule = method, value = "alarm_budget", np.inf
        self._budget = value if method == "alarm_budget" else None
        level = -float(np.log10(1.0 - value)) if method == "quantile" else value
        if method == "alarm_budget":
            level = np.nan
        self._level = np.full(len(table.row), level)
        self._bound = np.full(len(table.row), np.inf)
        self._usual_level, self._usual_bound = level, np.inf
        fixed = value if method == "error" else given.score if rule is None else None
        if fixed is not None:
            self._level[:] = self._usual_level = np.nan
            self._bound[:] = self._usual_bound = fixed
            return
        scores = table.score_threshold if rule is None else None
        if scores is None and method == "sigma":
            scores = lv.just_above(table.score_mean + value * table.score_std)
        if scores is None or not np.isfinite(scores).any():
            return
        known = np.isfinite(scores)
        t = lv.transformed(scores[known], self.levels)
        usual = table.score_location[known], table.score_spread[known]
        self._usual_level = float(np.median(Tail.of(table.memory[known], *usual).level(t)))
        self._level = np.where(known, np.nan, self._usual_level)
        self._bound = np.where(known, scores, np.inf)

    def lasting(self, slab: Slab, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Scores after which what is usual is learnt anew within an episode: half a day's."""
        step = np.maximum(slab.interval[rows].astype(np.float64), 1.0) * self.scales[0]
        return np.maximum(DAY / 2 / step, LASTING)

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
        slab.memory[row] = self.prior[0]
        slab.location[row], slab.deviation[row] = self.levels.location, self.levels.spread
        if known is None:
            return
        slab.state[row] = KNOWN
        slab.anchor[row] = self.table.center[known]
        slab.center[row] = 0
        slab.spread[row] = self.table.scale[known]
        slab.interval[row] = self.table.interval[known]
        slab.location[row] = self.table.score_location[known]
        slab.deviation[row] = self.table.score_spread[known]
        slab.memory[row] = self.table.memory[known]
        slab.memory["known"][row] = min(slab.memory["known"][row], PRIOR)
        slab.memory["edge_scores"][row] = min(slab.memory["edge_scores"][row], PRIOR)
        slab.memory["learnt"][row] = max(slab.memory["learnt"][row], FIRST)
        slab.scored[row] = max(int(self.table.score_count[known]), MATURE)
        self._set_limits(slab, row, known)

    def renew(self, slab: Slab, row: int) -> None:
        """Clear a row whose series has a new normal; what its scores have taught stays.

        They are scores of values brought to its centre and scale, which it learns anew.
        """
        kept = slab.memory[row].copy(), slab.location[row], slab.deviation[row]
        slab.clear(row)  # where it is resampled, its bucket begins with the next sample
        slab.memory[row], slab.location[row], slab.deviation[row] = kept
        slab.memory["known"][row] = min(slab.memory["known"][row], RENEWED)
        settle(slab.memory[row : row + 1])

    def _forget_usual(self, slab: Slab, row: int) -> None:
        """Scores of another model: their size means nothing, how their tail falls a little."""
        settle(slab.memory[row : row + 1])
        slab.memory["known"][row] = slab.memory["learnt"][row] = 0
        slab.scored[row] = 0
        slab.location[row], slab.deviation[row] = self.levels.location, self.levels.spread
        for name in ("edge", "edge_scores", "tail", "tail_weight"):
            slab.memory[name][row] = self.prior[name][0]

    def learnt(self, slab: Slab, rows: NDArray[np.int64]) -> None:
        """Rows that have just learnt centre, scale and interval get a threshold."""
        for row in rows.tolist():
            self._set_limits(slab, row, None)

    def _set_limits(self, slab: Slab, row: int, known: int | None) -> None:
        level, bound = self._usual_level, self._usual_bound
        if known is not None:
            level, bound = float(self._level[known]), float(self._bound[known])
        slab.promised[row] = self._promised(slab, np.array([row]))[0]
        slab.wanted[row], slab.bound[row] = level, bound

    def _promised(self, slab: Slab, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Episodes a score that are accepted, of each row; NaN where no budget decides."""
        budget = self._budget
        if self._total is not None and budget is not None:
            budget = min(budget, self._total / (self._shares * max(slab.fleet, 1)))
        a_day = DAY / (np.maximum(slab.interval[rows].astype(np.float64), 1.0) * self.scales[0])
        return np.full(len(rows), np.nan) if budget is None else budget / a_day

    def census(self, slab: Slab, clock: int) -> None:
        """Share the total budget out anew; before the first sample among the bundle's series."""
        if self._total is None:
            slab.next_census = FOREVER
            return
        slab.fleet = len(slab) or -(-len(self.table.row) // self._shares)
        slab.next_census = clock + CENSUS
        rows = slab.rows_in_use()
        rows = rows[np.isfinite(slab.promised[rows])]
        slab.promised[rows] = self._promised(slab, rows)

    def take_over(self, slab: Slab) -> None:
        """Serve a slab that another model served: windows stay, what scores meant is forgotten."""
        doubtful = np.flatnonzero(slab.scored < slab.whole)
        slab.whole.fill(0)  # it counts scores, and those begin anew
        for history in slab.history:
            history.fill(np.nan)
        slab.excess.fill(np.nan)
        slab.level.fill(np.nan)
        if slab.features > 1:
            for learnt in (slab.blame, slab.blame_known, slab.blame_sum, slab.blame_count):
                learnt.fill(0)
        for name, row in slab.index.items():
            known = self.table.row.get(name)
            if known is None:
                if slab.state[row] == KNOWN:
                    slab.state[row] = LEARNT
                self._forget_usual(slab, row)
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
        slab.doubt(doubtful)
