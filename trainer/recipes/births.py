"""A year of daily births: abnormal days in a row, and single ones among normal days.

Stands for a published stacked LSTM autoencoder of the series daily-total-female-births: two layers
each way, an embedding of 64, 75 epochs; abnormal days randint(50, 60) * sin(k); a threshold read
off the errors of the training days, 95% of which lie below it. Every day is judged by itself, when
it is the newest: a third of the abnormal ones are as usual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.bundle import WINDOW
from stream_detector.core.policy import DAY, Policy
from trainer.data import Dataset, SeriesData, load
from trainer.reading.marks import Mark, Truth
from trainer.recipes import births_anomalies as generators
from trainer.recipes import correlated_channels
from trainer.recipes.base import File, Kit, Outcome, Recipe, seeded, with_pca
from trainer.recipes.labelled import Stream, compare

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from trainer.config import TrainerConfig

NAME = "births_stacked_autoencoder"
FILE = File(
    "seeds/births/daily-total-female-births.csv",
    "it is the daily number of female births in California in 1959 (columns Date, Births)",
)
LEARNT = 200
"""Days to fit and calibrate on; the later ones are the test."""
LEAD = 2 * WINDOW
"""Days of normal life that a detector has seen before the first that is judged."""
ABNORMAL = 200
"""Days of an abnormal sequence."""
SEQUENCES, COPIES, ALTERED = 10, 100, 20
"""Sequences of each generator; copies of the year with single abnormal days, and altered ones."""
APART = 10, 20
"""Days from one single abnormal day to the next."""
POLICY = Policy(regime_change_after=3650 * DAY)
"""However long an abnormal stretch lasts, it does not become the new normal."""


def stream(
    one: SeriesData, values: NDArray[np.float64], judged: dict[str, NDArray[np.int64]]
) -> Stream:
    """Days of these values [n] from the year's first on, without those before the lead."""
    days = np.arange(LEARNT - LEAD, len(values))
    series = SeriesData(one.name, one.timestamp[0] + DAY * days, values[days, None])
    return Stream(series, {kind: rows - days[0] for kind, rows in judged.items()})


def sequences(one: SeriesData, seed: int) -> list[Stream]:
    """The year, and after it abnormal days; or the year whose test days are altered."""
    year, n = one.values[:, 0], len(one)
    test = np.arange(LEARNT, n)
    made = []
    for number in range(SEQUENCES):
        rng = np.random.default_rng((seed, number))
        bad = generators.abnormal(rng, np.arange(ABNORMAL))
        judged = {"normal": test, "abnormal": n + np.arange(ABNORMAL)}
        made.append(stream(one, np.concatenate((year, bad)), judged))
        for kind, alter in generators.HARDER.items():
            values = np.concatenate((year[:LEARNT], alter(rng, year[LEARNT:])))
            made.append(stream(one, values, {kind: test}))
    return made


def singles(one: SeriesData, seed: int) -> list[Stream]:
    """Copies of the year with single test days that are abnormal, or altered."""
    year, n = one.values[:, 0], len(one)
    made = []
    for number in range(COPIES):
        rng = np.random.default_rng((seed, number))
        at = LEARNT + np.cumsum(rng.integers(*APART, n // APART[0], endpoint=True))
        at = at[at < n]
        others = np.setdiff1d(np.arange(LEARNT, n), at)
        values = year.copy()
        values[at] = generators.abnormal(rng, rng.integers(0, ABNORMAL, len(at)))
        made.append(stream(one, values, {"normal": others, "abnormal": at}))
        for kind, alter in generators.HARDER.items() if number < ALTERED else ():
            values = year.copy()
            values[at] = [alter(rng, year[day : day + 1]).item() for day in at]
            made.append(stream(one, values, {kind: at}))
    return made


def measure(
    kit: Kit,
    config: TrainerConfig,
    seed: int,
    streams: Callable[[SeriesData, int], list[Stream]],
) -> Outcome:
    data = load(kit.path(FILE), config.data)
    one = data.series[0]
    learn = SeriesData(one.name, one.timestamp[:LEARNT], one.values[:LEARNT])
    made = streams(one, seed)
    config = seeded(config, seed)
    first = made[0]
    bad = first.series.timestamp[first.judged["abnormal"]].tolist()
    truth = Truth(
        "days that the generator made",
        {one.name: [Mark(at, at) for at in bad]},
        {one.name: int(one.timestamp[LEARNT])},
    )
    return compare(
        kit, Dataset(data.features, [learn]), made, config, with_pca(config), POLICY,
        (Dataset(data.features, [first.series]), truth),
    )  # fmt: skip


RECIPE = Recipe(
    NAME,
    "abnormal days among daily births, and rows of correlated channels",
    (FILE,),
    {
        "sequence": lambda kit, config, seed: measure(kit, config, seed, sequences),
        "isolated": lambda kit, config, seed: measure(kit, config, seed, singles),
        "eleven": correlated_channels.measure,
    },
    {
        # The published share of right training days, and of right abnormal days.
        "sequence.normal_accuracy": 0.95, "sequence.abnormal_accuracy": 0.68,
        "isolated.normal_accuracy": 0.95, "isolated.abnormal_accuracy": 0.68,
        "eleven.normal_accuracy": 0.887, "eleven.abnormal_accuracy": 0.907,
    },
    {"eleven": f"{NAME}_eleven"},
)  # fmt: skip
