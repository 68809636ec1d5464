"""Web and service KPIs with times: AIOps Challenge 2018 and WSD, one value a minute or five.

Li et al., "Constructing Large-Scale Real-World Benchmark Datasets for AIOps", 2022; Zhang et al.,
"Efficient KPI Anomaly Detection Through Transfer Learning for Large-Scale Web Services", 2022. The
labels of the training half are not used: a detector has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from stream_detector.core.policy import DAY, Policy
from trainer.benchmarks import ranges
from trainer.benchmarks.cases import Case, OperatingPoint
from trainer.benchmarks.folders import arrays, columns, own_folder, some
from trainer.config.threshold import ThresholdChoice
from trainer.data import DataError
from trainer.metrics.events import stretches

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


PARTS = ("train", "test", "test_label", "train_timestamp", "test_timestamp")
HOLD = ranges.GAP
"""Scores of which the largest is judged: as long as two alarms are one. ABLATION.md has others."""
QUANTILE, TIMES = 0.93, 12.0
"""A low quantile and a high factor: training halves hold anomalies that nobody has labelled."""
GROUPS = {"aiops_kpi": "aiops", "aiops": "aiops", "wsd": "wsd"}
"""Folders, in lower case, and what their results are called."""


class Kpi(ranges.RangeSuite):
    name: ClassVar[str] = "kpi"
    title: ClassVar[str] = "AIOps KPI and WSD"
    origin: ClassVar[str] = (
        "needs folders aiops_kpi (or AIOPS) and wsd, one of which may be missing, with NAME.npz or "
        "NAME/*.npy: arrays train, test, test_label, train_timestamp, test_timestamp (s), as in "
        "UTS/ of https://github.com/CSTCloudOps/datasets"
    )
    protocol: ClassVar[str] = (
        f"Trained on each KPI's first half, without its labels. {ranges.PROTOCOL} Operating "
        f"point: threshold {TIMES:g} times the {QUANTILE:.0%} quantile of the held-out scores; an "
        f"episode ends after {ranges.GAP} samples below it. An anomaly here lasts while its cause "
        "does, a score of the newest sample a moment: vus_pr and auc_pr, of every detector alike, "
        f"are of the largest of its last {HOLD} scores; vus_pr_unheld of each as it is."
    )
    baselines: ClassVar[tuple[str, ...]] = (
        "mahalanobis", "knn", "random", "difference", "moving_average",
    )  # fmt: skip
    hold: ClassVar[int] = HOLD
    operating: ClassVar[OperatingPoint] = OperatingPoint(
        ThresholdChoice(quantile=QUANTILE, times=TIMES),
        Policy(quiet_period=ranges.GAP, regime_change_after=ranges.REGIME * DAY),
    )

    def find(self, data: Path) -> list[Path]:
        return some(_curves(own_folder(data, ["kpi"])), data, self.title, self.origin)

    def read(self, path: Path) -> Case:
        parts = arrays(path, PARTS)
        values = columns(np.concatenate([parts["train"], parts["test"]]))
        seconds = np.concatenate([parts["train_timestamp"], parts["test_timestamp"]])
        label = np.concatenate([np.zeros(len(parts["train"])), parts["test_label"]]) > 0
        if not len(values) == len(seconds) == len(label):
            raise DataError(f"{path}: arrays of different lengths")
        group = GROUPS[path.parent.name.lower()]
        return Case(
            f"{group}/{path.stem}", ["value"], (seconds * 1000).astype(np.int64), values,
            len(parts["train"]), stretches(label), group,
        )  # fmt: skip


def _curves(folder: Path) -> Iterator[Path]:
    places = [folder, *(one for one in folder.iterdir() if one.is_dir())]
    for place in places:
        if place.name.lower() in GROUPS:
            yield from place.glob("*.npz")
            yield from (one.parent for one in place.glob("*/test_label.npy"))
