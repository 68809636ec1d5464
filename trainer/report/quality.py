"""Numbers of a report: measures, confusion, curves, distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer import metrics
from trainer.report import page, pictures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.scored import Scored

UNLABELLED = (
    "Nothing was labelled. Give --labels FILE, --label-column NAME, or files named as in the UCR "
    "archive, and evaluate again."
)


def table(body: dict[str, Any], scales: Sequence[int]) -> page.Section:
    """All measures, with what each one asks. `scales`: of the bundle."""
    html = ""
    if "points" in body:
        rows = []
        for name in ("precision", "recall", "f1", "f_beta", "specificity", "accuracy"):
            shown = name.replace("_", " ").replace("f beta", f"F{body['points']['beta']:g}")
            rows.append(
                [
                    shown.replace("f1", "F1"),
                    float(body["points"][name]),
                    float(body["points_in_episodes"][name]),
                    body["event_wise"].get(name),
                ]
            )
        html += page.table(
            "At the threshold in use",
            ["measure", "samples at or above it", "samples within episodes", "whole anomalies"],
            rows,
        )
        events = body["event_wise"]
        html += page.paragraph(
            "Whole anomalies: an episode finds an anomaly when they overlap or when it begins at "
            f"most {events['grace_samples']:,} steps (one window) after its end; each anomaly is "
            f"found once; episodes at most {events['gap_samples']:,} samples apart are one. "
            "Samples are never adjusted: an anomaly that is touched once does not count as found "
            "at all of its samples.",
            "note",
        )
        ranks = body["ranks"]
        html += page.table(
            "For scores, whatever the threshold",
            ["measure", "value", "meaning"],
            [
                ["ROC-AUC", ranks["roc_auc"], "chance that an anomalous sample ranks first"],
                ["average precision", ranks["average_precision"], "area under precision-recall"],
                [
                    "VUS-PR",
                    ranks["vus_pr"],
                    f"the same for ranges, buffers of 0 to {ranks['vus_buffer']} samples",
                ],
                [
                    "best F1",
                    ranks["best_f1"],
                    f"a bound: of samples, with the best level here, {ranks['best_threshold']:.3g}",
                ],
            ],
        )
    else:
        html += page.paragraph(UNLABELLED)
    errors = body["errors"]
    html += page.table(
        "Observed minus expected, in the input's units",
        ["feature", "mean squared error", "mean absolute error"],
        [
            *([name, one["mse"], one["mae"]] for name, one in errors["features"].items()),
            *([["all", errors["mse"], errors["mae"]]] if len(errors["features"]) != 1 else []),
        ],
    )
    if min(scales, default=1) > 1:
        html += page.paragraph(
            f"At the finest scale the model expects means of {min(scales)} samples; errors are "
            "those of the newest sample against that mean.",
            "note",
        )
    return page.Section("metrics", "Metrics", html)


def confusion(body: dict[str, Any]) -> page.Section:
    """Counts of samples and scikit-learn's report by class."""
    if "confusion" not in body:
        return page.Section("confusion", "Confusion matrix", page.paragraph(UNLABELLED))
    counts = body["confusion"]
    html = page.table(
        "Samples by truth and verdict (level at or above the threshold)",
        ["truth", "said normal", "said anomaly"],
        [
            ["normal", counts["true_negative"], counts["false_positive"]],
            ["anomaly", counts["false_negative"], counts["true_positive"]],
        ],
    )
    report = body["classification_report"]
    html += page.table(
        "Classification report",
        ["class", "precision", "recall", "F1", "samples"],
        [
            [
                name,
                *(report[name][key] for key in ("precision", "recall", "f1-score")),
                int(report[name]["support"]),
            ]
            for name in (*metrics.CLASSES, "macro avg", "weighted avg")
        ],
    )
    return page.Section("confusion", "Confusion matrix", html)


def curves(scores: Scored, body: dict[str, Any]) -> page.Section:
    """ROC and PR over samples, with the place of the threshold in use."""
    lines = {"recall": []} if not scores.labelled else _curves(scores)
    if not lines["recall"]:
        text = UNLABELLED
        if scores.labelled:
            text = "Only one class is among the samples that count, so there is no curve to draw."
        return page.Section("curves", "ROC and precision-recall", page.paragraph(text))
    points = body["points"]
    share = body["anomalous_samples"] / body["counted"]
    precision = points["precision"]
    roc = pictures.curve(
        lines["false_positive_rate"],
        lines["true_positive_rate"],
        ("false positive rate", "true positive rate"),
        (1 - points["specificity"], points["recall"]),
        ([0, 1], [0, 1]),
    )
    pr = pictures.curve(
        lines["recall"],
        lines["precision"],
        ("recall", "precision"),
        (points["recall"], precision),
        ([0, 1], [share, share]),
    )
    ranks = body["ranks"]
    auc, average = f"{ranks['roc_auc']:.3f}", f"{ranks['average_precision']:.3f}"
    html = '<div class="pair">'
    html += page.figure(roc, f"ROC curve, area {auc}.", f"ROC, area {auc}")
    html += page.figure(
        pr,
        f"Precision-recall curve, average precision {average}.",
        f"Precision and recall, average precision {average}",
    )
    return page.Section("curves", "ROC and precision-recall", html + "</div>\n")


def _curves(scores: Scored) -> dict[str, list[float]]:
    return metrics.curves(scores.label[scores.counts], scores.level[scores.counts])


def distributions(scores: Scored, body: dict[str, Any]) -> page.Section:
    """Level over threshold and error, by class."""
    counts = scores.counts
    ratio = scores.level[counts] / scores.threshold[counts]
    truth = scores.label[counts]
    parts = (
        {"normal": ratio[~truth], "anomaly": ratio[truth]}
        if scores.labelled
        else {"all samples": ratio}
    )
    html = page.figure(
        pictures.classes(parts, "level / threshold of the series", 1.0),
        "Distribution of level over threshold: " + ", ".join(parts) + ".",
        "Each class adds up to 1; an alarm needs 1 or more.",
    )
    html += page.table(
        "Share of samples by level / threshold",
        ["level / threshold", *_groups(body["level_distribution"])],
        _bands(body["level_distribution"]),
    )
    html += page.table(
        "Error: |observed - expected| in standard deviations, mean over the features",
        ["statistic", *_groups(body["error_distribution"])],
        _statistics(body["error_distribution"]),
    )
    return page.Section("errors", "Error distributions", html)


def _groups(parts: dict[str, Any]) -> list[str]:
    return [f"{name} ({part['count']:,})" for name, part in parts.items()]


def _bands(parts: dict[str, Any]) -> list[list[Any]]:
    bands = parts["all"]["bands"]
    rows = []
    for place, band in enumerate(bands):
        low, high = band["from"], band["to"]
        name = f"{low:g} and more" if high is None else f"{low or 0:g} to {high:g}"
        cells = [
            part["bands"][place]["share"] if part["bands"] else None for part in parts.values()
        ]
        rows.append([name, *cells])
    return rows


def _statistics(parts: dict[str, Any]) -> list[list[Any]]:
    rows = [
        [name, *(part.get(name) for part in parts.values())]
        for name in ("mean", "std", "min", "max")
    ]
    quantiles = parts["all"]["quantiles"]
    rows += [
        [f"{100 * float(q):g}% lie below", *(part["quantiles"].get(q) for part in parts.values())]
        for q in quantiles
    ]
    return rows


def magnitudes(body: dict[str, Any]) -> page.Section:
    """Recall by size, and how long alarms took."""
    if "detection_delay" not in body:
        return page.Section("delay", "Delay and magnitude", page.paragraph(UNLABELLED))
    delay = body["detection_delay"]
    html = page.table(
        "From the start of a found anomaly to its episode",
        ["unit", "found", "median", "mean", "90%", "longest"],
        [
            [unit, *(one[key] for key in ("count", "median", "mean", "p90", "max"))]
            for unit, one in (("seconds", delay["seconds"]), ("samples", delay["samples"]))
        ],
    )
    rows = body["recall_by_magnitude"]
    if not rows:
        text = "The labels say nothing of how large the anomalies are (their key is magnitude)."
        return page.Section("delay", "Delay and magnitude", html + page.paragraph(text, "note"))
    html += page.table(
        "Recall by magnitude of the anomaly",
        ["magnitude", "anomalies", "found", "recall", "95% interval"],
        [
            [
                _between(row["from"], row["to"]),
                row["count"],
                row["found"],
                row["recall"],
                "{:.2f} to {:.2f}".format(*row["interval"]),
            ]
            for row in rows
        ],
    )
    return page.Section("delay", "Delay and magnitude", html)


def _between(low: float | None, high: float | None) -> str:
    if low is None:
        return f"below {high:.3g}"
    return f"{low:.3g} and more" if high is None else f"{low:.3g} to {high:.3g}"
