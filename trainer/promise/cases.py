"""Simulated series at 1-minute steps in which nothing is wrong: what an alarm budget is held to.

All series of a case are one `Fleet`, made block by block. Each has a generator of its own, so its
values depend neither on how many series there are beside it nor on how long the blocks are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS_A_DAY = 1440
DAILY = 2 * np.pi / STEPS_A_DAY

LEARNT_DAYS = 7
"""Days before the first that a detector sees: what a bundle is trained on."""

CORRELATION = 0.9
"""Of the autoregressive noise from one step to the next."""
FREEDOM = 3
"""Of Student's t, which heavy tails are drawn from."""
DRIFT_DAYS, DRIFT = (20, 48), 1.5
"""Within these days the noise grows to so many times what it was."""
SHIFT_DAYS, SHIFT = (30, 50), (4.0, 8.0)
"""The day of the level step lies between these, its height between these many sd, up or down."""
BY_DAY = 3.0
"""Noise by day against that by night; each lasts 12 hours."""
AMPLITUDE = (2.0, 4.0)
"""Of the daily season, in sd of the noise."""
SECOND_HARMONIC = 0.4
"""Of the season: its amplitude beside that of the first."""


@dataclass(frozen=True, slots=True)
class Case:
    """What the series of a case are like; before any change their noise has a sd of 1 scale."""

    name: str
    about: str
    correlated: bool = True
    season: bool = True
    noise: Literal["normal", "student"] = "normal"
    change: Literal["drift", "step", "day_night"] | None = None


SEASON = Case("season", "AR(1) noise of .9 around a daily season")
CASES = {
    case.name: case
    for case in (
        Case("iid", "independent normal noise", correlated=False, season=False),
        SEASON,
        Case("heavy", "season, with innovations of Student's t(3)", noise="student"),
        Case("drift", "season, its noise growing to 1.5 times in days 20 to 48", change="drift"),
        Case("step", "season, its level moved for good in days 30 to 50", change="step"),
        Case("day_night", "season, its noise 3 times as strong by day", change="day_night"),
    )
}


class Fleet:
    """S series of one case, from LEARNT_DAYS before day 0 on; each block follows the one before."""

    def __init__(self, case: Case, seed: int, series: int, *, stream: int = 0) -> None:
        """Another `stream` of the same seed has other series."""
        self.case = case
        place = list(CASES).index(case.name)
        self._generators = [
            np.random.default_rng((seed, stream, place, number)) for number in range(series)
        ]
        drawn = np.array([g.random(8) for g in self._generators]).T  # [8, S]
        self.level = 200 * drawn[0] - 100  # [S]
        self.scale = np.exp(4 * drawn[1] - 2)  # [S] sd of the noise in the series' own unit
        self.amplitude = between(AMPLITUDE, drawn[2]) * case.season  # [S] in sd of the noise
        self._phase, self._second_phase = 2 * np.pi * drawn[3:5]
        self.shifted_at = np.floor(between(SHIFT_DAYS, drawn[5]) * STEPS_A_DAY).astype(np.int64)
        self.shift = between(SHIFT, drawn[6]) * np.where(drawn[7] < 0.5, -1, 1)
        self._last = np.array([g.standard_normal() for g in self._generators])
        self._next = -LEARNT_DAYS * STEPS_A_DAY

    def __len__(self) -> int:
        return len(self._generators)

    @property
    def names(self) -> list[str]:
        return [f"{self.case.name}-{number:04d}" for number in range(len(self))]

    def block(self, steps: int) -> NDArray[np.float64]:  # [steps, S]
        """The next steps of every series."""
        change = self.case.change
        at = np.arange(self._next, self._next + steps)[:, None]  # [steps, 1]; day 0 begins at 0
        self._next += steps
        day = np.sin(DAILY * at + self._phase)
        value = self._noise(steps)
        if change == "drift":
            first, last = DRIFT_DAYS
            value *= 1 + (DRIFT - 1) * np.clip((at / STEPS_A_DAY - first) / (last - first), 0, 1)
        elif change == "day_night":
            value *= np.where(day > 0, BY_DAY, 1)
        elif change == "step":
            value += np.where(at >= self.shifted_at, self.shift, 0)
        season = day + SECOND_HARMONIC * np.sin(2 * DAILY * at + self._second_phase)
        value += self.amplitude * season
        value *= self.scale
        value += self.level
        return value

    def _noise(self, steps: int) -> NDArray[np.float64]:
        """[steps, S] of variance 1."""
        if self.case.noise == "student":
            drawn = [g.standard_t(FREEDOM, steps) for g in self._generators]
        else:
            drawn = [g.standard_normal(steps) for g in self._generators]
        shocks: NDArray[np.float64] = np.stack(drawn, axis=1)
        if self.case.noise == "student":
            shocks /= np.sqrt(FREEDOM / (FREEDOM - 2))
        if not self.case.correlated:
            return shocks
        shocks *= np.sqrt(1 - CORRELATION**2)
        value = self._last
        for step in range(steps):
            value = shocks[step] = CORRELATION * value + shocks[step]
        self._last = value.copy()
        return shocks


def between(bounds: tuple[float, float], share: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = bounds
    result: NDArray[np.float64] = low + (high - low) * share
    return result
