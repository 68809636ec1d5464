"""What a suite reads from a file and what a detector answers to it. No suite, no detector here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from msgspec import structs

from stream_detector.core.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from trainer.config import Split, TrainerConfig
    from trainer.config.threshold import ThresholdChoice
    from trainer.metrics.events import Interval


@dataclass(frozen=True, slots=True)
class Case:
    """One file: n rows as they lie in it, F features. The first `train` rows may be learnt from."""

    name: str
    features: list[str]
    timestamp: NDArray[np.int64]  # [n] ms; a time may come twice
    values: NDArray[np.float64]  # [n, F], missing ones not finite
    train: int
    anomalies: list[Interval]  # first and last row of each
    group: str = ""  # part of the suite that is also reported by itself
    extra: Any = None  # what the suite itself wants to know again when it judges

    @property
    def tested(self) -> int:
        """Rows that are judged: all behind the training part."""
        return len(self.timestamp) - self.train

    @property
    def interval(self) -> float:
        """Median ms between rows."""
        return float(np.median(np.diff(self.timestamp)))

    @property
    def truth(self) -> list[Interval]:
        """Anomalies of the tested rows, as first and last of these."""
        return [
            (max(first - self.train, 0), last - self.train)
            for first, last in self.anomalies
            if last >= self.train
        ]

    @property
    def label(self) -> NDArray[np.bool_]:
        """[m] of the tested rows."""
        flags = np.zeros(self.tested, np.bool_)
        for first, last in self.truth:
            flags[first : last + 1] = True
        return flags


@dataclass(frozen=True, slots=True)
class Answer:
    """What a detector made of the m tested rows, each from itself and earlier rows alone."""

    score: NDArray[np.float64]  # [m] finite, larger is worse
    level: NDArray[np.float64]  # [m] finite, -log10 of a tail probability
    threshold: float  # level that is an alarm, the usual one where it moves
    above: NDArray[np.bool_]  # [m] the row by itself is an alarm
    inside: NDArray[np.bool_]  # [m] within an episode
    episodes: list[Interval]  # first and last row of each
    windows: int = 0  # that were scored
    cpu: float = 0.0  # s of process time for them
    contribution: NDArray[np.float32] | None = None  # [m, F] NaN without a window


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one file: `body` is shown, `kept` is what the whole suite's result needs."""

    body: dict[str, Any] = field(default_factory=dict)
    kept: Any = None


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """How a user of such data would set the product up; the same for all files of a suite."""

    threshold: ThresholdChoice | None = None  # instead of the recipe's
    policy: Policy = field(default_factory=Policy)

    def of(self, config: TrainerConfig) -> TrainerConfig:
        if self.threshold is None:
            return config
        calibration = structs.replace(config.calibration, threshold=self.threshold)
        return structs.replace(config, calibration=calibration)


USUAL = OperatingPoint()
"""The recipe's own threshold, and episodes as by default."""


class Suite(Protocol):
    """A public benchmark: where its files are, what of them is trained on, how they are scored."""

    name: ClassVar[str]
    title: ClassVar[str]
    origin: ClassVar[str]
    """What the folder must hold and where it comes from; ends the error if nothing is found."""
    protocol: ClassVar[str]
    headline: ClassVar[str]
    """The metric that stands for the suite."""
    baselines: ClassVar[tuple[str, ...]]
    split: ClassVar[Split | None]
    """Shares of the training part; None leaves them to the recipe."""

    operating: ClassVar[OperatingPoint]
    """Part of the protocol, whose text tells it."""

    def find(self, data: Path) -> list[Path]:
        """The files of the suite at or below a folder, sorted. Raises DataError without any."""

    def read(self, path: Path) -> Case:
        """Raises DataError or OSError for a file that is none of the suite."""

    def judge(self, case: Case | None, answer: Answer | None) -> Judged:
        """Without an answer the file is a miss; without a case not even the file could be read."""

    def total(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Metrics of the suite; NaN where undefined."""

    def intervals(self, judged: Sequence[Judged]) -> Mapping[str, tuple[float, float]]:
        """95% intervals of some of them, over the files as a sample of such files."""
