"""The demo's detecting part: the service's own loop on a broker in memory, and what it said.

The recorder stands where the service has its metrics and its normal store.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.adapters.memory import MemoryBroker
from stream_detector.commands import wiring
from stream_detector.core.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from stream_detector.ports import Model, Progress
    from stream_detector.records import AnomalyEvent, Partition, Verdicts
    from stream_detector.simulation import Fleet

SAMPLES, GROUP = "samples", "demo"
PARTITIONS = 4
PIECE = 16
"""Steps handed to the broker at once, so that episodes are told nearly in order of time."""


class Course(NamedTuple):
    """What the detector said of one series, by sample."""

    timestamp: NDArray[np.int64]  # [n] ms
    level: NDArray[np.float32]  # [n]


@dataclass(slots=True)
class Recorder:
    """Telemetry and normal store in one: keeps events, levels and scores in memory."""

    tell: Callable[[AnomalyEvent], None]
    events: list[AnomalyEvent] = field(default_factory=list)
    samples: int = 0
    windows: int = 0
    rejected: int = 0
    ratios: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)  # by group
    stages: dict[str, float] = field(default_factory=dict)  # s
    _verdicts: list[Verdicts] = field(default_factory=list)

    def turn(self, progress: Progress) -> None:
        self.samples += progress.polled
        self.rejected += len(progress.rejected)
        for scores in progress.scores:
            self.windows += len(scores.error)
            self.ratios.setdefault(scores.group, []).append(scores.ratio)
        for stage, seconds in progress.stages.items():
            self.stages[stage] = self.stages.get(stage, 0.0) + seconds
        for event in progress.events:
            self.events.append(event)
            self.tell(event)

    def lag(self, lag: Mapping[Partition, int]) -> None: ...

    def model(self, group: str, version: str) -> None: ...

    def reload(self, outcome: str) -> None: ...

    def record(self, verdicts: Verdicts) -> None:
        self._verdicts.append(verdicts)

    def close(self) -> None: ...

    def courses(self) -> dict[str, Course]:
        """Levels of every series in order of time."""
        if not self._verdicts:
            return {}
        names = np.array([name for v in self._verdicts for name in v.batch.series])
        times = np.concatenate([v.batch.timestamp for v in self._verdicts])
        levels = np.concatenate([v.level for v in self._verdicts])
        order = np.lexsort((times, names))
        found, start = np.unique(names[order], return_index=True)
        parts = np.split(order, start[1:])
        return {
            str(name): Course(times[part], levels[part])
            for name, part in zip(found, parts, strict=True)
        }


def watch(
    fleet: Fleet,
    models: Mapping[str, Model],
    recorder: Recorder,
    *,
    alarm_budget: float,
    advance: Callable[[int], None],
) -> float:
    """Stream the part with faults through the loop; returns the seconds spent detecting."""
    broker = MemoryBroker()
    broker.create_topic(SAMPLES, PARTITIONS)
    source = broker.source([SAMPLES], GROUP, start="earliest")
    routes = {machine.group: machine.match for machine in fleet.machines}
    plan = wiring.default_plan(routes, Policy(alarm_budget=alarm_budget))
    loop = wiring.loop(plan, models, source, broker.sink(), telemetry=recorder, store=recorder)
    seconds, sent = 0.0, 0
    for first in range(fleet.normal_steps, fleet.steps, PIECE):
        wires = fleet.records(first, first + PIECE)
        broker.append_many(SAMPLES, ((w.series.encode(), w.value, w.timestamp) for w in wires))
        sent += len(wires)
        began = time.monotonic()
        while recorder.samples < sent:
            loop.turn()
        seconds += time.monotonic() - began
        advance(min(PIECE, fleet.steps - first))
    source.close()
    return seconds
