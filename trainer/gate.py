"""Champion against challenger on the same held-out slice: figures, rules, and the reason in words.

Both run through the product's own engine under the same policy. The slice is without the samples
that the champion called anomalous, so its own alarms there are few by construction; that is why a
challenger within the alarm budget passes even where the champion has fewer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from stream_detector.core.policy import DAY
from trainer import engine_run
from trainer.inject import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_detector.core.policy import Policy
    from stream_detector.ports import Model
    from trainer.config.refresh import Gate
    from trainer.data import SeriesData
    from trainer.inject import Injected
    from trainer.reading.store import Slices

CHANCE = 0.05
"""So many alarms that fewer than one in twenty honest models would raise them are too many."""


class Figures(NamedTuple):
    """How one model did on the held-out slice."""

    version: str
    episodes: int
    judged: int  # samples
    days: float  # series-days
    recall: dict[str, float]  # injected anomalies found, by kind

    @property
    def alarms(self) -> float:
        """Episodes per series and day; NaN where nothing was judged."""
        return self.episodes / self.days if self.days else math.nan

    @property
    def found(self) -> float:
        return sum(self.recall.values()) / len(self.recall) if self.recall else math.nan

    def metrics(self) -> dict[str, float]:
        return {
            "gate_alarms_per_series_day": self.alarms,
            "gate_series_days": self.days,
            "gate_recall": self.found,
            **{f"gate_recall_{kind}": share for kind, share in self.recall.items()},
        }

    def body(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "episodes": self.episodes,
            "judged": self.judged,
            "series_days": self.days,
            "alarms_per_series_day": self.alarms if self.days else None,
            "recall": self.found if self.recall else None,
            "recall_by_kind": self.recall,
        }


class Decision(NamedTuple):
    promote: bool
    reason: str  # one line for people, with the figures


def measure(
    model: Model, stretches: Sequence[SeriesData], cases: Sequence[Injected], policy: Policy
) -> Figures:
    """Alarms on normal stretches, and which injected anomalies raise an alarm in time."""
    normal = engine_run.run(model, stretches, policy)
    injected = engine_run.run(model, [case.stretch for case in cases], policy)
    hits: dict[str, list[bool]] = {kind: [] for kind in KINDS if cases}
    for case, opened in zip(cases, injected.opened, strict=True):
        hits[case.kind].append(any(case.onset <= start <= case.end for start in opened))
    recall = {kind: sum(found) / len(found) for kind, found in hits.items()}
    return Figures(model.bundle.version, normal.episodes, sum(normal.judged), normal.days, recall)


def too_little(slices: Slices, gate: Gate) -> str | None:
    """What is missing before a comparison can mean anything; None where there is enough."""
    held_out = slices.held_out
    days = sum(len(one) * one.interval for one in held_out.series) / DAY
    for have, least, what in (
        (slices.learn.rows, gate.min_samples, "normal samples to learn from"),
        (held_out.rows, gate.min_held_out_samples, "held-out samples"),
        (days, gate.min_held_out_days, "held-out series-days"),
    ):
        if have < least:
            return _missing(have, least, what)
    return None


def decide(challenger: Figures, champion: Figures | None, budget: float, gate: Gate) -> Decision:
    """Promote or not, and why. `budget`: false episodes accepted per series and day."""
    for have, least, what in (
        (challenger.judged, gate.min_held_out_samples, "held-out samples with a level"),
        (challenger.days, gate.min_held_out_days, "held-out series-days with a level"),
    ):
        if have < least:
            return Decision(promote=False, reason=_missing(have, least, what))
    if not challenger.recall:
        reason = "no held-out stretch is long enough to inject anomalies; more data is needed"
        return Decision(promote=False, reason=reason)
    allowed = most_by_chance(gate.alarm_tolerance * budget * challenger.days)
    fewer = champion is not None and champion.days > 0 and challenger.alarms <= champion.alarms
    quiet = challenger.episodes <= allowed or fewer
    least_recall = gate.min_recall
    if champion is not None and champion.recall:
        least_recall = champion.found - gate.recall_margin
    sharp = challenger.found >= least_recall
    alarms = (
        f"{challenger.episodes} episodes in {challenger.days:.2f} series-days "
        f"({challenger.alarms:.2f} a day; budget {budget:g}, up to {allowed} may be chance)"
    )
    recall = f"recall {challenger.found:.2f} of at least {least_recall:.2f}"
    beside = ""
    if champion is not None:
        beside = f"; champion: {champion.alarms:.2f} a day, recall {champion.found:.2f}"
    failed = [
        words
        for good, words in (
            (quiet, "too many false alarms"),
            (sharp, "finds too few injected anomalies"),
        )
        if not good
    ]
    verdict = " and ".join(failed) if failed else "passed"
    return Decision(promote=not failed, reason=f"{verdict}: {alarms}, {recall}{beside}")


def most_by_chance(mean: float) -> int:
    """The most events that a Poisson variable of this mean reaches with probability CHANCE."""
    if mean > 500.0:  # exp(-mean) leaves the range of floats; the normal law is as good by then
        return math.floor(mean + 1.645 * math.sqrt(mean))
    term = math.exp(-mean)
    below, count = 0.0, 0
    while 1.0 - (below + term) >= CHANCE:
        below += term
        count += 1
        term *= mean / count
    return count


def _missing(have: float, least: float, what: str) -> str:
    def text(number: float) -> str:
        return f"{number:,}" if isinstance(number, int) else f"{number:.2f}"

    return (
        f"too little data: {text(have)} {what}, {text(least)} needed, {text(least - have)} missing"
    )
