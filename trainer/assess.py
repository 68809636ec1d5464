"""Saved scores and verdicts -> every measure that their labels allow, as plain JSON values.

Knows no model and no engine: the same numbers come out when a report is made again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trainer import metrics
from trainer.evaluate import summary
from trainer.metrics.events import Matches, delay_summary, match, merge, recall_by_magnitude
from trainer.metrics.vus import vus_pr

if TYPE_CHECKING:
    from trainer.scored import Scored

BANDS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Edges of the bands of level / threshold: 1 is an alarm."""


def assess(scores: Scored, *, gap: int = 0, buffer: int = 100, beta: float = 2.0) -> dict[str, Any]:
    """The body of `evaluate --json`. `gap`: samples between alarms that are one alarm still.

    Samples count that have a level and, where the data names its training part, lie behind it.
    Keys of labelled data are absent where nothing was labelled.
    """
    counts = scores.counts
    ratio = scores.level[counts] / scores.threshold[counts]
    truth = scores.label[counts] if scores.labelled else None
    body: dict[str, Any] = {
        **summary(scores).body(),
        "counted": int(counts.sum()),
        "labels_from": scores.about.labels,
        "errors": metrics.error_metrics(
            scores.observed[counts], scores.expected[counts], scores.about.features
        ),
        "error_distribution": metrics.by_class(_error(scores)[counts], truth),
        "level_distribution": metrics.by_class(ratio, truth, BANDS),
    }
    if truth is None:
        return body
    level = scores.level[counts]
    above, inside = scores.above[counts], scores.anomalous[counts]
    ranks = metrics.rank_metrics(truth, level, buffer=0)
    ranks["vus_pr"] = _vus(scores, buffer)
    return body | {
        "anomalous_samples": int(truth.sum()),
        "points": metrics.point_metrics(truth, above, beta),
        "points_in_episodes": metrics.point_metrics(truth, inside, beta),
        "ranks": ranks | {"vus_buffer": buffer},
        "confusion": metrics.confusion(truth, above),
        "classification_report": metrics.classification_report(truth, above),
        **_events(scores, gap),
    }


def _error(scores: Scored) -> Any:
    """[n] mean over the features of |observed - expected| / that feature's standard deviation."""
    spread = np.maximum(scores.observed[scores.counts].std(axis=0), 1e-12)
    return np.mean(np.abs(scores.observed - scores.expected) / spread, axis=1)


def _vus(scores: Scored, buffer: int) -> float:
    """Mean over the series that have an anomaly: a buffer must not reach into another series."""
    values = []
    for _, rows in scores.parts():
        counts = scores.counts[rows]
        truth = scores.label[rows][counts]
        if truth.any():
            values.append(vus_pr(truth, scores.level[rows][counts], buffer=buffer))
    return float(np.mean(values)) if values else metrics.NAN


def _events(scores: Scored, gap: int) -> dict[str, Any]:
    about = scores.about
    total, sizes, hits = Matches(), [], []
    delays: list[float] = []
    days = 0.0
    for (name, rows), interval in zip(scores.parts(), about.intervals, strict=True):
        begin = about.begins.get(name, -(2**62))
        known = [one for one in about.known if one.series == name and one.end >= begin]
        truth = [(one.start, one.end) for one in known]
        said = [
            (one.start, one.end)
            for one in about.episodes
            if one.series == name and one.end >= begin
        ]
        late = about.late(interval)
        found = match(truth, said, gap=round(gap * interval), grace=late)
        total.add(found)
        delays += [delay / interval for delay in found.delays if interval]
        days += int(scores.counts[rows].sum()) * interval / 86_400_000
        for one in known:
            if one.magnitude is not None:
                sizes.append(abs(one.magnitude))
                answer = merge(said, round(gap * interval))
                hits.append(any(a <= one.end + late and one.start <= b for a, b in answer))
    body = total.body()
    return {
        "event_wise": body | {"gap_samples": gap, "grace_samples": about.grace},
        "detection_delay": {
            "seconds": delay_summary([delay / 1000 for delay in total.delays]),
            "samples": delay_summary(delays),
        },
        "false_alarms": body["false"],
        "false_alarms_per_day": body["false"] / days if days else None,
        "recall_by_magnitude": recall_by_magnitude(sizes, hits, _edges(sizes)) if sizes else [],
    }


def _edges(sizes: list[float]) -> list[float]:
    """Quartiles, so that each bin holds about as many anomalies."""
    return sorted(set(np.quantile(sizes, (0.25, 0.5, 0.75)).tolist()))
