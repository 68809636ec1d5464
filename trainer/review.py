"""A table for people who go through verdicts sample by sample: CSV, one row a sample."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.scored import Scored


def write_review(path: Path, scores: Scored) -> None:
    """All samples, with what was observed, expected, said and known; empty where there is none."""
    about = scores.about
    wide = np.stack((scores.observed, scores.expected), axis=2).reshape(len(scores.code), -1)
    columns = [f"{kind}.{name}" for name in about.features for kind in ("observed", "expected")]
    head = ["series", "time", "timestamp", *columns, "level", "threshold", "score", "above"]
    tail = ["in_episode", "label", "verdict"]
    above = scores.above
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow([*head, *tail])
        for row, values in enumerate(wide):
            time, alarm, known = int(scores.timestamp[row]), above[row], scores.label[row]
            verdict = ("true" if alarm == known else "false") + (
                "_positive" if alarm else "_negative"
            )
            table.writerow(
                [
                    about.series[scores.code[row]],
                    datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds"),
                    time,
                    *map(_number, values),
                    _number(scores.level[row]),
                    _number(scores.threshold[row]),
                    _number(scores.score[row]),
                    int(alarm),
                    int(scores.anomalous[row]),
                    int(known) if scores.labelled else "",
                    verdict if scores.labelled and scores.counts[row] else "",
                ]
            )


def _number(value: float) -> str:
    return f"{value:.7g}" if np.isfinite(value) else ""
