"""A year of daily births: abnormal days in a row, and single ones among normal days.

Stands for a published stacked LSTM autoencoder of the series daily-total-female-births: two layers
each way, an embedding of 64, 75 epochs; abnormal days randint(50, 60) * sin(k); a threshold read
off the errors of the training days, of which 95% lie below it. Every day here is judged by itself,
when it is the newest: a third of the single abnormal days look like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.bundle import WINDOW
from stream_detector.core.policy import DAY, Policy
from trainer.data import Dataset, SeriesData, load
from trainer.recipes import births_anomalies as generators
from trainer.recipes.base import File, Kit, Measures, Outcome, Recipe, seeded, with_pca

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from trainer.config import TrainerConfig

FILE = File("seeds/births/daily-total-female-births.csv", "it is the daily series of births, 1959")
LEARNT = 200
"""Days to fit and calibrate on; the later ones are the test."""
ABNORMAL = 200
"""Days of an abnormal sequence."""
LEAD = 2 * WINDOW
"""Days of normal life that a detector sees before those that are judged."""
SEQUENCES, COPIES, ALTERED = 10, 100, 20
"""Sequences of each generator; copies of the year with single days of it, and of altered days."""
APART = 10, 20
"""Days from one single abnormal day to the next."""
USUAL = 0.95
"""Share of the training days that the published threshold leaves normal."""
POLICY = Policy(regime_change_after=3650 * DAY)
"""An abnormal stretch of any length does not become the new normal."""


class Stream:
    """Days as a detector gets them, and which of them are judged."""

    def __init__(
        self,
        like: SeriesData,
        values: NDArray[np.float64],  # [n] from the first day of the year on
        judged: dict[str, NDArray[np.int64]],  # days by the name of the measure
    ) -> None:
        days = np.arange(LEARNT - LEAD, len(values))
        self.series = SeriesData(like.name, like.timestamp[0] + DAY * days, values[days, None])
        self.judged = {name: some - days[0] for name, some in judged.items()}


def sequences(one: SeriesData, seed: int) -> list[Stream]:
    """The year, and after it abnormal days; or the year whose later days are altered."""
    year, n = one.values[:, 0], len(one)
    later = np.arange(LEARNT, n)
    streams = []
    for number in range(SEQUENCES):
        rng = np.random.default_rng((seed, number))
        bad = generators.abnormal(rng, np.arange(ABNORMAL))
        rows = {"normal": later, "abnormal": n + np.arange(ABNORMAL)}
        streams.append(Stream(one, np.concatenate((year, bad)), rows))
        for name, alter in generators.HARDER.items():
            values = np.concatenate((year[:LEARNT], alter(rng, year[LEARNT:])))
            streams.append(Stream(one, values, {name: later}))
    return streams


def singles(one: SeriesData, seed: int) -> list[Stream]:
    """Copies of the year with single days among the later ones that are abnormal or altered."""
    year, n = one.values[:, 0], len(one)
    streams = []
    for number in range(COPIES):
        rng = np.random.default_rng((seed, number))
        steps = rng.integers(*APART, n // APART[0], endpoint=True)
        at = LEARNT + np.cumsum(steps)
        at = at[at < n]
        others = np.setdiff1d(np.arange(LEARNT, n), at)
        values = year.copy()
        values[at] = generators.abnormal(rng, rng.integers(0, ABNORMAL, len(at)))
        streams.append(Stream(one, values, {"normal": others, "abnormal": at}))
        for name, alter in generators.HARDER.items() if number < ALTERED else ():
            values = year.copy()
            values[at] = [alter(rng, year[day : day + 1]).item() for day in at]
            streams.append(Stream(one, values, {name: at}))
    return streams


def measure(
    kit: Kit,
    config: TrainerConfig,
    seed: int,
    streams: Callable[[SeriesData, int], Sequence[Stream]],
) -> Outcome:
    data = load(kit.path(FILE))
    one = data.series[0]
    config = seeded(config, seed)
    learn = SeriesData(one.name, one.timestamp[:LEARNT], one.values[:LEARNT])
    made = streams(one, seed)
    given = Dataset(data.features, [stream.series for stream in made])
    training = Dataset(data.features, [learn])
    model = kit.model(training, config)
    ours = kit.scored(model, given, policy=POLICY)
    pca = kit.scored(kit.model(training, with_pca(config)), given, policy=POLICY)
    usual = np.nanquantile(kit.scored(model, training).score, USUAL)
    return Outcome(
        _measures(made, ours.above),
        _measures(made, pca.above),
        _measures(made, ours.score > usual),
    )


def _measures(streams: Sequence[Stream], verdict: NDArray[np.bool_]) -> Measures:
    """Share of right verdicts by the kind of day; `verdict` of all streams, one after another."""
    found: dict[str, list[NDArray[np.bool_]]] = {}
    start = 0
    for stream in streams:
        for name, rows in stream.judged.items():
            found.setdefault(name, []).append(verdict[start + rows] == (name != "normal"))
        start += len(stream.series)
    return {f"{name}_accuracy": float(np.concatenate(some).mean()) for name, some in found.items()}


RECIPE = Recipe(
    "births_stacked_autoencoder",
    "abnormal days among daily births, and rows of correlated channels",
    (FILE,),
    {
        "sequence": lambda kit, config, seed: measure(kit, config, seed, sequences),
        "isolated": lambda kit, config, seed: measure(kit, config, seed, singles),
    },
    {"normal_accuracy": 0.95, "abnormal_accuracy": 0.68},
)
