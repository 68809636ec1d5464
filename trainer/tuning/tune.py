"""The search of `tune`: optuna chooses recipes, an objective measures them, a file keeps them.

All that the trainer knows of optuna is here. What is chosen depends on the seed and on the trials
that came to an end, not on where a run was cut off.
"""

from __future__ import annotations

import json
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import torch
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState, create_trial
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stream_detector.bundle import BundleError
from stream_detector.config import ConfigError
from trainer.data import DataError
from trainer.tuning.space import contract
from trainer.tuning.study_file import held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from optuna import Study, Trial
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    from trainer.config import TrainerConfig
    from trainer.config.tune import Dimension, Tune
    from trainer.fit import OnPass
    from trainer.tuning.objective import Measured
    from trainer.tuning.space import Space

NAME = "tune"
LIKE_TRIALS, FIRST_PASS = 5, 3
"""Complete trials of like models before one is ended early, and the first pass that may end it."""

SCALE = 100_000
"""More passes than any fit has: the steps of a trial are those of its scales one after another."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best of the trials that came to an end."""

    value: float
    params: dict[str, Any]  # by dotted key
    facts: dict[str, float]
    trial: int
    trials: dict[str, int]  # of the study, by state
    errors: list[str]  # why trials failed, each reason once


def search(
    space: Space,
    measure: Callable[[TrainerConfig, OnPass], Measured],
    settings: Tune,
    study_file: Path,
    about: Mapping[str, str],
    *,
    quiet: bool = False,
    timeout: float = math.inf,
    monotonic: Callable[[], float] = time.monotonic,
    on_better: Callable[[Best], None] = lambda _: None,
) -> Best:
    """Try recipes until there are enough of them, or `timeout` seconds have passed.

    `about`: what the trials of one study have in common, by key; a study that was begun with
    something else is refused. Raises ConfigError for that, for a file that is no study or that
    another process uses, and DataError where no trial came to an end.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    began = monotonic()
    points = space.grid(settings.trials) if settings.sampler == "grid" else None
    wanted = settings.trials if points is None else len(points)
    with _opened(study_file, settings, about) as study, _progress(quiet=quiet) as progress:
        shown = progress.add_task("", total=wanted, completed=_counted(study), best="")
        while (number := _counted(study)) < wanted and monotonic() - began < timeout:
            before = _best(study, space)
            study.sampler = _sampler(settings, number)
            if points is not None and not study.get_trials(states=(TrialState.WAITING,)):
                point = points[number]
                study.enqueue_trial(
                    {path: _stored(space.dimensions[path], point[path]) for path in point}
                )
            told = f"trial {number + 1}"
            progress.update(shown, description=told, best=_told(before))

            def alive(passes: int, told: str = told) -> None:
                progress.update(shown, description=f"{told}, pass {passes}")

            _try(study, study.ask(), space, measure, settings, alive)
            progress.update(shown, completed=number + 1)
            best = _best(study, space)
            if best is not None and (before is None or best.trial != before.trial):
                on_better(best)
        best = _best(study, space)
        if best is None:
            raise DataError(_why_none(study, study_file))
        return best


def _try(
    study: Study,
    trial: Trial,
    space: Space,
    measure: Callable[[TrainerConfig, OnPass], Measured],
    settings: Tune,
    alive: Callable[[int], None],
) -> None:
    """One trial to its end, whichever: complete, pruned, or failed with its reason."""
    chosen = _suggested(trial, space)
    twin = next((one for one in _ended(study) if one.params == trial.params), None)
    if twin is not None:  # the same recipe gives the same, so it is not fitted again
        for key, fact in twin.user_attrs.items():
            trial.set_user_attr(key, fact)
        study.tell(
            trial, twin.value if twin.state == TrialState.COMPLETE else None, state=twin.state
        )
        return
    try:
        recipe = space.recipe(chosen)
        trial.set_user_attr("contract", contract(recipe))
        watch = _Watch(study, trial, contract(recipe), settings, alive)
        measured = measure(recipe, watch)
        if not math.isfinite(measured.value):
            raise DataError("the validation error is not finite")  # noqa: TRY301
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except (ConfigError, DataError, BundleError, torch.OutOfMemoryError) as error:
        trial.set_user_attr("error", " ".join(str(error).split()))
        study.tell(trial, state=TrialState.FAIL)
    else:
        trial.set_user_attr("facts", measured.facts)
        study.tell(trial, measured.value)


class _Watch:
    """Hears of every pass of a trial, and ends it where like models fared better.

    Only validation errors of like models compare, and they are better when lower whatever is
    searched for. So optuna's pruner is asked in a study of its own, of such trials alone.
    """

    def __init__(
        self,
        study: Study,
        trial: Trial,
        kind: str,
        settings: Tune,
        alive: Callable[[int], None],
    ) -> None:
        self._trial = trial
        self._alive = alive
        self._sign = _sign(settings)
        self._place = -1
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if settings.pruner == "median":
            pruner = optuna.pruners.MedianPruner(LIKE_TRIALS, FIRST_PASS)
        like = optuna.create_study(direction="minimize", pruner=pruner)
        for one in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if one.user_attrs["contract"] == kind:
                errors = {step: self._sign * v for step, v in one.intermediate_values.items()}
                like.add_trial(create_trial(value=0.0, intermediate_values=errors))
        self._like = like.ask()

    def __call__(self, number: int, error: float) -> None:
        """A pass of the fit; raises optuna.TrialPruned."""
        self._place += number == 1
        step = self._place * SCALE + number
        self._alive(number)
        self._trial.report(self._sign * error, step)
        self._like.report(error, step)
        if self._like.should_prune():
            raise optuna.TrialPruned


def _sign(settings: Tune) -> int:
    """What makes a validation error better when it is better in the study's direction."""
    return 1 if settings.objective == "validation_error" else -1


def _suggested(trial: Trial, space: Space) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for path, dimension in space.dimensions.items():
        if space.applies(path, chosen):
            chosen[path] = _suggest(trial, path, dimension)
    return chosen


def _suggest(trial: Trial, path: str, dimension: Dimension) -> Any:
    if dimension.values is not None:
        labels = [_stored(dimension, value) for value in dimension.values]
        return json.loads(trial.suggest_categorical(path, labels))
    low, high, step = dimension.low, dimension.high, dimension.step
    assert low is not None
    assert high is not None
    if dimension.whole:
        step = 1 if step is None else int(step)
        return trial.suggest_int(path, int(low), int(high), step=step, log=dimension.log)
    return trial.suggest_float(path, low, high, step=step, log=dimension.log)


def _stored(dimension: Dimension, value: Any) -> Any:
    """As a study keeps it: one of some values as JSON, so that lists may be among them."""
    return value if dimension.values is None else json.dumps(value)


def _sampler(settings: Tune, number: int) -> BaseSampler:
    """A new one for each trial, so that a study that goes on draws what it would have drawn."""
    seed = int(np.random.SeedSequence((settings.seed, number)).generate_state(1)[0])
    if settings.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def _ended(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _failed(study: Study) -> list[FrozenTrial]:
    """Trials with a reason; one without was cut off, and will be tried again."""
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    return [one for one in failed if "error" in one.user_attrs]


def _counted(study: Study) -> int:
    return len(_ended(study)) + len(_failed(study))


def _best(study: Study, space: Space) -> Best | None:
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return None
    best = study.best_trial
    states = [one.state for one in study.get_trials(deepcopy=False)]
    failed = _failed(study)
    params = {
        path: value if space.dimensions[path].values is None else json.loads(value)
        for path, value in best.params.items()
    }
    assert best.value is not None
    return Best(
        value=best.value,
        params=params,
        facts=best.user_attrs["facts"],
        trial=best.number,
        trials={
            "complete": states.count(TrialState.COMPLETE),
            "pruned": states.count(TrialState.PRUNED),
            "failed": len(failed),
            "cut_off": states.count(TrialState.FAIL) - len(failed),
        },
        errors=list(dict.fromkeys(one.user_attrs["error"] for one in failed)),
    )


def _why_none(study: Study, study_file: Path) -> str:
    failed = _failed(study)
    if failed:
        return f"none of {_counted(study)} trials came to an end: {failed[-1].user_attrs['error']}"
    return f"{study_file}: no trial came to an end; allow more time with --timeout"


@contextmanager
def _opened(path: Path, settings: Tune, about: Mapping[str, str]) -> Iterator[Study]:
    """The study in this file, new or continued, for this process alone."""
    with held(path):
        try:
            study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(path))),
                study_name=NAME,
                direction="minimize" if _sign(settings) > 0 else "maximize",
                load_if_exists=True,
            )
        except (ValueError, KeyError) as error:
            raise ConfigError(f"{path}: a damaged study ({error}); give another --study") from error
        _compare(study, path, about)
        for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(left.number, state=TrialState.FAIL)
        yield study


def _compare(study: Study, path: Path, about: Mapping[str, str]) -> None:
    known = study.user_attrs
    for key, text in about.items():
        if key not in known:
            study.set_user_attr(key, text)
        elif known[key] != text:
            raise ConfigError(
                f"{path}: this study was begun with another {key}; give another --study"
            )


def _told(best: Best | None) -> str:
    return "" if best is None else f"best {best.value:.4g}"


def _progress(*, quiet: bool) -> Progress:
    """A bar on a terminal's error stream; nothing anywhere else."""
    console = Console(stderr=True)
    return Progress(
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[best]}"),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
        transient=True,
    )
