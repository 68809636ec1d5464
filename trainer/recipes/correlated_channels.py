"""Correlated channels of one plant, and single rows of them that are anomalous.

Made, not measured: a few slow causes drive nine channels, each with noise of its own, and two
channels never change. An anomalous row is one of three kinds, none of which lasts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["spike", "exchange", "constant"]
KINDS: tuple[Kind, ...] = get_args(Kind)

LIVE, CONSTANT, CAUSES = 9, 2, 3
NAMES = [f"channel_{number}" for number in range(LIVE + CONSTANT)]
SEASON = 96
"""Rows of the season that the first cause follows."""
MEMORY = 0.95
"""Autocorrelation of the causes from one row to the next."""
NOISE = 0.3
"""Standard deviation of a channel's own noise, beside causes of about 1 together."""
SPIKE = 4.0, 8.0
"""Standard deviations by which a spike is off."""
EXCHANGED = 4
"""Channels that take their values from another row."""
LEAP = 0.2, 0.5
"""Part of its value by which a constant channel is off."""


class Plant:
    """Loadings, levels and sizes of the channels, drawn once; rows of it, drawn as often."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng((seed, 0))
        loadings = rng.normal(size=(CAUSES, LIVE))
        self.loadings = loadings / np.linalg.norm(loadings, axis=0)
        self.level = rng.uniform(10.0, 100.0, LIVE + CONSTANT)
        self.size = np.concatenate((rng.uniform(0.5, 5.0, LIVE), np.zeros(CONSTANT)))

    def rows(
        self,
        rng: np.random.Generator,
        n: int,
        first: int = 0,
        state: NDArray[np.float64] | None = None,  # [CAUSES] of the row before
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """n rows [n, 11] from the first on, and the state [CAUSES] of the last one."""
        drive = rng.normal(size=(n, CAUSES)) * np.sqrt(1 - MEMORY**2)
        causes = np.empty((n, CAUSES))
        current = rng.normal(size=CAUSES) if state is None else state
        for row in range(n):
            current = MEMORY * current + drive[row]
            causes[row] = current
        wave = np.sin(2 * np.pi * (first + np.arange(n)) / SEASON)
        seen = causes + np.stack((wave, *np.zeros((CAUSES - 1, n))), axis=1)
        live = seen @ self.loadings + rng.normal(0.0, NOISE, (n, LIVE))
        values = np.concatenate((live, np.zeros((n, CONSTANT))), axis=1)
        return self.level + self.size * values, current


def spoil(
    rng: np.random.Generator,
    values: NDArray[np.float64],  # [n, 11]
    row: int,
    kind: Kind,
) -> NDArray[np.float64]:
    """What row `row` becomes, [11].

    spike: one live channel leaps; exchange: four live channels take the values of some other row,
    each well within its range; constant: a channel that never changes does.
    """
    found = values[row].copy()
    if kind == "spike":
        at = rng.integers(LIVE)
        found[at] += rng.choice((-1, 1)) * rng.uniform(*SPIKE) * values[:, at].std()
    elif kind == "exchange":
        at = rng.choice(LIVE, EXCHANGED, replace=False)
        found[at] = values[rng.integers(len(values)), at]
    else:
        at = LIVE + rng.integers(CONSTANT)
        found[at] *= 1 + rng.choice((-1, 1)) * rng.uniform(*LEAP)
    return found
