"""UCR Anomaly Archive: one anomaly a file; is the largest score near it?

Wu & Keogh, "Current Time Series Anomaly Detection Benchmarks are Flawed and are Creating the
Illusion of Progress", TKDE 2021. The name of a file tells where training ends and the anomaly lies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trainer.benchmarks.cases import USUAL, Case, Judged, OperatingPoint
from trainer.benchmarks.folders import own_folder, some
from trainer.data import DataError
from trainer.metrics import NAN, wilson
from trainer.reading.marks import UCR

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.benchmarks.cases import Answer
    from trainer.config import Split

SLACK = 100
"""Points around the anomaly within which the largest score still counts as found."""
INTERVAL = 1000
"""ms between points: the files have no times, and nothing that is scored depends on them."""


class Ucr:
    name: ClassVar[str] = "ucr"
    title: ClassVar[str] = "UCR Anomaly Archive"
    origin: ClassVar[str] = (
        "needs ID_UCR_Anomaly_NAME_TRAINEND_START_END.txt, from UCR_TimeSeriesAnomalyDatasets2021 "
        "at https://www.cs.ucr.edu/~eamonn/time_series_data_2018/"
    )
    protocol: ClassVar[str] = (
        "Trained on the part that the file's name gives. accuracy: share of files whose largest "
        f"fused score behind it lies in [start - {SLACK}, end + {SLACK}]."
    )
    headline: ClassVar[str] = "accuracy"
    baselines: ClassVar[tuple[str, ...]] = (
        "mahalanobis", "knn", "knn_centred_smoothed", "random", "difference", "moving_average",
    )  # fmt: skip
    operating: ClassVar[OperatingPoint] = USUAL
    split: ClassVar[Split | None] = None

    def find(self, data: Path) -> list[Path]:
        files = own_folder(data, ["ucr"]).rglob("*_UCR_Anomaly_*.txt")
        return some((one for one in files if UCR.search(one.stem)), data, self.title, self.origin)

    def read(self, path: Path) -> Case:
        named = UCR.search(path.stem)
        assert named is not None
        train, first, last = map(int, named.groups())
        try:
            values = np.array(path.read_text("ascii").split(), np.float64)
        except ValueError as error:
            raise DataError(f"{path}: {error}; needs numbers alone") from error
        if not 0 < train <= first <= last <= len(values):
            raise DataError(f"{path}: the name does not fit its {len(values)} points")
        times = INTERVAL * np.arange(len(values), dtype=np.int64)
        anomaly = (first, min(last, len(values) - 1))
        return Case(path.stem, ["value"], times, values[:, None], train, [anomaly])

    def judge(self, case: Case | None, answer: Answer | None) -> Judged:
        if case is None or answer is None:
            return Judged({"hit": False})
        ((first, last),) = case.truth
        peak = int(np.argmax(answer.score))
        hit = first - SLACK <= peak <= last + SLACK
        return Judged({"hit": hit, "peak": case.train + peak, "anomaly": list(case.anomalies[0])})

    def total(self, judged: Sequence[Judged]) -> dict[str, float]:
        return {"accuracy": _hits(judged) / len(judged) if judged else NAN}

    def intervals(self, judged: Sequence[Judged]) -> dict[str, tuple[float, float]]:
        return {"accuracy": wilson(_hits(judged), len(judged))}


def _hits(judged: Sequence[Judged]) -> int:
    return sum(one.body["hit"] for one in judged)
