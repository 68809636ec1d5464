"""One case through the product's own path, trainer -> bundle -> engine: a task for a process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from stream_detector.config import ConfigError
from stream_detector.core.engine import Engine
from stream_detector.core.groups import ANY_TIME
from stream_detector.core.policy import Policy
from stream_detector.ports import Model
from stream_detector.records import Batch, Partition, Status
from trainer.data import Dataset, SeriesData
from trainer.promise import oracle
from trainer.promise.anomalies import ANOMALIES, Injection
from trainer.promise.cases import CASES, LEARNT_DAYS, SEASON, STEPS_A_DAY, Fleet
from trainer.promise.counts import BUDGETS, Episode
from trainer.promise.remembering import Remembering
from trainer.recipes.base import changed, seeded
from trainer.train import in_memory, train

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from numpy.typing import NDArray

    from stream_detector.bundle import Bundle
    from stream_detector.records import AnomalyEvent
    from trainer.config import TrainerConfig
    from trainer.promise.anomalies import Anomaly, Injected
    from trainer.promise.cases import Case

    Load = Callable[[Bundle], Model]

Start = Literal["new", "known"]

GROUP = "promise"
MINUTE = 60_000
DAY_0 = 1_767_225_600_000
"""2026-01-01, ms UTC."""
ROWS = 8192
"""Samples in one call of an engine, about: enough to fill the largest tiles."""
OTHERS = 8
"""Series that a bundle is trained on where those that are looked at are new to it."""


class Setup(NamedTuple):
    """What all tasks share."""

    config: TrainerConfig
    series: int
    days: int
    seed: int


@dataclass(frozen=True, slots=True)
class Task:
    case: Case
    start: Start
    setup: Setup
    anomaly: Anomaly | None = None


@dataclass(slots=True)
class Done:
    task: Task
    episodes: dict[str, list[Episode]]  # by the budget's name, as they were opened
    shifted_at: NDArray[np.int64] | None  # [S] step of a change of level that may tell of itself
    injected: list[Injected] = field(default_factory=list)
    static: dict[str, list[Episode]] = field(default_factory=dict)
    static_threshold: dict[str, float] = field(default_factory=dict)
    cpu: float = 0.0  # s in the engines of all budgets, simulation and training left out
    seconds: float = 0.0

    @property
    def samples(self) -> int:
        return self.task.setup.series * self.task.setup.days * STEPS_A_DAY


def chosen(
    names: Collection[str], start: Literal["new", "known", "both"], setup: Setup
) -> list[Task]:
    """Tasks of these cases and anomalies, or of all. Raises ConfigError for an unknown name."""
    for name in names:
        if name not in CASES and name not in ANOMALIES:
            raise ConfigError(f"no case {name!r}; there are {', '.join((*CASES, *ANOMALIES))}")
    starts: tuple[Start, ...] = ("new", "known") if start == "both" else (start,)
    return [
        *(
            Task(case, one, setup)
            for one in starts
            for case in CASES.values()
            if not names or case.name in names
        ),
        *(
            Task(SEASON, one, setup, anomaly)
            for one in starts
            for anomaly in ANOMALIES.values()
            if not names or anomaly.name in names
        ),
    ]


def work(task: Task, load: Load) -> Done:
    """Train, then the engines of all budgets side by side over the same samples."""
    began = time.monotonic()
    setup = task.setup
    fleet = Fleet(task.case, setup.seed, setup.series)
    past = fleet.block(LEARNT_DAYS * STEPS_A_DAY)
    names = fleet.names
    if task.start == "known":
        data = dataset(names, past)
    else:
        others = Fleet(task.case, setup.seed, OTHERS, stream=1)
        data = dataset([f"other-{name}" for name in others.names], others.block(len(past)))
    config = seeded(setup.config.of(data.features, data.rows), setup.seed)
    config = changed(config, fit=changed(config.fit, threads=1))
    model = load(in_memory(train(data, config, quiet=True)))
    done = Done(
        task,
        {},
        fleet.shifted_at if task.case.change == "step" else None,
    )
    late = max(budget.start for budget in BUDGETS)
    injection = None
    if task.anomaly is not None:
        injection = Injection(task.anomaly, fleet, setup.seed, (late, setup.days))
        done.injected = injection.all
    score = None if injection is None else np.full(
        (setup.days * STEPS_A_DAY, setup.series), np.nan, np.float32
    )  # fmt: skip
    _detect(model, names, _days(fleet, injection, setup.days), done, score)
    if score is not None:
        _static(score[late * STEPS_A_DAY :], late * STEPS_A_DAY, done)
    done.seconds = time.monotonic() - began
    return done


def dataset(names: Iterable[str], values: NDArray[np.float64]) -> Dataset:
    """Series of values [n, S] that end where day 0 begins."""
    timestamp = DAY_0 + MINUTE * np.arange(-len(values), 0)
    return Dataset(
        ["value"],
        [SeriesData(name, timestamp, values[:, [i]]) for i, name in enumerate(names)],
    )


def _days(fleet: Fleet, injection: Injection | None, days: int) -> Iterator[NDArray[np.float64]]:
    for day in range(days):
        values = fleet.block(STEPS_A_DAY)
        if injection is not None:
            injection.add(values, day * STEPS_A_DAY)
        yield values


def _detect(
    model: Model,
    names: list[str],
    blocks: Iterable[NDArray[np.float64]],
    done: Done,
    score: NDArray[np.float32] | None,  # [days * 1440, S] written, where fused scores are wanted
) -> None:
    scorer = Remembering(model.scorer)
    engines = []
    for place, budget in enumerate(BUDGETS):
        detailed = score is not None and not place  # scores are the same whatever the budget
        engine = Engine(GROUP, Policy(alarm_budget=budget.daily), detailed=detailed)
        engine.serve(GROUP, Model(model.bundle, scorer))
        engines.append((budget, engine))
    histories = {budget.name: History() for budget in BUDGETS}
    at = 0
    for values in blocks:
        began = time.process_time()
        for batch in batches(names, values, at):
            scorer.forget()
            for budget, engine in engines:
                result = engine.process([batch])
                for event in result.events:
                    histories[budget.name].add(event)
                for detail in result.details:
                    if score is not None:
                        step, series = divmod(detail.batch.origin[detail.place], len(names))
                        score[step, series] = detail.score
        done.cpu += time.process_time() - began
        at += len(values)
    done.episodes = {name: history.episodes(at) for name, history in histories.items()}


class History:
    """Episodes from their events."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, int, str], int | None] = {}  # series, first step, kind -> last

    def add(self, event: AnomalyEvent) -> None:
        series = int(event.series.rpartition("-")[2])
        key = series, step_of(event.started_at), event.kind.value
        if event.status is Status.OPENED:
            self._last[key] = None
        elif event.status is Status.CLOSED:
            quiet = Policy().quiet_period if event.close_reason == "recovered" else 0
            self._last[key] = max(step_of(event.at) - quiet, key[1])

    def episodes(self, end: int) -> list[Episode]:
        """In the order in which they were opened; one that was never closed lasts until the end."""
        return [
            Episode(series, first, end if last is None else last, kind)
            for (series, first, kind), last in self._last.items()
        ]


def step_of(time: int) -> int:
    return (time - DAY_0) // MINUTE


def batches(names: list[str], values: NDArray[np.float64], at: int) -> Iterator[Batch]:
    """Values [n, S] minute by minute, as a topic would bring them; `at` is the first one's step."""
    width = len(names)
    steps = max(ROWS // width, 1)
    for first in range(0, len(values), steps):
        part = values[first : first + steps]
        rows = (at + first) * width + np.arange(part.size)
        yield Batch(
            group=GROUP,
            partition=Partition(GROUP, 0),
            series=names * len(part),
            timestamp=DAY_0 + MINUTE * (rows // width),
            values=part.reshape(-1, 1),
            latest=np.full(len(rows), ANY_TIME),
            offset=rows,
            origin=rows,
        )


def _static(score: NDArray[np.float32], start: int, done: Done) -> None:
    """What one threshold of the same clean rate opens, from the step `start` on."""
    quiet = Policy().quiet_period
    for budget in BUDGETS:
        wanted = budget.daily / STEPS_A_DAY
        threshold = oracle.threshold(score, done.injected, start, wanted, quiet)
        done.static_threshold[budget.name] = threshold
        done.static[budget.name] = oracle.episodes(score, threshold, start, quiet)
