"""One file of a suite, all detectors: the unit that runs in a process of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from stream_detector.bundle import BundleError
from trainer.benchmarks import baselines
from trainer.benchmarks.detect import detect
from trainer.benchmarks.suites import SUITES
from trainer.data import DataError
from trainer.recipes.base import changed, seeded, with_pca

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.benchmarks.cases import Answer, Case, Judged, Suite
    from trainer.benchmarks.detect import Load
    from trainer.config import TrainerConfig

OURS = "ours"
PCA = "pca"
FAULTS_OF_DATA = (
    DataError,
    BundleError,
    OSError,
    ArithmeticError,
    np.linalg.LinAlgError,
    torch.linalg.LinAlgError,  # type: ignore[attr-defined]  # public, but not in its __all__
)
"""What one file can do to a fit; anything else is a fault of this program and ends the run."""


@dataclass(frozen=True, slots=True)
class Task:
    suite: str
    path: Path
    config: TrainerConfig
    seed: int
    baselines: bool


@dataclass(slots=True)
class Done:
    """What came of one file with one seed."""

    path: Path
    seed: int
    name: str
    judged: dict[str, Judged] = field(default_factory=dict)  # by detector
    failed: dict[str, str] = field(default_factory=dict)  # detector -> reason; judged as a miss
    seconds: float = 0.0
    windows: int = 0
    cpu: float = 0.0  # s of process time to detect, ours

    def body(self) -> dict[str, object]:
        body: dict[str, object] = {"file": self.name, "seed": self.seed, **self.judged[OURS].body}
        if OURS in self.failed:
            body["failed"] = self.failed[OURS]
        body["seconds"] = self.seconds
        others = {name: one.body for name, one in self.judged.items() if name != OURS}
        return body | ({"baselines": others} if others else {})


def work(task: Task, load: Load) -> Done:
    """Train, detect and judge one file. A file that cannot be used is a miss with its reason."""
    started = time.monotonic()
    suite = SUITES[task.suite]
    done = Done(task.path, task.seed, task.path.stem)
    names = [OURS]
    if task.baselines:
        names += [PCA] * (task.config.model.name != PCA) + list(suite.baselines)
    try:
        case = suite.read(task.path)
    except FAULTS_OF_DATA as error:
        done.failed[OURS] = _reason(error)
        done.judged = {name: suite.judge(None, None) for name in names}
        return done
    done.name = case.name
    config = suite.operating.of(seeded(task.config.of(case.features, case.train), task.seed))
    config = changed(config, fit=changed(config.fit, threads=1))
    threshold, quiet = None, suite.operating.policy.quiet_period
    for name in names:
        answer: Answer | None
        if name in baselines.BASELINES:
            answer = baselines.answer(name, case, task.seed, threshold, quiet)
        else:
            chosen = config
            if name == PCA:
                chosen = with_pca(config)
            answer = _detected(name, case, chosen, suite, load, done)
        if name == OURS and answer is not None:
            threshold, done.windows, done.cpu = answer.threshold, answer.windows, answer.cpu
        done.judged[name] = suite.judge(case, answer)
    done.seconds = time.monotonic() - started
    return done


def _detected(
    name: str, case: Case, config: TrainerConfig, suite: Suite, load: Load, done: Done
) -> Answer | None:
    try:
        return detect(case, config, suite.split, load, suite.operating.policy)
    except FAULTS_OF_DATA as error:
        done.failed[name] = _reason(error)
        return None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())
