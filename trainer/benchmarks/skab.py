"""SKAB, Skoltech Anomaly Benchmark: eight sensors of a water loop; each row is right or wrong.

Katser & Kozitsin, "Skoltech Anomaly Benchmark (SKAB)", 2020. Rows are judged one by one and pooled
over the files, as in SKAB's leaderboard; the first 400 rows of each file are trained on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from stream_detector.core.policy import Policy
from stream_detector.formats.tables import TableError, read_tables
from trainer.benchmarks.cases import Case, Judged, OperatingPoint
from trainer.benchmarks.folders import own_folder, some
from trainer.config import Split
from trainer.config.threshold import ThresholdChoice
from trainer.data import DataError
from trainer.metrics import NAN, confusion, f_beta
from trainer.metrics.events import stretches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from trainer.benchmarks.cases import Answer

TRAIN = 400
TIMES, CLOSE_BELOW = 1.25, 0.15
LABELS = ("anomaly", "changepoint")
COUNTS = ("true_positive", "false_positive", "false_negative", "true_negative")
RESAMPLES = 2000
"""Draws of files with replacement, for the interval of F1."""


class Skab:
    name: ClassVar[str] = "skab"
    title: ClassVar[str] = "SKAB"
    origin: ClassVar[str] = (
        "needs the csv files of valve1/, valve2/ and other/ (separated by semicolons, with a "
        "column `anomaly`), from data/ of https://github.com/waico/SKAB"
    )
    protocol: ClassVar[str] = (
        f"Trained on the first {TRAIN} rows of each file; all later rows pooled. f1, far (false "
        "alarm rate), mar (missed alarm rate) of rows whose level reaches the product's own "
        "threshold; episode_*: of rows within an open episode. far and mar are shares, not "
        f"percent. Operating point: threshold {TIMES} times the 99% quantile of the held-out "
        f"scores; an episode closes below {CLOSE_BELOW:.0%} of its own peak, without a quiet "
        "period."
    )
    headline: ClassVar[str] = "episode_f1"
    baselines: ClassVar[tuple[str, ...]] = (
        "mahalanobis", "knn", "random", "difference", "moving_average",
    )  # fmt: skip
    # Rows are counted, so an episode ends with its anomaly and no quiet period is waited for.
    operating: ClassVar[OperatingPoint] = OperatingPoint(
        ThresholdChoice(quantile=0.99, times=TIMES),
        Policy(close_below=CLOSE_BELOW, quiet_period=1, flatline_after=None),
    )
    # 400 rows are too few for parts with windows of their own.
    split: ClassVar[Split | None] = Split(train=0.75, validation=0.05, overlap=True)

    def find(self, data: Path) -> list[Path]:
        files = own_folder(data, ["skab"]).rglob("*.csv")
        labelled = (one for one in files if "anomaly" in _head(one))
        return some(labelled, data, self.title, self.origin)

    def read(self, path: Path) -> Case:
        features = [name for name in _head(path)[1:] if name not in LABELS]
        try:
            tables = list(read_tables(path, features=[*features, "anomaly"]))
        except TableError as error:
            raise DataError(str(error)) from error
        values = np.concatenate([table.values for table in tables])
        times = np.concatenate([table.timestamp for table in tables])
        if len(values) <= TRAIN:
            raise DataError(f"{path}: {len(values)} rows; needs more than the {TRAIN} to train on")
        name = f"{path.parent.name}/{path.stem}"
        anomalies = stretches(values[:, -1] > 0)
        return Case(name, features, times, values[:, :-1], TRAIN, anomalies)

    def judge(self, case: Case | None, answer: Answer | None) -> Judged:
        if case is None:
            return Judged(
                {**_counts(_none(0), _none(0)), **_counts(_none(0), _none(0), "episode_")}
            )
        above = _none(case.tested) if answer is None else answer.above
        inside = _none(case.tested) if answer is None else answer.inside
        return Judged(_counts(case.label, above) | _counts(case.label, inside, "episode_"))

    def total(self, judged: Sequence[Judged]) -> dict[str, float]:
        return _rates(_sums(judged), "") | _rates(_sums(judged, "episode_"), "episode_")

    def intervals(self, judged: Sequence[Judged]) -> dict[str, tuple[float, float]]:
        """Percentiles over draws of files: rows of one file are too alike to count as a sample."""
        found = {}
        for kind in ("", "episode_"):
            table = np.array([[one.body[kind + name] for name in COUNTS] for one in judged])
            draws = np.random.default_rng(0).integers(0, len(table), (RESAMPLES, len(table)))
            f1 = [f_beta(tp, fp, fn) for tp, fp, fn, _ in table[draws].sum(axis=1).tolist()]
            low, high = np.nanpercentile(f1, (2.5, 97.5)) if np.isfinite(f1).any() else (NAN, NAN)
            found[f"{kind}f1"] = (float(low), float(high))
        return found


def _head(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig") as file:
        return file.readline().strip().split(";")


def _none(rows: int) -> NDArray[np.bool_]:
    return np.zeros(rows, np.bool_)


def _counts(truth: NDArray[np.bool_], said: NDArray[np.bool_], kind: str = "") -> dict[str, Any]:
    counts = confusion(truth, said) if len(truth) else dict.fromkeys(COUNTS, 0)
    return {kind + name: counts[name] for name in COUNTS}


def _sums(judged: Sequence[Judged], kind: str = "") -> list[int]:
    return [sum(one.body[kind + name] for one in judged) for name in COUNTS]


def _rates(counts: list[int], kind: str) -> dict[str, float]:
    tp, fp, fn, tn = counts
    return {
        f"{kind}f1": f_beta(tp, fp, fn),
        f"{kind}far": fp / (fp + tn) if fp + tn else NAN,
        f"{kind}mar": fn / (fn + tp) if fn + tp else NAN,
    }
