"""A heartbeat with one odd beat: windows of 60 samples, each judged at its last sample.

Stands for a published LSTM autoencoder of UCR Anomaly Archive file 001: windows at stride 1 over
the trailing mean of 3 samples, anomalous where any of their samples is; the first 80% of the normal
windows to learn from; a threshold of mean + 2 standard deviations of the errors of the *test*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.bundle import WINDOW
from trainer.config import Split
from trainer.data import Dataset, SeriesData, load
from trainer.metrics import point_metrics, rank_metrics
from trainer.reading.marks import Mark, Truth
from trainer.recipes.base import File, Kit, Measures, Outcome, Recipe, changed, seeded, with_pca

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.config import TrainerConfig
    from trainer.scored import Scored

FILE = File(
    "ucr/001_UCR_Anomaly_DISTORTED1sddb40_35000_52000_52620.txt",
    "it is file 001 of the UCR Time Series Anomaly Archive (Wu & Keogh, 2021)",
)
MEAN = 3
"""Samples of the trailing mean; the first MEAN - 1 rows have none and are dropped."""
FIRST, END = 52_000, 52_620
"""The odd beat, in rows after the trailing mean: [FIRST, END)."""


class Case(NamedTuple):
    """Rows of the series, in samples as they are in the file."""

    learn: Dataset
    split: Split
    judged: NDArray[np.int64]  # [n] newest sample of each test window
    odd: NDArray[np.bool_]  # [n]


def original(one: SeriesData) -> Case:
    """The first 80% of the normal windows to learn from, all others to test."""
    starts = np.arange(len(one) - (MEAN - 1) - (WINDOW - 1))
    odd = (starts + WINDOW > FIRST) & (starts < END)
    normal = np.flatnonzero(~odd)
    learnt = normal[: int(0.8 * len(normal))]
    test = np.setdiff1d(starts, learnt)
    end = int(learnt[-1]) + WINDOW + MEAN - 1
    rows = np.r_[0:FIRST, END + MEAN - 1 : end]  # no window at any scale touches the odd beat
    learn = SeriesData(one.name, one.timestamp[rows], one.values[rows], np.array([FIRST]))
    newest = test + WINDOW - 1 + MEAN - 1
    return Case(Dataset(["value"], [learn]), Split(train=0.8, validation=0.1), newest, odd[test])


def honest(one: SeriesData) -> Case:
    """Fit before sample 31,000, calibrate before 35,000, test on all windows that begin later."""
    calibrate, test = 31_000, 35_000
    learn = SeriesData(one.name, one.timestamp[:test], one.values[:test])
    newest = np.arange(test + WINDOW - 1, len(one))
    start = newest - (MEAN - 1) - (WINDOW - 1)
    share = calibrate / test
    return Case(
        Dataset(["value"], [learn]),
        Split(train=0.9 * share, validation=0.1 * share),
        newest,
        (start + WINDOW > FIRST) & (start < END),
    )


def measure(kit: Kit, config: TrainerConfig, seed: int, *, as_published: bool) -> Outcome:
    data = load(kit.path(FILE))
    one = data.series[0]
    case = original(one) if as_published else honest(one)
    config = changed(seeded(config, seed), split=case.split)
    last = len(one) - 1
    begin, end = FIRST, min(END + MEAN - 2, last)
    truth = Truth(
        "the archive's label of the odd beat",
        {one.name: [Mark(int(one.timestamp[begin]), int(one.timestamp[end]))]},
    )
    ours = kit.scored(kit.model(case.learn, config), data, truth)
    pca = kit.scored(kit.model(case.learn, with_pca(config)), data, truth)
    return Outcome(
        _measures(case, ours, ours.above[case.judged]),
        _measures(case, pca, pca.above[case.judged]),
        _measures(case, ours, _two_sigma(ours.score[case.judged])),
        ours,
    )


def _two_sigma(score: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The published rule: mean + 2 standard deviations of the scores that are to be judged."""
    wide = score.astype(np.float64)
    return np.asarray(wide > wide.mean() + 2 * wide.std())


def _measures(case: Case, scored: Scored, verdict: NDArray[np.bool_]) -> Measures:
    ranks = rank_metrics(case.odd, scored.level[case.judged], buffer=0)
    points = point_metrics(case.odd, verdict)
    kept = ("f1", "precision", "recall", "specificity", "accuracy")
    return {
        **{name: points[name] for name in kept},
        "roc_auc": ranks["roc_auc"],
        "average_precision": ranks["average_precision"],
        "best_f1": ranks["best_f1"],
    }


RECIPE = Recipe(
    "heartbeat_lstm_autoencoder",
    "an odd heartbeat among 380 normal ones",
    (FILE,),
    {
        "original": lambda kit, config, seed: measure(kit, config, seed, as_published=True),
        "honest": lambda kit, config, seed: measure(kit, config, seed, as_published=False),
    },
    {
        "accuracy": 0.9518, "precision": 0.3343, "recall": 0.1723, "specificity": 0.9853,
        "f1": 0.2274, "roc_auc": 0.6728, "average_precision": 0.1755,
    },
)  # fmt: skip
