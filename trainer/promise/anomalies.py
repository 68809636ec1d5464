"""Anomalies put into simulated series: what a detector should still find within its budget.

Sizes are in marginal standard deviations of the noise around the season, not of its innovations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from trainer.promise.cases import STEPS_A_DAY, between

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.promise.cases import Fleet

TIMES = ((0.05, 0.45), (0.55, 0.95))
"""When the two anomalies of a series begin, as shares of the days that are looked at."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    name: str
    about: str
    kind: Literal["level", "noise"]
    size: float  # sd
    steps: int


ANOMALIES = {
    one.name: one
    for one in (
        Anomaly("spike", "one step of 8 sd, up or down", "level", 8.0, 1),
        Anomaly("shift", "120 steps moved by 4 sd, up or down", "level", 4.0, 120),
        Anomaly("burst", "300 steps with white noise of 1.5 sd on top", "noise", 1.5, 300),
    )
}


class Injected(NamedTuple):
    """One anomaly of one series; steps from day 0 on, the last one included."""

    series: int
    first: int
    last: int


class Injection:
    """Twice the same anomaly in each series of a fleet, between two days."""

    def __init__(self, anomaly: Anomaly, fleet: Fleet, seed: int, days: tuple[int, int]) -> None:
        place = list(ANOMALIES).index(anomaly.name)
        self.all: list[Injected] = []
        self._added: list[NDArray[np.float64]] = []  # [steps] for each, in the series' own unit
        for series in range(len(fleet)):
            rng = np.random.default_rng((seed, place, series))
            for bounds in TIMES:
                share = between(bounds, rng.random(1))
                first = int(between((days[0], days[1]), share)[0] * STEPS_A_DAY)
                self.all.append(Injected(series, first, first + anomaly.steps - 1))
                shape = np.full(anomaly.steps, np.where(rng.random() < 0.5, -1.0, 1.0))
                if anomaly.kind == "noise":
                    shape = rng.standard_normal(anomaly.steps)
                self._added.append(anomaly.size * fleet.scale[series] * shape)

    def add(self, values: NDArray[np.float64], start: int) -> None:
        """To values [steps, S] whose first is step `start`, in place."""
        stop = start + len(values)
        for one, added in zip(self.all, self._added, strict=True):
            first, behind = max(one.first, start), min(one.last + 1, stop)
            if first < behind:
                part = added[first - one.first : behind - one.first]
                values[first - start : behind - start, one.series] += part
