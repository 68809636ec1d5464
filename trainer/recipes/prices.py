"""Daily closing prices: shocks that revert within a day, and steps that last.

Stands for a published LSTM autoencoder of standardised prices with a fixed threshold of 0.65 on the
mean absolute error of 30 days. The prices have no labels: anomalies are put into their test part,
one at a time, and false alarms are counted on years of prices made of the training part's returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.core.policy import Policy
from trainer.data import Dataset, SeriesData, load
from trainer.metrics.events import merge, stretches
from trainer.reading.marks import Mark, Truth
from trainer.recipes.base import File, Kit, Measures, Outcome, Recipe, changed, seeded, with_pca

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stream_detector.ports import Model
    from trainer.config import TrainerConfig
    from trainer.engine_run import Seen

FILE = File(
    "seeds/klse/KLSE.csv",
    "it is the daily history of the KLSE index (columns Date, Open, High, Low, Close, ...), as "
    "finance portals export it",
)
LEARNT = 0.75
"""Share of the days to learn from."""
SHOCK, STEP = 4.0, 6.0
"""Sizes of the anomalies, in standard deviations of the training part's daily log returns."""
EACH = 240
"""Anomalies of each kind."""
YEARS, YEAR, BLOCK = 60, 250, 10
"""Years of bootstrapped prices, trading days of one, and days of one block (Kunsch, 1989)."""
LEAD = 150
"""Days of history before an anomaly or a bootstrapped year."""
DELAY = 1
"""Days after which an alarm still answers an anomaly; alarms so close are one."""
QUIET = 5
"""Quiet days that end an episode in the report: a week."""
RULE, RULE_DAYS = 0.65, 30
"""The published threshold, and the days of its mean."""


class Case(NamedTuple):
    """Prices with one anomaly."""

    days: SeriesData
    at: int  # row of its first day


def measure(kit: Kit, config: TrainerConfig, seed: int) -> Outcome:
    table = load(kit.path(FILE), config.data)
    one = table.series[0]
    cut = round(LEARNT * len(one))
    learn = Dataset(table.features, [_part(one, 0, cut)])
    returns = np.diff(np.log(one.values[:cut, 0]))
    rng = np.random.default_rng(seed)
    shocks = [_anomaly(one, cut, returns.std(), rng, lasting=False) for _ in range(EACH)]
    steps = [_anomaly(one, cut, returns.std(), rng, lasting=True) for _ in range(EACH)]
    calm = [_bootstrapped(one, cut, returns, rng) for _ in range(YEARS)]

    config = seeded(config, seed)
    ours, pca = kit.model(learn, config), kit.model(learn, with_pca(config))
    as_published = kit.model(learn, published(config))
    spread = float(one.values[:cut, 0].std())
    data, truth = _example(one, cut, returns.std())

    def found(model: Model, verdict: Callable[[Seen], NDArray[np.bool_]]) -> Measures:
        return {
            "recall": _recall(model, shocks, verdict),
            "step_recall": _recall(model, steps, verdict),
            "false_per_year": _false_per_year(model, calm, verdict),
        }

    return Outcome(
        found(ours, lambda seen: seen.above),
        found(pca, lambda seen: seen.above),
        found(as_published, lambda seen: _rule(seen, spread)),
        kit.scored(ours, Dataset(table.features, [data]), truth, Policy(quiet_period=QUIET)),
    )


def _rule(seen: Seen, spread: float) -> NDArray[np.bool_]:
    """The published rule, on the newest day's errors: a mean of 30 days above 0.65."""
    error = np.abs(seen.observed[:, 0] - seen.expected[:, 0]) / spread
    mean = np.convolve(np.nan_to_num(error), np.ones(RULE_DAYS) / RULE_DAYS)[: len(error)]
    return np.asarray(mean > RULE)


def published(config: TrainerConfig) -> TrainerConfig:
    """The published project's model: standardised prices as they are, 10 passes, dropout 0.2."""
    model = changed(config.model, name="lstm_autoencoder", options={"dropout": 0.2})
    return changed(
        config,
        scaling="standard",
        model=model,
        windows=changed(config.windows, transforms=[], local=False),
        fit=changed(config.fit, epochs=10),
        experts=None,
    )


def _recall(model: Model, cases: list[Case], verdict: Callable[[Seen], NDArray[np.bool_]]) -> float:
    """Share of anomalies at which an alarm begins: one that stood before tells nothing."""
    seen = Kit.seen(model, [case.days for case in cases])
    hits = []
    for case, one in zip(cases, seen, strict=True):
        said = verdict(one)[case.at - 1 : case.at + 1 + DELAY]
        hits.append(bool(said[1:].any() and not said[0]))
    return float(np.mean(hits))


def _false_per_year(
    model: Model, calm: list[SeriesData], verdict: Callable[[Seen], NDArray[np.bool_]]
) -> float:
    """Alarms a year; one that lasts counts again every other day."""
    seen = Kit.seen(model, calm)
    found = [span for one in seen for span in merge(stretches(verdict(one)[LEAD:]), DELAY + 1)]
    alarms = sum(1 + (last - first) // (DELAY + 1) for first, last in found)
    return alarms * YEAR / sum(len(one) - LEAD for one in calm)


def _part(one: SeriesData, start: int, stop: int) -> SeriesData:
    return SeriesData(one.name, one.timestamp[start:stop], one.values[start:stop])


def _anomaly(
    one: SeriesData, cut: int, size: float, rng: np.random.Generator, *, lasting: bool
) -> Case:
    """A shock or a step at a random day of the test part, up or down; days around it."""
    at = int(rng.integers(cut, len(one) - 1 - DELAY))
    values = one.values.copy()
    sign = rng.choice((-1.0, 1.0))
    if lasting:
        values[at:] *= np.exp(sign * STEP * size)
    else:
        values[at] *= np.exp(sign * SHOCK * size)
    start = max(at - LEAD, 0)
    days = SeriesData(one.name, one.timestamp[start:], values[start:])
    return Case(_part(days, 0, at - start + 2 + DELAY), at - start)


def _bootstrapped(
    one: SeriesData, cut: int, returns: NDArray[np.float64], rng: np.random.Generator
) -> SeriesData:
    """A year of days whose returns are blocks of the training part's, with days to warm up."""
    days = LEAD + YEAR
    starts = rng.integers(0, len(returns) - BLOCK + 1, -(-days // BLOCK))
    drawn = np.concatenate([returns[start : start + BLOCK] for start in starts])[:days]
    prices = one.values[cut - 1, 0] * np.exp(np.cumsum(drawn))
    timestamp = one.timestamp[0] + round(one.interval) * np.arange(days)
    return SeriesData(one.name, timestamp, prices[:, None])


def _example(one: SeriesData, cut: int, size: float) -> tuple[SeriesData, Truth]:
    """The whole history with a shock and a step in its test part, for people to look at."""
    shock, step = cut + 12, cut + 38
    values = one.values.copy()
    values[shock] *= np.exp(SHOCK * size)
    values[step:] *= np.exp(-STEP * size)
    marks = [
        Mark(int(one.timestamp[shock]), int(one.timestamp[shock + 1]), SHOCK),
        Mark(int(one.timestamp[step]), int(one.timestamp[step + 1]), STEP),
    ]
    begins = {one.name: int(one.timestamp[cut])}
    told = f"put in: a shock of {SHOCK:g} and a step of {STEP:g} standard deviations"
    return SeriesData(one.name, one.timestamp, values), Truth(told, {one.name: marks}, begins)


RECIPE = Recipe(
    "prices_lstm_autoencoder",
    "shocks and steps of daily closing prices",
    (FILE,),
    {"injected": measure},
)
