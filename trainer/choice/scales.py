"""Which scales to look at, chosen from the training data: scale 1, and one that sees its period.

A window has 60 steps whatever the scale. Where the data repeats itself, a window that spans about
one and a half to two periods tells a strange one from a usual one best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.bundle import WINDOW
from trainer.reading.rows import read
from trainer.runs import split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trainer.config import Split
    from trainer.reading.rows import Series

SPAN = 1.7
"""Periods that the 60 steps of the coarse scale span unless told otherwise."""
STRONG = 0.2
"""Autocorrelation from which on a peak counts as a period."""
FIRST = 0.85
"""The first peak of at least this part of the highest is the period, not one of its multiples."""
LATEST = 1 << 20
"""Samples of a run that are looked at, at most: the latest."""
LONGEST = 1 / 3
"""Periods longer than this part of the series are not seen often enough to be believed."""


@dataclass(frozen=True, slots=True)
class Choice:
    scales: list[int]
    period: float | None  # samples, median over the series that have one
    reason: str  # for people


def dominant_period(values: NDArray[np.floating]) -> tuple[float, float] | None:
    """Period in samples and its autocorrelation, of one feature [n]; None where none is strong.

    After the linear trend is taken off: the first high peak of the autocorrelation behind its
    first negative value.
    """
    n = len(values)
    if n < 2 * WINDOW or np.ptp(values) == 0:
        return None
    time = np.arange(n)
    x = values - np.polynomial.Polynomial.fit(time, values, 1)(time)
    if np.ptp(x) <= 1e-9 * np.ptp(values):
        return None
    spectrum = np.abs(np.fft.rfft(x, 2 * n)) ** 2
    correlation = np.fft.irfft(spectrum)[: int(n * LONGEST)]
    correlation /= correlation[0]
    negative = np.flatnonzero(correlation < 0)
    if not len(negative):
        return None
    start = int(negative[0])
    # Fewer products enter at longer lags; without this correction long periods look weak.
    behind = correlation[start:] * n / (n - np.arange(start, len(correlation)))
    highest = float(behind.max(initial=0.0))
    if highest < STRONG:
        return None
    inner = behind[1:-1]
    peaks = 1 + np.flatnonzero((inner >= behind[:-2]) & (inner > behind[2:]))
    peaks = peaks[behind[peaks] >= FIRST * highest]
    if not len(peaks):
        return None
    # The largest value near the first peak: noise makes small peaks on the flank of a broad one.
    near = peaks[peaks <= peaks[0] + max(2, (start + peaks[0]) // 4)]
    at = int(near[np.argmax(behind[near])])
    return float(start + at), float(behind[at])


def choose(series: Sequence[Series], shares: Split, span: float = SPAN) -> Choice:
    """Scale 1, and a coarse one where most series have a period; from the training part alone."""
    found = []
    for run in split(series, shares).train:
        values = read(run.values[-LATEST:])
        periods = [dominant_period(column) for column in values.T]
        strong = [period for period in periods if period is not None]
        if strong:
            found.append(max(strong, key=lambda period: period[1]))
    names = f"{len(found)} of {len(series)} series"
    if len(found) * 2 < len(series):
        return Choice([1], None, f"only {names} repeat themselves")
    period, strength = (float(np.median(column)) for column in zip(*found, strict=True))
    wanted = round(span * period / WINDOW)
    scale = min(wanted, largest(series, shares))
    told = f"{names} repeat themselves, every {period:.0f} samples (autocorrelation {strength:.2f})"
    if wanted < 2:
        return Choice([1], period, f"{told}, and 60 samples see that")
    if scale < 2:
        return Choice([1], period, f"{told}; too little data for scale {wanted}")
    spans = scale * WINDOW / period
    return Choice([1, scale], period, f"{told}: 60 steps of {scale} span {spans:.1f} of them")


def largest(series: Sequence[Series], shares: Split) -> int:
    """The largest scale for which half of the series have a window in each part."""
    least = shares.least
    lengths = [np.diff([0, *one.breaks.tolist(), len(one)]).max() for one in series]
    return int(np.median(lengths) * least / (WINDOW + 1))
