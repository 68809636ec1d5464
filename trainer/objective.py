"""What `tune` holds a recipe to: one number from the validation part, never from another.

The part that `fit` calibrates with stays unseen: here levels come from the validation part too, so
whoever measures a tuned bundle on later data measures it on data that chose nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import average_precision_score

from stream_detector.bundle import WINDOW
from stream_detector.core.policy import Policy
from trainer import engine_run
from trainer.data import DataError, SeriesData, samples_in_step
from trainer.gate import measure, most_by_chance
from trainer.inject import KINDS, inject
from trainer.preprocess import split
from trainer.rows import read
from trainer.train import assemble, fit_scales, in_memory, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stream_detector.bundle import Bundle
    from stream_detector.ports import Model
    from trainer.config import TrainerConfig
    from trainer.fit import OnPass
    from trainer.inject import Injected
    from trainer.rows import SeriesSet
    from trainer.space import Space


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
        trained = assemble(seen, fitted, self._data.features, recipe)
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
    """Of levels, sample by sample, normal ones before an anomaly against those in it; mean over

    the kinds. Samples behind an anomaly don't count: their windows still hold it.
    """
    ran = engine_run.run(model, [case.stretch for case in cases], Policy(), detailed=True)
    found = []
    for kind in KINDS:
        truths: list[NDArray[np.bool_]] = []
        levels: list[NDArray[np.float32]] = []
        for case, seen in zip(cases, ran.seen, strict=True):
            if case.kind != kind:
                continue
            onset = int(np.searchsorted(case.stretch.timestamp, case.onset))
            truths.append(np.arange(onset + case.length) >= onset)
            levels.append(seen.level[: onset + case.length])
        # No level is no alarm.
        level = np.nan_to_num(np.concatenate(levels), nan=0.0)
        found.append(float(average_precision_score(np.concatenate(truths), level)))
    return float(np.mean(found))


def _anomalies(
    data: SeriesSet, base: TrainerConfig, space: Space
) -> tuple[list[SeriesData], list[Injected]]:
    """Normal stretches of the validation part, and the anomalies injected into them.

    One draw for all recipes, at the largest scale and the longest step that any of them has.
    """
    scale, every, left_out = 1, 0, set()
    for chosen in space.scales():
        recipe = space.recipe(chosen)
        prepared = prepare(data, recipe)
        every = max(every, recipe.windows.every)
        scale = max(scale, *prepared.choice.scales)
        left_out.update(prepared.left_out)
    kept = [one for one in data.series if one.name not in left_out]
    stretches = [
        SeriesData(kept[run.series].name, read(run.timestamp), read(run.values))
        for run in split(kept, base.split).validation
    ]
    tune = base.tune
    samples = samples_in_step(np.concatenate([np.diff(read(one.timestamp)) for one in kept]), every)
    cases = inject(stretches, scale, tune.injections, tune.seed, tune.strength, samples)
    if not cases:
        least = scale * samples * (2 * WINDOW + WINDOW // 2 + 1) + 1
        raise DataError(
            f"tune.objective: {tune.objective} needs a series with {least} samples in its "
            f"validation part, to inject anomalies at scale {scale}; raise split.validation, or "
            "set validation_error"
        )
    return stretches, cases
