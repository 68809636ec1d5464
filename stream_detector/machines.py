"""What the simulated fleet is made of: machine types, their series, and what can go wrong.

Only descriptions and the course of a machine cycle live here; see simulation.py for the samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class Fault(StrEnum):
    """What can go wrong. `magnitude` of a label is in local sigmas and means:"""

    SPIKE = "spike"  # height of 1 to 3 steps
    LEVEL_SHIFT = "level_shift"  # height of the new level
    FLATLINE = "flatline"  # a sensor sticks: 1, for the usual movement that is gone
    DRIFT = "drift"  # height at the end of a ramp
    NOISE_BURST = "noise_burst"  # standard deviation of the added noise
    FREQUENCY_CHANGE = "frequency_change"  # the cycle runs faster or slower: RMS of the deviation


@dataclass(frozen=True, slots=True)
class Feature:
    """One measured quantity. Parts are in units of `spread`, the feature's own unit of movement."""

    name: str
    center: float  # in the feature's unit
    spread: float  # in the feature's unit
    cycle: float  # machine cycle, standard deviation
    day: float  # daily season, amplitude
    common: float  # noise shared with the other features
    own: float  # noise of this sensor
    memory: float = 0.4  # how much of the own noise lasts to the next step
    lag: float = 0.0  # behind the machine cycle, in cycles


@dataclass(frozen=True, slots=True)
class Machine:
    """One type of machine: a group of series that share features and a model."""

    group: str
    match: str  # glob on the series name
    template: str  # name of the i-th series
    features: tuple[Feature, ...]
    share: float  # of the fleet
    decades: float  # the gains of its series spread over so many powers of ten
    faults: tuple[Fault, ...] = tuple(Fault)


MACHINES = (
    Machine(
        group="pump",
        match="*/pump-*",
        template="plant-{plant}/pump-{number:03d}",
        share=0.375,
        decades=0.3,
        features=(
            Feature("temperature", 64.0, 2.5, 0.6, 0.8, 0.30, 0.20, memory=0.7, lag=0.20),
            Feature("pressure", 4.2e5, 1.8e4, 1.0, 0.3, 0.25, 0.25),
            Feature("flow", 0.034, 0.0021, 1.0, 0.3, -0.20, 0.25, lag=0.05),
            Feature("vibration", 2.8, 0.21, 0.7, 0.1, 0.15, 0.40, memory=0.2),
            Feature("current", 38.0, 2.2, 0.9, 0.4, 0.30, 0.20, lag=0.02),
        ),
    ),
    Machine(
        group="turbine",
        match="*/turbine-*",
        template="plant-{plant}/turbine-{number:03d}",
        share=0.25,
        decades=0.2,
        features=(
            Feature("power", 2.1e6, 1.3e5, 0.9, 0.7, 0.35, 0.20),
            Feature("speed", 1500.0, 14.0, 0.8, 0.2, 0.30, 0.25, lag=0.08),
            Feature("bearing_temperature", 78.0, 3.0, 0.5, 0.9, 0.20, 0.20, memory=0.8, lag=0.25),
            Feature("vibration", 0.0042, 0.0004, 0.8, 0.1, 0.20, 0.40, memory=0.2, lag=0.5),
        ),
    ),
    Machine(
        group="web",
        match="*/web-*",
        template="shop-{plant}/web-requests-{number:03d}",
        share=0.375,
        decades=4.0,
        features=(Feature("value", 1200.0, 210.0, 0.0, 1.0, 0.0, 0.24, memory=0.5),),
        # No machine, no cycle whose frequency could change.
        faults=tuple(fault for fault in Fault if fault is not Fault.FREQUENCY_CHANGE),
    ),
)


@dataclass(frozen=True, slots=True)
class Series:
    """One series of the fleet; `row` counts within its machine type."""

    index: int
    name: str
    machine: Machine
    row: int
    center: NDArray[np.float64]  # [F] in the features' units
    spread: NDArray[np.float64]  # [F]
    period: float  # steps a machine cycle
    phase: float  # cycles, at step 0
    season: NDArray[np.float64]  # [4] phases of the daily season (2) and of the slow drift (2)
    delay: int  # ms after the start of each step

    @property
    def sigma(self) -> NDArray[np.float64]:
        """Standard deviation within a window, [F]: cycle and noise, without the daily season."""
        parts = [f.cycle**2 + f.common**2 + f.own**2 for f in self.machine.features]
        sigma: NDArray[np.float64] = self.spread * np.sqrt(np.array(parts))
        return sigma


@dataclass(frozen=True, slots=True)
class Label:
    """One injected fault; `start` is its first step, `end` its last (both count from 0)."""

    series: int
    name: str
    kind: Fault
    start: int
    end: int
    start_time: int  # ms UTC of the first sample concerned
    end_time: int  # ms UTC of the last
    features: tuple[str, ...]
    magnitude: float  # in local sigmas, see Fault
    sign: tuple[float, ...] = field(repr=False, default=())  # direction by feature
    speed: float = field(repr=False, default=1.0)  # of the cycle, for FREQUENCY_CHANGE

    def body(self, author: str = "simulation") -> dict[str, object]:
        """The label as the labels topic and labels files hold it."""
        return {
            "schema_version": 1,
            "series": self.name,
            "from": self.start_time,
            "to": self.end_time,
            "label": "anomaly",
            "episode_id": None,
            "author": author,
            "at": self.end_time,
            "kind": self.kind.value,
            "features": list(self.features),
            "magnitude": round(self.magnitude, 3),
        }


RANGES = {  # steps from, to; local sigmas from, to
    Fault.SPIKE: (1, 3, 6.0, 14.0),
    Fault.LEVEL_SHIFT: (20, 90, 3.5, 8.0),
    Fault.FLATLINE: (40, 90, 1.0, 1.0),
    Fault.DRIFT: (60, 150, 5.0, 10.0),
    Fault.NOISE_BURST: (15, 60, 2.5, 5.0),
    Fault.FREQUENCY_CHANGE: (40, 120, 1.0, 1.0),
}


def make_series(
    count: int, seed: int, interval_ms: int, machines: tuple[Machine, ...]
) -> Iterator[Series]:
    """Share the series out by largest remainder, at least one of the first types."""
    shares = np.array([m.share for m in machines])
    exact = shares / shares.sum() * count
    counts = np.floor(exact).astype(int)
    for i in np.argsort(counts - exact, kind="stable")[: count - int(counts.sum())]:
        counts[i] += 1
    index = 0
    for machine, members in zip(machines, counts.tolist(), strict=True):
        width = len(machine.features)
        for row in range(members):
            rng = np.random.default_rng([seed, 0, index])
            gain = 10.0 ** rng.uniform(-machine.decades / 2, machine.decades / 2)
            shape = gain * rng.lognormal(0.0, 0.1, width)
            yield Series(
                index=index,
                name=machine.template.format(plant=1 + row % 3, number=row + 1),
                machine=machine,
                row=row,
                center=shape * [f.center for f in machine.features],
                spread=shape * [f.spread for f in machine.features] * rng.lognormal(0, 0.1, width),
                period=float(rng.uniform(20.0, 45.0)),
                phase=float(rng.random()),
                season=rng.random(4) * [0.15, 0.15, 1.0, 1.0],
                delay=int(rng.integers(0, max(1, interval_ms * 9 // 10))),
            )
            index += 1


def phase_of(series: Series, step: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cycles done at each step; a machine does not keep perfect time."""
    wander = 0.15 * np.sin(2 * np.pi * (step / (23.0 * series.period) + series.phase))
    phase: NDArray[np.float64] = step / series.period + series.phase + wander
    return phase


def wave(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """The machine cycle: one turn with an overtone, standard deviation 1."""
    turn = 2 * np.pi * phase
    course: NDArray[np.float64] = (np.sin(turn) + 0.4 * np.sin(2 * turn + 0.7)) / np.sqrt(0.58)
    return course
