"""Extreme value theory: how large a score so rare that none was seen would be.

Peaks over threshold (Davison and Smith, 1990), with the quantile and the formula of SPOT (Siffer et
al., Anomaly Detection in Streams with Extreme Value Theory, KDD 2017). Scores of windows that
overlap come in clusters, so the peaks are one a cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

INITIAL_QUANTILE = 0.98
"""Peaks are taken above this quantile, as SPOT does."""

LEAST_PEAKS = 30
"""Fewer peaks cannot tell the shape of a tail; it is taken for exponential then."""


class ParetoTail(NamedTuple):
    """Excesses x over `begin` are generalised Pareto: P(> x) = (1 + shape x / scale)^(-1 / shape).

    Shape 0 is the exponential law.
    """

    begin: float
    shape: float
    scale: float
    peaks: int  # separate excursions over `begin` that the fit rests on
    windows: int  # scores among which they were

    def exceeded_with(self, probability: float) -> float:
        """The score that so many separate excursions a window exceed; never below `begin`."""
        rate = self.peaks / max(self.windows, 1)
        if rate <= probability:
            return self.begin
        ratio = rate / probability
        if self.shape == 0.0:
            return self.begin + self.scale * float(np.log(ratio))
        return self.begin + self.scale / self.shape * float(np.expm1(self.shape * np.log(ratio)))


def tail_of(runs: Sequence[NDArray[np.floating]]) -> ParetoTail:
    """The tail of scores, each run [n] in time order and finite; together at least one score."""
    pooled = np.concatenate(runs).astype(np.float64)
    begin = float(np.quantile(pooled, INITIAL_QUANTILE))
    peaks = np.concatenate([cluster_peaks(run.astype(np.float64), begin) for run in runs]) - begin
    if len(peaks) >= LEAST_PEAKS:
        shape, scale = generalised_pareto(peaks)
    else:
        shape, scale = 0.0, float(peaks.mean()) if len(peaks) else 0.0
    return ParetoTail(begin, shape, scale, len(peaks), len(pooled))


def generalised_pareto(excess: NDArray[np.float64]) -> tuple[float, float]:
    """Shape and scale from excesses [n] by probability weighted moments.

    Hosking and Wallis (1987), who find them better than maximum likelihood below 500 excesses. A
    bounded tail that ends before the largest excess is made to end there (Dupuis and Tsao, 1998).
    """
    ordered = np.sort(excess)
    n = len(ordered)
    exceeded = 1.0 - (np.arange(1, n + 1) - 0.35) / n
    mean, weighted = float(ordered.mean()), float((exceeded * ordered).mean())
    spread = mean - 2.0 * weighted
    if spread <= 0.0:  # no law with a finite mean has such moments
        return 0.0, mean
    shape, scale = 2.0 - mean / spread, 2.0 * mean * weighted / spread
    if shape < 0.0 and -scale / shape < ordered[-1]:
        shape = -scale / float(ordered[-1])
    return shape, scale


def cluster_peaks(
    run: NDArray[np.float64],  # [n] in time order
    begin: float,
) -> NDArray[np.float64]:
    """The largest score of each separate excursion above `begin`.

    Which excursions are separate follows from the data (Ferro and Segers, Inference for clusters of
    extreme values, 2003): with an extremal index of c clusters a score, the longest c * m of m - 1
    gaps lie between clusters. Independent scores are nearly all separate.
    """
    above = np.flatnonzero(run > begin)
    gaps = np.diff(above)
    if not len(gaps):
        return run[above]
    apart = gaps > _longest_within(gaps)
    starts = np.flatnonzero(np.concatenate([[True], apart]))
    return np.maximum.reduceat(run[above], starts)


def _longest_within(gaps: NDArray[np.int64]) -> int:
    """The longest gap that does not part two clusters; 0 where all of them do."""
    m = len(gaps) + 1
    if gaps.max() <= 2:
        index = 2.0 * gaps.sum() ** 2 / (len(gaps) * (gaps.astype(float) ** 2).sum())
    else:
        index = 2.0 * (gaps - 1).sum() ** 2 / (len(gaps) * float(((gaps - 1) * (gaps - 2)).sum()))
    between = min(int(min(index, 1.0) * m), len(gaps))  # gaps that part clusters, at most
    longest = np.sort(gaps)[::-1]
    # Equal gaps belong together: those that tie with the first one within are within too.
    return int(longest[between]) if between < len(gaps) else 0
