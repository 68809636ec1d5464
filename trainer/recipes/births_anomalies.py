"""Abnormal days for a series of daily counts: a generator of their own, and altered real days.

Jitter, scaling and magnitude warping are those of Um et al., "Data Augmentation of Wearable Sensor
Data for Parkinson's Disease Monitoring using Convolutional Neural Networks", 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import CubicSpline

if TYPE_CHECKING:
    from numpy.typing import NDArray

Alter = Callable[[np.random.Generator, "NDArray[np.float64]"], "NDArray[np.float64]"]

LEAST, MOST = 50, 60
"""Amplitudes of the generator, the latter excluded."""
JITTER = 8.0
SCALING = 0.5
WARP = 0.3
KNOTS = 6
"""Factors that a warp runs through, the first and the last value among them."""


def abnormal(rng: np.random.Generator, k: NDArray[np.int64]) -> NDArray[np.float64]:
    """Days randint(50, 60) * sin(k) for each k [n]: from -59 to 59, hardly two days alike."""
    return rng.integers(LEAST, MOST, len(k)) * np.sin(k)


def jitter(rng: np.random.Generator, days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each of the days [n] with normal noise of its own."""
    return days + rng.normal(0.0, JITTER, len(days))


def scaling(rng: np.random.Generator, days: NDArray[np.float64]) -> NDArray[np.float64]:
    """All days [n] times one factor around 1."""
    return days * rng.normal(1.0, SCALING)


def magnitude_warp(rng: np.random.Generator, days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Days [n] times a curve, a cubic spline through evenly spaced factors around 1."""
    factors = rng.normal(1.0, WARP, KNOTS)
    at = np.linspace(0.0, max(len(days) - 1, 1), KNOTS)
    return days * CubicSpline(at, factors)(np.arange(len(days)))


HARDER: Mapping[str, Alter] = {
    "jitter": jitter,
    "scaling": scaling,
    "magnitude_warp": magnitude_warp,
}
"""Generators whose days may look quite normal."""
