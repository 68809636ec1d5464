"""A noisy sine with ten spikes of random size at random places; the newest sample is judged.

Stands for a published LSTM with attention that was chosen on its own test set and judged whole
windows. Here the samples from 810 on are the test, whatever lies in the training part stays in it,
and 20 further draws of the same data are pooled beside the first.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainer.data import Dataset, SeriesData
from trainer.metrics import NAN
from trainer.reading.marks import Mark, Truth
from trainer.recipes.base import Kit, Measures, Outcome, Recipe, seeded, with_pca

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.config import TrainerConfig
    from trainer.scored import Scored

SAMPLES, TEST = 1000, 810
FIRST = 42
"""Seed of the published project's data."""
FURTHER = 20
"""Further draws, seeds 0 to 19."""
SIZES = (0.0, 0.5, 1.0, 2.0, np.inf)
"""Edges of the sizes of spikes by which recall is told; the noise has a deviation of 0.1."""


class Drawn(NamedTuple):
    series: SeriesData
    spike: NDArray[np.float64]  # [1000] what was added; 0 where nothing was


def drawn(seed: int) -> Drawn:
    """sin(0.02 t) + 0.1 N(0, 1), and 5 N(0, 1) at ten places; numpy's legacy generator."""
    rng = np.random.RandomState(seed)
    time = np.arange(SAMPLES)
    values = np.sin(0.02 * time) + 0.1 * rng.randn(SAMPLES)
    places = rng.randint(0, SAMPLES, 10)
    spike = np.zeros(SAMPLES)
    for place, size in zip(places, 5 * rng.randn(10), strict=True):
        spike[place] += size
    timestamp = time.astype(np.int64) * 1000
    return Drawn(SeriesData(f"sine-{seed}", timestamp, (values + spike)[:, None]), spike)


class Judged(NamedTuple):
    """The test part of all draws, pooled."""

    verdict: NDArray[np.bool_]
    spike: NDArray[np.float64]
    error: NDArray[np.float64]  # observed minus expected
    score: NDArray[np.float64]


def measure(kit: Kit, config: TrainerConfig, seed: int, seeds: tuple[int, ...]) -> Outcome:
    config = seeded(config, seed)
    draws = [drawn(one) for one in seeds]
    ours = [_judged(kit, config, one) for one in draws]
    pca = [_judged(kit, with_pca(config), one)[0] for one in draws]
    pooled = _pooled([one for one, _ in ours])
    return Outcome(
        _measures(pooled, pooled.verdict),
        _measures(_pooled(pca), _pooled(pca).verdict),
        _measures(pooled, _windows_rule(ours)),
        ours[0][1],
    )


def _judged(kit: Kit, config: TrainerConfig, one: Drawn) -> tuple[Judged, Scored]:
    series = one.series
    learn = SeriesData(series.name, series.timestamp[:TEST], series.values[:TEST])
    model = kit.model(Dataset(["value"], [learn]), config)
    at = np.flatnonzero(one.spike)
    marks = [Mark(int(series.timestamp[i]), int(series.timestamp[i]), one.spike[i]) for i in at]
    truth = Truth(
        "where the generator put spikes",
        {series.name: marks},
        {series.name: int(series.timestamp[TEST])},
    )
    scored = kit.scored(model, Dataset(["value"], [series]), truth)
    test = slice(TEST, SAMPLES)
    error = scored.observed[test, 0] - scored.expected[test, 0]
    score = scored.score[test].astype(np.float64)
    return Judged(scored.above[test], one.spike[test], error, score), scored


def _pooled(parts: list[Judged]) -> Judged:
    return Judged(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _windows_rule(ours: list[tuple[Judged, Scored]]) -> NDArray[np.bool_]:
    """A usual threshold of such projects, on our scores: the 95% quantile of those of training."""
    verdicts = []
    for part, scored in ours:
        learnt = scored.score[:TEST]
        verdicts.append(part.score > np.nanquantile(learnt, 0.95))
    return np.concatenate(verdicts)


def _measures(found: Judged, verdict: NDArray[np.bool_]) -> Measures:
    spike = found.spike != 0
    hits = verdict & spike
    measures = {
        "precision": _share(hits.sum(), verdict.sum()),
        "recall": _share(hits.sum(), spike.sum()),
        "spikes": float(spike.sum()),
        "false_alarms": float((verdict & ~spike).sum()),
        "mse": float(np.mean(found.error[~spike] ** 2)),
    }
    size = np.abs(found.spike)
    for low, high in pairwise(SIZES):
        inside = spike & (size >= low) & (size < high)
        name = f"recall_{low:g}_to_{high:g}" if np.isfinite(high) else f"recall_from_{low:g}"
        measures[name] = _share(hits[inside].sum(), inside.sum())
    return measures


def _share(part: np.integer, whole: np.integer) -> float:
    return float(part / whole) if whole else NAN


RECIPE = Recipe(
    "synthetic_lstm_attention",
    "spikes in a noisy sine",
    (),
    {
        "first": lambda kit, config, seed: measure(kit, config, seed, (FIRST,)),
        "pooled": lambda kit, config, seed: measure(kit, config, seed, (FIRST, *range(FURTHER))),
    },
    {"precision": 0.8167, "recall": 0.4455, "mse": 0.5902},
)
