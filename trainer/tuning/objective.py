"""What `tune` holds a recipe to: one number from the validation part, never from another.

The part that `fit` calibrates with stays unseen: here levels come from the validation part too, so
whoever measures a tuned bundle on later data measures it on data that chose nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from sklearn.metrics import average_precision_score

from stream_detector.bundle import WINDOW
from stream_detector.core.policy import Policy
from trainer import engine_run
from trainer.data import DataError, SeriesData, samples_in_step
from trainer.gate import measure, most_by_chance
from trainer.inject import KINDS, inject
from trainer.reading.rows import read
from trainer.reading.store import runs
from trainer.train import assemble, fit_scales, in_memory, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stream_detector.bundle import Bundle
    from stream_detector.ports import Model
    from trainer.config import TrainerConfig
    from trainer.fit import OnPass
    from trainer.inject import Injected
    from trainer.reading.rows import SeriesSet
    from trainer.train import Prepared
    from trainer.tuning.space import Space


@dataclass(frozen=True, slots=True)
class Measured:
    value: float
    facts: dict[str, float]  # beside the value, for people


class Objective:
    """The same data and the same injected anomalies for every recipe of a space."""

    def __init__(
        self,
        data: SeriesSet,
        base: TrainerConfig,
        space: Space,
        load: Callable[[Bundle], Model],
    ) -> None:
        """Raises DataError where a scale of the space needs longer series."""
        self._data = data
        self._kind = base.tune.objective
        self._load = load
        self._normal: list[SeriesData] = []
        self._cases: list[Injected] = []
        if self._kind != "validation_error":
            self._normal, self._cases = _anomalies(data, base, space)

    def __call__(self, recipe: TrainerConfig, on_pass: OnPass) -> Measured:
        """Fit and measure. Raises ConfigError, DataError or BundleError for what cannot be fitted,

        and what `on_pass` raises.
        """
        prepared = prepare(self._data, recipe)
        fitted = fit_scales(prepared, recipe, quiet=True, on_pass=on_pass)
        error = float(np.mean([one.fitted.validation_error for one in fitted.values()]))
        if self._kind == "validation_error":
            return Measured(error, {"validation_error": error})
        parts = replace(prepared.parts, held_out=prepared.parts.validation)
        seen = replace(prepared, parts=parts)
        # Of what is measured here nothing may be learnt.
        once = msgspec.structs.replace(recipe.fit, refit=False)
        judged = msgspec.structs.replace(recipe, fit=once)
        trained = assemble(seen, fitted, self._data.features, judged)
        model = self._load(in_memory(trained))
        if self._kind == "average_precision":
            return Measured(average_precision(model, self._cases), {"validation_error": error})
        return self._recall(model, recipe, error)

    def _recall(self, model: Model, recipe: TrainerConfig, error: float) -> Measured:
        """Mean over the kinds; 0 where normal samples raise more alarms than `refresh` lets pass.

        Else the loudest model would be the best.
        """
        budget = recipe.calibration.alarm_budget
        policy = Policy() if recipe.calibration.threshold else Policy(alarm_budget=budget)
        figures = measure(model, self._normal, self._cases, policy)
        allowed = most_by_chance(recipe.refresh.gate.alarm_tolerance * budget * figures.days)
        facts = {
            "validation_error": error,
            "recall": figures.found,
            "alarms_per_series_day": figures.alarms,
        }
        return Measured(figures.found if figures.episodes <= allowed else 0.0, facts)


def average_precision(model: Model, cases: Sequence[Injected]) -> float:
    """Of levels, sample by sample, as `evaluate` has it of scores; mean over the kinds.

    Samples behind an anomaly are normal again though windows still hold it: without them coarse
    scales, which take long to recover, look as good as fine ones.
    """
    ran = engine_run.run(model, [case.stretch for case in cases], Policy(), detailed=True)
    found = []
    for kind in KINDS:
        truths: list[NDArray[np.bool_]] = []
        levels: list[NDArray[np.float32]] = []
        for case, seen in zip(cases, ran.seen, strict=True):
            if case.kind == kind:
                onset = int(np.searchsorted(case.stretch.timestamp, case.onset))
                row = np.arange(len(case.stretch))
                truths.append((row >= onset) & (row < onset + case.length))
                levels.append(seen.level)
        # No level is no alarm.
        level = np.nan_to_num(np.concatenate(levels), nan=0.0)
        found.append(float(average_precision_score(np.concatenate(truths), level)))
    return float(np.mean(found))


def _anomalies(
    data: SeriesSet, base: TrainerConfig, space: Space
) -> tuple[list[SeriesData], list[Injected]]:
    """Normal stretches of the validation part, and the anomalies injected into them.

    One draw for all recipes: as long as the longest windows of any of them need, and from the
    time that is validation for them all, since resampling cuts in time and not in samples.
    """
    scale, every = 1, 0
    spans: list[dict[str, tuple[int, int]]] = []
    for chosen in space.shapes():
        recipe = space.recipe(chosen)
        prepared = prepare(data, recipe)
        scale = max(scale, *prepared.choice.scales)
        every = max(every, recipe.windows.every)
        spans.append(_validation(prepared))
    stretches = []
    for one in runs(data):
        if all(one.name in known for known in spans):
            firsts, lasts = zip(*(known[one.name] for known in spans), strict=True)
            stretches.append(_between(one, max(firsts), min(lasts)))
    samples = samples_in_step(
        np.concatenate([np.diff(read(one.timestamp)) for one in data.series]), every
    )
    tune = base.tune
    cases = inject(stretches, scale, tune.injections, tune.seed, tune.strength, samples)
    if not cases:
        least = scale * samples * (2 * WINDOW + WINDOW // 2 + 1) + 1
        raise DataError(
            f"tune.objective: {tune.objective} needs a series with {least} samples in its "
            f"validation part, to inject anomalies at scale {scale}; raise split.validation, or "
            "set validation_error"
        )
    return stretches, cases


def _validation(prepared: Prepared) -> dict[str, tuple[int, int]]:
    """First and last ms of the validation part, by series; those that are too short lack."""
    times: dict[str, list[NDArray[np.int64]]] = {}
    for run in prepared.parts.validation:
        times.setdefault(prepared.series[run.series].name, []).append(read(run.timestamp))
    return {name: (int(some[0][0]), int(some[-1][-1])) for name, some in times.items()}


def _between(one: SeriesData, first: int, last: int) -> SeriesData:
    """The samples of a span of time, ends included."""
    timestamp = read(one.timestamp)
    start = int(np.searchsorted(timestamp, first))
    end = int(np.searchsorted(timestamp, last, side="right"))
    return SeriesData(one.name, timestamp[start:end], read(one.values[start:end]))
