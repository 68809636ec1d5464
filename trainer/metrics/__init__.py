"""Measures of verdicts, scores and errors. Arrays in, plain numbers out; NaN where undefined.

Points are never adjusted: a range that is touched once does not count as found at every sample.
Measures of whole anomalies are in event_metrics.py.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import metrics as sk

from trainer.metrics.vus import vus_pr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NAN = float("nan")
CLASSES = ("normal", "anomaly")
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)


def wilson(hits: int, of: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share, 95% by default; (0, 1) where nothing was tried."""
    if not of:
        return 0.0, 1.0
    share, square = hits / of, z * z
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = z / (1 + square / of) * np.sqrt(share * (1 - share) / of + square / (4 * of * of))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def confusion(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> dict[str, int]:  # both [n]
    """Counts of the four cases; "positive" is an anomaly."""
    table = sk.confusion_matrix(truth, predicted, labels=[False, True])
    (tn, fp), (fn, tp) = table.tolist()
    return {
        "true_negative": tn,
        "false_positive": fp,
        "false_negative": fn,
        "true_positive": tp,
    }


def point_metrics(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_], beta: float = 2.0
) -> dict[str, float]:
    """Of samples [n] taken one by one. Precision without a prediction is NaN, F then 0.

    Recall is NaN where no sample is anomalous, specificity where none is normal.
    """
    counts = confusion(truth, predicted)
    tp, fp = counts["true_positive"], counts["false_positive"]
    fn, tn = counts["false_negative"], counts["true_negative"]
    return {
        "accuracy": _share(tp + tn, len(truth)),
        "precision": _share(tp, tp + fp),
        "recall": _share(tp, tp + fn),
        "specificity": _share(tn, tn + fp),
        "f1": f_beta(tp, fp, fn),
        "f_beta": f_beta(tp, fp, fn, beta),
        "beta": beta,
    }


def f_beta(tp: int, fp: int, fn: int, beta: float = 1.0) -> float:
    """Weighted harmonic mean of precision and recall; NaN with neither truth nor alarm."""
    square = beta * beta
    return _share((1 + square) * tp, (1 + square) * tp + square * fn + fp)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else NAN


def rank_metrics(
    truth: NDArray[np.bool_],  # [n]
    scores: NDArray[np.floating],  # [n] finite, larger is worse
    buffer: int = 100,
) -> dict[str, float]:
    """What no threshold decides; NaN where only one class is there.

    `best_f1` is the best that any threshold would have given on this very data: a bound, no result.
    """
    if not truth.any() or truth.all():
        names = ("roc_auc", "average_precision", "vus_pr", "best_f1", "best_threshold")
        return dict.fromkeys(names, NAN)
    threshold, f1 = best_threshold(truth, scores)
    return {
        "roc_auc": float(sk.roc_auc_score(truth, scores)),
        "average_precision": float(sk.average_precision_score(truth, scores)),
        "vus_pr": vus_pr(truth, scores, buffer=buffer),
        "best_f1": f1,
        "best_threshold": threshold,
    }


def best_threshold(
    truth: NDArray[np.bool_],  # [n] some of each class
    scores: NDArray[np.floating],  # [n] finite, larger is worse
    beta: float = 1.0,
) -> tuple[float, float]:
    """The score with the best F-beta, and that F-beta: samples at or above it are called anomalous.

    Of scores that are equally good the highest, which alarms least.
    """
    precision, recall, thresholds = sk.precision_recall_curve(truth, scores)
    square = beta * beta
    f = (1 + square) * precision * recall / np.maximum(square * precision + recall, 1e-300)
    best = int(np.flatnonzero(f[:-1] == f[:-1].max())[-1])
    return float(thresholds[best]), float(f[best])


def curves(
    truth: NDArray[np.bool_], scores: NDArray[np.floating], points: int = 400
) -> dict[str, list[float]]:
    """ROC (`false_positive_rate`, `true_positive_rate`) and PR (`recall`, `precision`), thinned.

    Empty lists where only one class is there.
    """
    if not truth.any() or truth.all():
        return {
            name: []
            for name in ("false_positive_rate", "true_positive_rate", "recall", "precision")
        }
    fpr, tpr, _ = sk.roc_curve(truth, scores)
    precision, recall, _ = sk.precision_recall_curve(truth, scores)
    some, other = _thin(len(fpr), points), _thin(len(recall), points)
    return {
        "false_positive_rate": fpr[some].tolist(),
        "true_positive_rate": tpr[some].tolist(),
        "recall": recall[::-1][other].tolist(),
        "precision": precision[::-1][other].tolist(),
    }


def _thin(n: int, points: int) -> NDArray[np.int64]:
    """Places along a curve, close at its start, where few alarms are raised."""
    if n <= points:
        return np.arange(n)
    even = np.linspace(0, n - 1, points // 2)
    early = np.geomspace(1, n, points // 2) - 1
    return np.unique(np.concatenate((even, early)).astype(np.int64))


def classification_report(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> dict[str, Any]:
    """scikit-learn's, by class name: precision, recall, f1-score, support."""
    with warnings.catch_warnings():
        # It warns of labels that neither side has; zero_division already says what they give.
        warnings.simplefilter("ignore")
        report: dict[str, Any] = sk.classification_report(
            truth,
            predicted,
            labels=[False, True],
            target_names=list(CLASSES),
            output_dict=True,
            zero_division=0.0,
        )
    return report


def error_metrics(
    observed: NDArray[np.floating],  # [n, F]
    expected: NDArray[np.floating],  # [n, F] NaN where there is none
    features: Sequence[str],
) -> dict[str, Any]:
    """Mean squared and mean absolute error: over all features and of each, in the input's units."""
    there = np.isfinite(expected).all(axis=1) & np.isfinite(observed).all(axis=1)
    if not there.any():
        return {"mse": NAN, "mae": NAN, "samples": 0, "features": {}}
    error = observed[there] - expected[there]
    squared, absolute = (error**2).mean(axis=0), np.abs(error).mean(axis=0)
    return {
        "mse": float(squared.mean()),
        "mae": float(absolute.mean()),
        "samples": int(there.sum()),
        "features": {
            name: {"mse": float(squared[i]), "mae": float(absolute[i])}
            for i, name in enumerate(features)
        },
    }


def distribution(
    values: NDArray[np.floating],  # [n] NaN are left out
    bands: Sequence[float] = (),
    quantiles: Sequence[float] = QUANTILES,
) -> dict[str, Any]:
    """Count, mean, std, min, max, quantiles, and the share between two neighbouring `bands`.

    Ascending band edges b0 < b1 < ... give shares below b0, [b0, b1), ..., from the last on.
    """
    values = values[np.isfinite(values)].astype(np.float64)
    if not len(values):
        return {"count": 0, "quantiles": {}, "bands": []}
    inner = np.bincount(np.searchsorted(bands, values, side="right"), minlength=len(bands) + 1)
    edges = [None, *map(float, bands), None]
    return {
        "count": len(values),
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
        "quantiles": {
            f"{q:g}": float(value)
            for q, value in zip(quantiles, np.quantile(values, quantiles), strict=True)
        },
        "bands": [
            {"from": edges[i], "to": edges[i + 1], "share": int(count) / len(values)}
            for i, count in enumerate(inner)
        ]
        if len(bands)
        else [],
    }


def by_class(
    values: NDArray[np.floating],
    truth: NDArray[np.bool_] | None,  # [n]; None: nothing was labelled
    bands: Sequence[float] = (),
) -> dict[str, Any]:
    """The distribution of all values and, with a truth, of each class."""
    parts = {"all": distribution(values, bands)}
    if truth is not None:
        parts["normal"] = distribution(values[~truth], bands)
        parts["anomaly"] = distribution(values[truth], bands)
    return parts
