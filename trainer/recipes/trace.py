"""Traces of events: one of 16 variables and the time since the thread's event before.

Stands for a published stacked LSTM (128, 64) that forecasts the next variable and time as numbers
between 0 and 1, flags errors above a percentile of those of training and merges what it flagged.
Its traces are not public and their labels are flawed, so traces are simulated here. Seed s of a
measurement is the seed of the models and of the trace FIRST + s, machines and all; settings were
chosen on traces of other seeds, where half of the published units did as well.

Threads run at the same time and their records interleave. As in most traces a record tells its
thread, and the thread is its series. Four threads in one series that nothing tells apart are beyond
this recipe: it finds nothing there, and no threshold on its score gives an F1 above 0.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.config import ExpertRule, ModelChoice
from trainer.data import Dataset, SeriesData
from trainer.metrics.events import Matches, delay_summary, match, stretches
from trainer.reading.marks import Mark, Truth
from trainer.recipes.base import Kit, Measures, Outcome, Recipe, changed, seeded, with_pca
from trainer.recipes.trace_simulation import KINDS, VARIABLES, Records, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from trainer.config import TrainerConfig
    from trainer.scored import Scored

FIRST = 1000
"""Seed of the first trace that is measured."""
THREADS = 4
CLEAN, FAULTY = 1_900, 8_000
"""Records of a thread to learn from, and to test on."""
GAP = 20
"""Records between two alarms that are one."""
FEATURES = [*(f"v{number:02d}" for number in range(VARIABLES)), "gap"]
PERCENTILES = (99.0, 50.0)
"""Of the training errors, as the published rule has it; the first is the one that is compared."""


def measure(kit: Kit, config: TrainerConfig, seed: int, threads: int) -> Outcome:
    traces = simulate(FIRST + seed, threads, CLEAN, FAULTY)
    config = seeded(config, seed)
    truth = truth_of(traces)
    learn, data = cut(FEATURES, traces, columns)

    ours = kit.scored(kit.model(learn, config), data, truth)
    pca = kit.scored(kit.model(learn, with_pca(config)), data, truth)
    learn, data = cut(["variable", "gap"], traces, numbers)
    rule = kit.scored(kit.model(learn, published(config)), data, truth)
    strict, lenient = (measures(traces, above(rule, percent)) for percent in PERCENTILES)
    aside = {f"interval_f1_at_{PERCENTILES[1]:g}": lenient["interval_f1"]}
    return Outcome(
        measures(traces, ours.above), measures(traces, pca.above), {**strict, **aside}, ours
    )


def columns(one: Records) -> NDArray[np.float64]:
    """[n, 17] a column for each variable, and the time."""
    return np.column_stack((one.variable[:, None] == np.arange(VARIABLES), one.gap))


def numbers(one: Records) -> NDArray[np.float64]:
    """[n, 2] as in the published project: the number of the variable, and the time."""
    return np.column_stack((one.variable, one.gap))


def cut(
    features: list[str],
    traces: Sequence[Records],
    values: Callable[[Records], NDArray[np.float64]],
) -> tuple[Dataset, Dataset]:
    """What to learn from, and the whole."""
    whole = [SeriesData(one.thread, one.time, values(one)) for one in traces]
    learn = [SeriesData(one.name, one.timestamp[:CLEAN], one.values[:CLEAN]) for one in whole]
    return Dataset(features, learn), Dataset(features, whole)


def truth_of(traces: Sequence[Records]) -> Truth:
    marks = {
        one.thread: [Mark(int(one.time[f.first]), int(one.time[f.last])) for f in one.faults]
        for one in traces
    }
    begins = {one.thread: int(one.time[CLEAN]) for one in traces}
    return Truth("faults that the generator put in", marks, begins)


def published(config: TrainerConfig) -> TrainerConfig:
    """The published project's model and scaling; the window is the detector's, 60 instead of 30."""
    options = {"layers": [128, 64], "dropout": 0.2}
    return changed(
        config,
        scaling="minmax",
        model=ModelChoice(name="lstm_forecaster", options=options),
        fit=changed(config.fit, epochs=15, windows_per_epoch=1024, learning_rate=0.003),
        experts=[ExpertRule(name="newest")],
        calibration=changed(config.calibration, tail=None, fusion="sum"),
    )


def above(rule: Scored, percent: float) -> NDArray[np.bool_]:
    """[n] errors above this percentile of those of training, over all threads."""
    learnt = np.concatenate([rule.score[rows][:CLEAN] for _, rows in rule.parts()])
    return np.asarray(np.nan_to_num(rule.score) > np.nanpercentile(learnt, percent))


def measures(traces: Sequence[Records], flagged: NDArray[np.bool_]) -> Measures:
    """Flags [n] of all threads, one after the other -> measures of whole faults."""
    total, by_kind = Matches(), {kind: Matches() for kind in KINDS}
    bounds = np.cumsum([len(one.time) for one in traces])[:-1]
    for one, flags in zip(traces, np.split(flagged, bounds), strict=True):
        alarms = stretches(flags & (np.arange(len(flags)) >= CLEAN))
        total.add(match([(f.first, f.last) for f in one.faults], alarms, gap=GAP))
        for kind, part in by_kind.items():
            mine = [(f.first, f.last) for f in one.faults if f.kind == kind]
            part.add(match(mine, alarms, gap=GAP))
    found = total.body()
    return {
        "interval_f1": found["f1"],
        "precision": found["precision"],
        "recall": found["recall"],
        **{f"recall_{kind}": part.body()["recall"] for kind, part in by_kind.items()},
        "detection_delay": delay_summary(total.delays)["mean"],
        "false_alarms": float(found["false"]),
    }


RECIPE = Recipe(
    "trace_stacked_lstm",
    "faults in traces of events",
    (),
    {
        "one_thread": lambda kit, config, seed: measure(kit, config, seed, 1),
        "threads": lambda kit, config, seed: measure(kit, config, seed, THREADS),
    },
    {"interval_f1": 0.63, "precision": 1.0, "recall": 0.46},
)
