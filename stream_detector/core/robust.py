"""Where values lie and how far they spread, hardly moved by outliers.

The detector uses this for series that no bundle knows, the trainer for all others: one rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

IQR_OF_NORMAL = 1.349
"""Interquartile range of a normal distribution, in standard deviations."""

LEAST_SHARE = 0.05
"""Floor of the spread, as a share of the range; of the median where the range is zero."""


def median_and_spread(
    values: NDArray[np.floating],  # [..., n, F], finite
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # [..., F] each
    """Median and robust spread of each feature, in the input's units; the spread is above zero.

    The spread is the interquartile range / 1.349, at least 5% of the range. Where the range is
    zero it is 5% of |median|, and 1 where that is zero too. Leading axes are independent blocks.
    """
    data = np.asarray(values, dtype=np.float64)
    low, median, high = np.percentile(data, (25.0, 50.0, 75.0), axis=-2)
    span = np.ptp(data, axis=-2)
    spread = np.maximum((high - low) / IQR_OF_NORMAL, LEAST_SHARE * span)
    return median, np.where(spread > 0, spread, zero_range_spread(median))


def zero_range_spread(center: NDArray[np.float64]) -> NDArray[np.float64]:
    """The spread to assume for values that never change: 5% of their size, or 1 at zero."""
    size = LEAST_SHARE * np.abs(center)
    return np.where(size > 0, size, 1.0)
