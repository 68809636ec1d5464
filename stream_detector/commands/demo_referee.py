"""Holds what the detector said against the labels of the simulation. No output, no I/O.

An opened anomaly belongs to a fault of its series if it begins between the fault's first sample
and a window length after its last, because a window still holds the fault that long.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_detector.bundle import WINDOW
from stream_detector.core.policy import DAY
from stream_detector.records import Kind, Status

if TYPE_CHECKING:
    from stream_detector.machines import Label
    from stream_detector.records import AnomalyEvent
    from stream_detector.simulation import Fleet


class Ruling(StrEnum):
    FOUND = "found"  # the first episode of a fault
    REPEAT = "repeat"  # another one of a fault already found
    FALSE = "false"  # no fault there


@dataclass(slots=True)
class Ruled:
    """One episode with the ruling on it; `closed_at` is ms, None while it is open."""

    opened: AnomalyEvent
    ruling: Ruling
    label: Label | None
    closed_at: int | None = None
    peak: float = 0.0  # highest level told of


@dataclass(slots=True)
class Referee:
    fleet: Fleet
    episodes: dict[str, Ruled] = field(default_factory=dict)  # by episode id, in order of opening
    _labels: dict[str, list[Label]] = field(default_factory=dict)
    _found: dict[Label, Ruled] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for label in self.fleet.labels:
            self._labels.setdefault(label.name, []).append(label)

    def rule(self, event: AnomalyEvent) -> Ruled | None:
        """Take note of an event; the episode it belongs to, None for other kinds of event."""
        if event.kind is not Kind.ANOMALY:
            return None
        if event.status is Status.OPENED:
            label = self._label_of(event)
            if label is None:
                ruling = Ruling.FALSE
            else:
                ruling = Ruling.REPEAT if label in self._found else Ruling.FOUND
            ruled = self.episodes[event.episode_id] = Ruled(event, ruling, label)
            if label is not None and ruling is Ruling.FOUND:
                self._found[label] = ruled
        ruled = self.episodes[event.episode_id]
        ruled.peak = max(ruled.peak, event.level)
        if event.status is Status.CLOSED:
            ruled.closed_at = event.at
        return ruled

    def delay(self, ruled: Ruled) -> int:
        """Steps from the fault's first sample to the episode's."""
        assert ruled.label is not None
        late = ruled.opened.started_at - ruled.label.start_time
        return round(late / self.fleet.interval_ms)

    def summary(self) -> dict[str, Any]:
        """The figures of the summary that come from labels."""
        fleet = self.fleet
        count = Counter(ruled.ruling for ruled in self.episodes.values())
        delays = [self.delay(ruled) for ruled in self._found.values()]
        tested = len(fleet.series) * (fleet.steps - fleet.normal_steps)
        days = tested * fleet.interval_ms / DAY
        false = count[Ruling.FALSE]
        return {
            "episodes": {
                "true": len(fleet.labels),
                "found": len(self._found),
                "missed": len(fleet.labels) - len(self._found),
                "false": false,
                "repeats": count[Ruling.REPEAT],
            },
            "delay_steps": {
                "median": float(np.median(delays)) if delays else None,
                "p90": float(np.quantile(delays, 0.9)) if delays else None,
            },
            "false_per_series_and_day": round(false / days, 4) if days else None,
            "kinds": self._share(lambda label: label.kind.value),
            "groups": self._share(lambda label: fleet.series[label.series].machine.group),
        }

    def _share(self, of: Any) -> dict[str, dict[str, int]]:
        true = Counter(of(label) for label in self.fleet.labels)
        found = Counter(of(label) for label in self._found)
        return {name: {"true": true[name], "found": found[name]} for name in sorted(true)}

    def _label_of(self, event: AnomalyEvent) -> Label | None:
        reach = WINDOW * self.fleet.interval_ms
        for label in self._labels.get(event.series, ()):
            if label.start_time <= event.started_at <= label.end_time + reach:
                return label
        return None
