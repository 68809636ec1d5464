"""Scores against labelled ranges, file by file: what smd, smap_msl and kpi share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.metrics import average_precision_score

from stream_detector.bundle import Smoothing
from stream_detector.core.policy import DAY, Policy
from trainer.benchmarks.cases import Judged, OperatingPoint
from trainer.calibrate import smoothed
from trainer.metrics import NAN, f_beta
from trainer.metrics.events import match
from trainer.metrics.vus import vus_pr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.benchmarks.cases import Answer, Case
    from trainer.config import Split

BUFFER = 100
"""Samples on either side of an anomaly over which VUS-PR averages."""
GAP = 10
"""Alarms at most so many samples apart are one."""
GRACE = 10
"""An alarm that begins at most so many samples after an anomaly's end still finds it."""
REGIME = 30
"""Days: many labelled anomalies last for more than the product's 12 hours."""

PROTOCOL = (
    f"Means over the files. vus_pr (buffer {BUFFER}) and auc_pr of the fused score; event_f1, "
    "detection_delay (samples from the start of a found anomaly to its alarm) and "
    "false_alarms_per_day of the product's episodes at its own threshold: alarms at most "
    f"{GAP} samples apart are one, and one that begins up to {GRACE} samples late still counts. "
    "event_f1_pooled: of the alarms and anomalies of all files together. alarm_share: share of the "
    "samples within an episode. Files without a labelled anomaly count in false_alarms_per_day, "
    "alarm_share and event_f1_pooled alone. What is usual is learnt anew after an anomaly of "
    f"{REGIME} days, not of 12 hours."
)
USUAL_THRESHOLD = "Operating point: the recipe's own threshold."
MEANS = (
    "vus_pr", "vus_pr_unheld", "auc_pr", "event_f1", "detection_delay", "false_alarms_per_day",
    "alarm_share",
)  # fmt: skip
MISSED = {"vus_pr": 0.0, "auc_pr": 0.0, "event_f1": 0.0}


class RangeSuite:
    """A suite of such files; where they are and how they are read is left to it."""

    headline: ClassVar[str] = "vus_pr"
    baselines: ClassVar[tuple[str, ...]] = (
        "mahalanobis", "knn", "random", "difference", "difference_held", "moving_average",
        "moving_average_held",
    )  # fmt: skip
    operating: ClassVar[OperatingPoint] = OperatingPoint(
        policy=Policy(regime_change_after=REGIME * DAY)
    )
    split: ClassVar[Split | None] = None
    hold: ClassVar[int] = 1
    """Samples over which a score stands, whoever gave it: the largest of so many is judged."""

    def judge(self, case: Case | None, answer: Answer | None) -> Judged:
        """A miss has VUS-PR, AUC-PR and F1 of zero, where there was something to find."""
        if case is None:
            return Judged(dict(MISSED))
        body: dict[str, Any] = {"group": case.group} if case.group else {}
        truth = case.truth
        body["anomalies"] = len(truth)
        if answer is None:
            return Judged(body | (MISSED if truth else {}))
        found = match(truth, answer.episodes, gap=GAP, grace=GRACE)
        false = found.alarms - found.found
        days = case.tested * case.interval / DAY
        body |= {
            "alarms": found.alarms,
            "found": found.found,
            "false_alarms_per_day": false / days,
            "alarm_share": float(answer.inside.mean()),
        }
        if truth:
            label = case.label
            held = smoothed(answer.score.astype(np.float32), Smoothing(kind="max", n=self.hold))
            if self.hold > 1:
                body["vus_pr_unheld"] = vus_pr(label, answer.score, buffer=BUFFER)
            body |= {
                "vus_pr": vus_pr(label, held, buffer=BUFFER),
                "auc_pr": float(average_precision_score(label, held)),
                "event_f1": f_beta(found.found, false, len(truth) - found.found),
                "detection_delay": float(np.mean(found.delays)) if found.delays else NAN,
            }
        return Judged(body)

    def total(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Means over all files and, with the group's name before it, over those of each group."""
        metrics = _means(judged)
        for group in sorted({one.body.get("group", "") for one in judged} - {""}):
            own = _means([one for one in judged if one.body.get("group") == group])
            metrics |= {f"{group}_{name}": value for name, value in own.items()}
        return metrics

    def intervals(self, judged: Sequence[Judged]) -> dict[str, tuple[float, float]]:
        """Mean -+ 1.96 standard errors over the files, cut at 0 and 1."""
        found = {}
        for name in MISSED:
            values = _values(judged, name)
            if len(values) > 1:
                middle = float(np.mean(values))
                half = 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5
                found[name] = (max(middle - half, 0.0), min(middle + half, 1.0))
        return found


def _means(judged: Sequence[Judged]) -> dict[str, float]:
    columns = {name: _values(judged, name) for name in MEANS}
    means = {name: float(np.mean(some)) if some else NAN for name, some in columns.items()}
    counts = ("anomalies", "alarms", "found")
    anomalies, alarms, found = (
        sum(int(one.body.get(name, 0)) for one in judged) for name in counts
    )
    pooled = f_beta(found, alarms - found, anomalies - found) if anomalies else NAN
    return means | {"event_f1_pooled": pooled}


def _values(judged: Sequence[Judged], name: str) -> list[float]:
    values = (one.body.get(name, NAN) for one in judged)
    return [value for value in values if not np.isnan(value)]
