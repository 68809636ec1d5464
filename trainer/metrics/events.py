"""Measures of whole anomalies: closed intervals (first, last) of one series, in any one unit.

An alarm finds an anomaly when the two share a point; each anomaly is found once and each alarm
finds one, so that a second alarm for the same anomaly counts as false unless `gap` merges them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.metrics import NAN, f_beta, wilson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

Interval = tuple[int, int]


def merge(intervals: Iterable[Interval], gap: int = 0) -> list[Interval]:
    """Sorted, with those joined that lie at most `gap` apart."""
    merged: list[Interval] = []
    for first, last in sorted(intervals):
        if merged and first - merged[-1][1] <= gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def stretches(flags: NDArray[np.bool_], at: NDArray[np.int64] | None = None) -> list[Interval]:
    """Runs of true flags [n] as places, or as what `at` [n] says of their first and last."""
    edges = np.diff(np.concatenate(([0], np.asarray(flags, np.int8), [0])))
    first, last = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    if at is not None:
        first, last = at[first], at[last]
    return list(zip(first.tolist(), last.tolist(), strict=True))


@dataclass(slots=True)
class Matches:
    """What became of anomalies and alarms; sums over series with `add`."""

    anomalies: int = 0
    alarms: int = 0
    found: int = 0
    delays: list[int] = field(default_factory=list)
    """From the first point of each found anomaly to its alarm; 0 where the alarm was there."""

    def add(self, other: Matches) -> None:
        self.anomalies += other.anomalies
        self.alarms += other.alarms
        self.found += other.found
        self.delays += other.delays

    def body(self) -> dict[str, Any]:
        false, missed = self.alarms - self.found, self.anomalies - self.found
        return {
            "anomalies": self.anomalies,
            "alarms": self.alarms,
            "found": self.found,
            "missed": missed,
            "false": false,
            "precision": self.found / self.alarms if self.alarms else NAN,
            "precision_interval": wilson(self.found, self.alarms),
            "recall": self.found / self.anomalies if self.anomalies else NAN,
            "recall_interval": wilson(self.found, self.anomalies),
            "f1": f_beta(self.found, false, missed),
        }


def match(
    anomalies: Sequence[Interval], alarms: Sequence[Interval], *, gap: int = 0, grace: int = 0
) -> Matches:
    """Pair the anomalies of one series with its alarms, most pairs possible.

    Alarms at most `gap` apart are one. An alarm that begins within `grace` after an anomaly's end
    still finds it: a window holds the anomaly that long.
    """
    truth, said = merge(anomalies), merge(alarms, gap)
    result = Matches(len(truth), len(said))
    i = j = 0
    while i < len(truth) and j < len(said):
        (first, last), (begin, end) = truth[i], said[j]
        if begin > last + grace:
            i += 1
        elif end < first:
            j += 1
        else:
            result.found += 1
            result.delays.append(max(0, begin - first))
            i, j = i + 1, j + 1
    return result


def delay_summary(delays: Sequence[float]) -> dict[str, float]:
    """Of found anomalies only, in the unit given; NaN where none was found."""
    if not len(delays):
        return {"count": 0, "mean": NAN, "median": NAN, "p90": NAN, "max": NAN}
    values = np.asarray(delays, dtype=np.float64)
    return {
        "count": len(values),
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p90": float(np.quantile(values, 0.9)),
        "max": float(values.max()),
    }


def recall_by_magnitude(
    magnitudes: Sequence[float],  # of each anomaly, >= 0
    found: Sequence[bool],
    edges: Sequence[float],  # ascending; those outside fall into the open first and last bin
) -> list[dict[str, Any]]:
    """Share of found anomalies by their size, with Wilson's interval; empty bins are left out."""
    where = np.searchsorted(edges, np.asarray(magnitudes, dtype=np.float64), side="right")
    bounds = [None, *map(float, edges), None]
    rows = []
    for place in range(len(edges) + 1):
        inside = where == place
        if count := int(inside.sum()):
            hits = int(np.asarray(found, dtype=np.bool_)[inside].sum())
            rows.append(
                {
                    "from": bounds[place],
                    "to": bounds[place + 1],
                    "count": count,
                    "found": hits,
                    "recall": hits / count,
                    "interval": wilson(hits, count),
                }
            )
    return rows
