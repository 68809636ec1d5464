"""Volume under the surface of precision and recall: one number for scores against ranges.

Paparrizos et al., "Volume Under the Surface", VLDB 2022, as the authors' benchmark computes it
(TSB-AD, 250 thresholds), without its loop over thresholds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

THRESHOLDS = 250


def vus_pr(
    labels: NDArray[np.bool_],  # [n] true within an anomaly
    scores: NDArray[np.floating],  # [n] larger is worse; finite
    *,
    buffer: int = 100,
    thresholds: int = THRESHOLDS,
) -> float:
    """Mean over all widths 0..buffer of the area under the range-based precision-recall curve.

    At width w each anomaly grows by w // 2 samples on both sides, with labels that fall as
    sqrt(1 - distance / w); sums above 1 count as 1. Precision is the label mass that is predicted
    over the samples that are; recall the same mass over the mean of the anomalies' length and of
    the grown mass (where it is predicted), times the share of grown anomalies that are touched at
    all. NaN without an anomaly.
    """
    labels = np.asarray(labels, dtype=np.bool_)
    scores = np.asarray(scores)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise ValueError("labels and scores need the same length")
    positive = int(labels.sum())
    if not positive:
        return float("nan")
    n = len(labels)
    ordered = np.sort(scores)
    steps = np.linspace(0, n - 1, thresholds).astype(np.int64)
    cuts = ordered[n - 1 - steps]  # descending
    predicted = (n - np.searchsorted(ordered, cuts, side="left")).astype(np.float64)

    edges = np.diff(np.concatenate(([0], labels.view(np.int8), [0])))
    first, last = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    point, distance, place = _surroundings(first, last, labels, buffer // 2)
    near = np.unique(np.concatenate((np.flatnonzero(labels), place)))
    # The first threshold at which a sample is predicted, of those that can matter.
    since = len(cuts) - np.searchsorted(cuts[::-1], scores[near], side="right")
    at_inside = since[labels[near]]
    inside = np.bincount(at_inside, minlength=thresholds + 1)[:thresholds].cumsum()
    at_place = since[np.searchsorted(near, place)]

    area, grown = 0.0, -1
    touched = np.zeros(thresholds)
    for width in range(buffer + 1):
        if width // 2 != grown:
            grown = width // 2
            touched = _touched(first, last, near, since, grown, n, thresholds)
        reach = np.searchsorted(distance, grown, side="right")
        mass = np.bincount(point[:reach], np.sqrt(1 - distance[:reach] / max(width, 1)), len(place))
        mass = np.minimum(mass, 1.0)
        outside = np.bincount(at_place, mass, thresholds + 1)[:thresholds].cumsum()
        true = inside + outside
        recall = np.minimum(true / ((2 * positive + outside) / 2), 1) * touched
        area += float((np.diff(recall, prepend=0.0) * (true / predicted)).sum())
    return area / (buffer + 1)


def _surroundings(
    first: NDArray[np.int64], last: NDArray[np.int64], labels: NDArray[np.bool_], half: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Samples beside anomalies: number in `place` and distance, nearest first; and `place`."""
    reach = np.arange(1, half + 1)
    where = np.concatenate((first[:, None] - reach, last[:, None] + reach)).T.ravel()
    distance = np.repeat(reach, 2 * len(first))
    real = (where >= 0) & (where < len(labels))
    where, distance = where[real], distance[real]
    free = ~labels[where]
    place, point = np.unique(where[free], return_inverse=True)
    return point, distance[free], place


def _touched(
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    near: NDArray[np.int64],
    since: NDArray[np.int64],
    grown: int,
    n: int,
    thresholds: int,
) -> NDArray[np.float64]:
    """[thresholds] share of grown anomalies of which a sample is predicted; merged if they meet."""
    apart = np.flatnonzero(last[:-1] + grown < first[1:] - grown)
    begin = np.maximum(first[np.concatenate(([0], apart + 1))] - grown, 0)
    end = np.minimum(last[np.concatenate((apart, [len(last) - 1]))] + grown, n - 1)
    bounds = np.column_stack(
        (np.searchsorted(near, begin), np.searchsorted(near, end, side="right"))
    ).ravel()
    padded = np.append(since, thresholds)  # reduceat needs every bound to be an index
    earliest = np.minimum.reduceat(padded, bounds)[::2]
    counts = np.bincount(earliest, minlength=thresholds + 1)[:thresholds].cumsum()
    share: NDArray[np.float64] = counts / len(begin)
    return share
