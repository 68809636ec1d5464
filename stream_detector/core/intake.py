"""Batches -> pieces of arrivals that a slab takes in together.

A batch is cut where idle series are to be forgotten first or all are to be counted, and again where
a series starts anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.admission import Admitted, Arrivals, admit
from stream_detector.core.clock import FOREVER
from stream_detector.core.groups import ANY_TIME
from stream_detector.core.windows import collect, learn
from stream_detector.records import Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.episodes import Tracker
    from stream_detector.core.policy import Policy
    from stream_detector.core.serving import Serving
    from stream_detector.core.slab import Slab
    from stream_detector.core.windows import WindowSet
    from stream_detector.records import AnomalyEvent, Batch

EVICT_STEPS = 120
"""A series is remembered for at least this many of its own steps."""


@dataclass(slots=True)
class Job:
    """One batch on its way through the engine."""

    slab: Slab
    serving: Serving
    batch: Batch
    usable: NDArray[np.int64]  # places in the batch that are not too far ahead
    clock: NDArray[np.int64]  # elapsed time of the partition, of each usable one
    far: NDArray[np.bool_]  # of each usable one: far ahead of all other series
    outcome: NDArray[np.uint8]
    level: NDArray[np.float32]
    anomalous: NDArray[np.bool_]
    tracker: Tracker
    done: int = 0  # usable ones dealt with


@dataclass(slots=True)
class Piece:
    """Arrivals of one job that are taken in together."""

    job: Job
    place: NDArray[np.int64]  # in the batch
    arrivals: Arrivals
    admitted: Admitted
    windows: dict[int, WindowSet]


class Intake:
    """Rows for samples, order in time, windows; everything before the scores."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def job(self, batch: Batch, slab: Slab, serving: Serving, tracker: Tracker) -> Job:
        n = len(batch)
        outcome = np.zeros(n, np.uint8)
        ahead = batch.timestamp > batch.latest
        outcome[ahead] = Outcome.FUTURE
        usable = np.flatnonzero(~ahead)
        names = batch.series if len(usable) == n else [batch.series[at] for at in usable.tolist()]
        clock, far, slab.clock = slab.clock.advance(batch.timestamp[usable], names, self._policy)
        return Job(
            slab,
            serving,
            batch,
            usable,
            clock,
            far,
            outcome,
            np.full(n, np.nan, np.float32),
            np.zeros(n, np.bool_),
            tracker,
        )

    def next_piece(self, job: Job, events: list[AnomalyEvent]) -> Piece:
        """The samples up to the next one before which idle series are to be forgotten."""
        slab = job.slab
        clock = job.clock[job.done :]
        if clock[0] >= slab.next_eviction:
            self.evict(slab, job.tracker, int(clock[0]), events)
        if clock[0] >= slab.next_census:
            job.serving.census(slab, int(clock[0]))
        bound = min(slab.next_eviction, int(clock[0]) + self._policy.evict_after)
        count = max(int(np.searchsorted(clock, min(bound, slab.next_census))), 1)
        part, clock = slice(job.done, job.done + count), clock[:count]
        job.done += len(clock)
        place, rows = self._rows(job, part, clock)
        kept = np.isin(job.usable[part], place)
        slab.next_eviction = bound
        batch = job.batch
        arrivals = Arrivals(
            rows, batch.timestamp[place], batch.values[place], batch.latest[place], clock[kept]
        )
        return self.take_in(job, place, arrivals)

    def _rows(
        self, job: Job, part: slice, clock: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], ...]:
        """Rows of the samples; new series far ahead of the clock or of a full slab get none."""
        slab, names, place = job.slab, job.batch.series, job.usable[part]
        far = job.far[part] & (job.batch.latest[place] == ANY_TIME)
        rows = []
        for at, now, ahead in zip(place.tolist(), clock.tolist(), far.tolist(), strict=True):
            row = slab.index.get(names[at], -1)
            if row < 0 and ahead:
                job.outcome[at] = Outcome.FUTURE
            elif row < 0 and len(slab) >= self._policy.max_series:
                job.outcome[at] = Outcome.REFUSED
            elif row < 0:
                row = slab.add(names[at])
                slab.heard[row] = now
                job.serving.welcome(slab, row)
                if now <= slab.suspect_until:
                    slab.doubt(np.array([row]))
            rows.append(row)
        found = np.array(rows, np.int64)
        return place[found >= 0], found[found >= 0]

    def evict(self, slab: Slab, tracker: Tracker, clock: int, events: list[AnomalyEvent]) -> None:
        """Forget series that are due by now."""
        events += tracker.sweep(clock)  # what fell due before them
        rows, due = self._due(slab)
        for row, deadline in zip(rows[due <= clock].tolist(), due[due <= clock], strict=True):
            silence = int(deadline - slab.heard[row])
            events += tracker.close(row, int(slab.last_time[row]) + silence, "evicted")
            slab.remove(row)
        slab.next_eviction = int(self._due(slab)[1].min(initial=FOREVER))

    def _due(self, slab: Slab) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows in use and when each is forgotten; series that send rarely get more time."""
        rows = slab.rows_in_use()
        steps = (EVICT_STEPS * slab.interval[rows].astype(np.float64)).astype(np.int64)
        return rows, slab.heard[rows] + np.maximum(self._policy.evict_after, steps)

    def take_in(self, job: Job, place: NDArray[np.int64], arrivals: Arrivals) -> Piece:
        slab, serving = job.slab, job.serving
        admitted = admit(slab, arrivals, self._policy)
        steps = admitted.steps
        serving.learnt(slab, learn(slab, steps, serving.offset, serving.factor))
        return Piece(job, place, arrivals, admitted, collect(slab, steps))
