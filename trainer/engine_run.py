"""Stretches of series through the product's own engine: what the detector would have said.

The scorer comes as a port inside `Model`; this file knows nothing of how it was loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.engine import Engine
from stream_detector.core.groups import ANY_TIME
from stream_detector.core.policy import DAY
from stream_detector.records import Batch, Kind, Partition, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream_detector.core.detail import Detail
    from stream_detector.core.policy import Policy
    from stream_detector.ports import Model
    from stream_detector.records import AnomalyEvent, Verdicts
    from trainer.data import SeriesData

GROUP = "gate"
ROWS = 8192
"""Samples in one call of the engine, about: enough to fill the largest tiles."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the engine made of each sample of one stretch; n rows in its order, F features."""

    level: NDArray[np.float32]  # [n] NaN before the first window
    score: NDArray[np.float32]  # [n] likewise
    threshold: NDArray[np.float64]  # [n] level that raises an alarm; NaN where not accepted
    anomalous: NDArray[np.bool_]  # [n] within an open episode
    observed: NDArray[np.float64]  # [n, F] as sent, or of the bucket where series are resampled
    expected: NDArray[np.float64]  # [n, F] in its place; NaN where the finest scale had none
    contribution: NDArray[np.float32]  # [n, F] likewise

    @property
    def above(self) -> NDArray[np.bool_]:
        """[n] the level is at or above the threshold: the sample by itself is an alarm."""
        return np.nan_to_num(self.level, nan=-np.inf) >= self.threshold

    @classmethod
    def nothing(cls, one: SeriesData) -> Seen:
        n, shape = len(one), one.values.shape
        return cls(
            np.full(n, np.nan, np.float32),
            np.full(n, np.nan, np.float32),
            np.full(n, np.nan),
            np.zeros(n, np.bool_),
            one.values.copy(),
            np.full(shape, np.nan),
            np.full(shape, np.nan, np.float32),
        )

    def take(self, verdicts: Verdicts) -> None:
        self.level[verdicts.batch.origin] = verdicts.level
        self.anomalous[verdicts.batch.origin] = verdicts.anomalous

    def explain(self, detail: Detail) -> None:
        rows = detail.batch.origin[detail.place]
        self.score[rows] = detail.score
        self.threshold[rows] = detail.threshold
        made = ~np.isnan(detail.observed).any(axis=1)  # a step; between two of them it holds
        newest = np.maximum.accumulate(np.where(made, np.arange(len(rows)), -1))
        self.observed[rows[newest >= 0]] = detail.observed[newest[newest >= 0]]
        if len(rows) and rows[0]:
            self.observed[rows[newest < 0]] = self.observed[rows[0] - 1]
        self.expected[rows] = detail.expected
        self.contribution[rows] = detail.contribution


@dataclass(slots=True)
class Ran:
    """What came of each stretch given, by its number."""

    events: list[list[AnomalyEvent]]
    judged: list[int]  # samples that had a level
    days: float = 0.0  # series-days that these samples span
    opened: list[list[int]] = field(default_factory=list)  # start of each anomaly episode, ms
    seen: list[Seen] = field(default_factory=list)  # only where it was asked for

    @property
    def episodes(self) -> int:
        return sum(len(starts) for starts in self.opened)


def run(
    model: Model, stretches: Sequence[SeriesData], policy: Policy, *, detailed: bool = False
) -> Ran:
    """Each stretch begins with no history: it is a partition of its own.

    Its series keeps its name, so what the bundle knows of the series holds from the first window.
    `detailed` also keeps what was seen in every sample.
    """
    engine = Engine(GROUP, policy, detailed=detailed)
    engine.serve(GROUP, model)
    ran = Ran([[] for _ in stretches], [0] * len(stretches))
    if detailed:
        ran.seen = [Seen.nothing(one) for one in stretches]
    order = sorted(range(len(stretches)), key=lambda number: len(stretches[number]))
    # Stretches of like length go together, so that batches stay full to their end.
    for start in range(0, len(order), 256):
        _together(engine, stretches, order[start : start + 256], ran)
    for number, one in enumerate(stretches):
        ran.days += ran.judged[number] * one.interval / DAY
    ran.opened = [
        [e.started_at for e in events if e.kind is Kind.ANOMALY and e.status is Status.OPENED]
        for events in ran.events
    ]
    return ran


def _together(
    engine: Engine, stretches: Sequence[SeriesData], numbers: Sequence[int], ran: Ran
) -> None:
    rows = max(ROWS // len(numbers), 32)
    longest = max(len(stretches[number]) for number in numbers)
    for start in range(0, longest, rows):
        some = [number for number in numbers if len(stretches[number]) > start]
        batches = [_batch(stretches[n], n, start, start + rows) for n in some]
        result = engine.process(batches)
        for verdicts in result.verdicts:
            judged = int(np.isfinite(verdicts.level).sum())
            ran.judged[verdicts.batch.partition.number] += judged
            if ran.seen:
                ran.seen[verdicts.batch.partition.number].take(verdicts)
        for detail in result.details:
            ran.seen[detail.batch.partition.number].explain(detail)
        for event in result.events:
            ran.events[event.partition.number].append(event)
    for number in numbers:
        engine.drop(Partition(GROUP, number))


def _batch(one: SeriesData, number: int, start: int, stop: int) -> Batch:
    timestamp = one.timestamp[start:stop]
    rows = np.arange(start, start + len(timestamp))
    return Batch(
        group=GROUP,
        partition=Partition(GROUP, number),
        series=[one.name] * len(rows),
        timestamp=timestamp,
        values=one.values[start:stop],
        latest=np.full(len(rows), ANY_TIME),
        offset=rows,
        origin=rows,
    )
