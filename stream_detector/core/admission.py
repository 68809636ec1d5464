"""Which samples of a batch count, in time and with held values, and the steps that they make.

Rows whose samples arrive in order and whole are handled together; the others one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.clock import NEVER
from stream_detector.core.groups import ANY_TIME
from stream_detector.core.resample import run_lengths
from stream_detector.core.runs import Runs, advance
from stream_detector.core.segments import Segments
from stream_detector.core.steps import Steps
from stream_detector.records import Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.policy import Policy
    from stream_detector.core.slab import Slab

LIMIT = np.float64(1e30)
"""Values further than this from their anchor are cut: float32 windows must stay finite."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Samples of one slab in arrival order; columns of n rows."""

    row: NDArray[np.int64]
    time: NDArray[np.int64]  # ms
    values: NDArray[np.float64]  # [n, F]
    latest: NDArray[np.int64]
    clock: NDArray[np.int64]  # the partition's clock as each arrives

    def take(self, at: NDArray[np.int64]) -> Arrivals:
        return Arrivals(
            self.row[at], self.time[at], self.values[at], self.latest[at], self.clock[at]
        )


@dataclass(frozen=True, slots=True)
class Admitted:
    """What was accepted, sorted by row; columns of m rows."""

    outcome: NDArray[np.uint8]  # [n] of every arrival
    at: NDArray[np.int64]  # [m] place among the arrivals
    segments: Segments  # of m
    previous: NDArray[np.int64]  # [m] time of the series' sample before; NEVER for its first
    silence: NDArray[np.int64]  # [m] ms since then, by its own time or by the partition's clock
    idle: NDArray[np.int64]  # [m] ms since then by the partition's clock alone
    runs: Runs | None  # of equal values; where flatlines are looked for
    steps: Steps  # what windows are made of
    restarts: dict[int, int]  # row -> the arrival with which the series starts anew


def admit(slab: Slab, arrivals: Arrivals, policy: Policy) -> Admitted:
    """Judge arrivals and move each row's order, held values and count on."""
    order = np.argsort(arrivals.row, kind="stable")
    segments = Segments(arrivals.row[order])
    time = arrivals.time[order]
    values = arrivals.values[order]
    last_time = slab.last_time[segments.row]
    before = segments.previous(time, last_time)

    untimed = arrivals.latest[order] == ANY_TIME
    odd = time <= before
    odd |= untimed & (before != NEVER) & (time - before > policy.max_jump)
    missing = np.isnan(values)
    holed = missing.any(axis=1)
    odd |= holed
    careful = np.zeros(len(segments), np.bool_)
    careful[segments.of[odd]] = True

    filled = values.copy()
    outcome = np.zeros(len(order), np.uint8)
    restarts: dict[int, int] = {}
    for segment in np.flatnonzero(careful).tolist():
        part = slice(segments.start[segment], segments.start[segment] + segments.count[segment])
        careful_row = int(segments.row[segment])
        stop = _judge_one_by_one(
            slab,
            careful_row,
            time[part],
            values[part],
            untimed[part],
            policy,
            outcome[part],
            filled[part],
        )
        if stop is not None:
            restarts[careful_row] = int(order[part][stop])
    judged = np.empty(len(order), np.uint8)
    judged[order] = outcome

    kept = np.flatnonzero(outcome == Outcome.ACCEPTED)
    at = order[kept]
    accepted = Segments(arrivals.row[at])
    row = accepted.row
    time, filled, clock = time[kept], filled[kept], arrivals.clock[at]
    previous = accepted.previous(time, slab.last_time[row])
    heard = accepted.previous(clock, slab.heard[row])
    idle = np.where(previous == NEVER, 0, clock - heard)
    silence = np.where(previous == NEVER, 0, np.maximum(time - previous, idle))
    runs = None
    if policy.flatline_after is not None:
        runs = advance(slab, accepted, filled, missing[kept] if holed.any() else None)

    slab.late[segments.row[~careful]] = 0
    slab.held[segments.row[~careful]] = 0
    slab.heard[row] = clock[accepted.last]
    slab.last_time[row] = time[accepted.last]
    slab.last[row] = filled[accepted.last]
    steps = _steps(slab, accepted, time, previous, filled)
    return Admitted(judged, at, accepted, previous, silence, idle, runs, steps, restarts)


def _steps(
    slab: Slab,
    accepted: Segments,  # of m
    time: NDArray[np.int64],  # [m]
    previous: NDArray[np.int64],  # [m]
    values: NDArray[np.float64],  # [m, F] without holes
) -> Steps:
    """Move each row's steps on: through the grid where there is one, then through the chain."""
    transforms = slab.transforms
    if transforms.grid is None:
        sample, segments = np.arange(len(time)), accepted
        since = np.where(previous == NEVER, 0, time - previous).astype(np.float32)
        length = nth = slab.seen[segments.row][segments.of] + segments.nth + 1
    else:
        sample, time, values, last = transforms.resample(slab.buckets, accepted, time, values)
        segments = Segments(accepted.row[accepted.of[sample]])
        since = np.full(len(sample), transforms.every, np.float32)
        nth = slab.seen[segments.row][segments.of] + segments.nth + 1
        begun = slab.begun[segments.row]
        length, slab.begun[segments.row] = run_lengths(segments, nth, begun, last)
    slab.seen[segments.row] += segments.count
    stages = transforms.apply(slab.inputs, segments, values, since, length)
    relative = _relative(slab, segments, stages[-1])
    resampled = transforms.grid is not None
    return Steps(sample, time, since, segments, nth, length, stages, relative, resampled)


def _relative(slab: Slab, steps: Segments, values: NDArray[np.float64]) -> NDArray[np.float32]:
    """[s, F] values relative to their series' anchor, which is its first value."""
    fresh = np.isnan(slab.anchor[steps.row, 0])
    slab.anchor[steps.row[fresh]] = values[steps.start[fresh]]
    with np.errstate(over="ignore"):
        relative = values - slab.anchor[steps.row][steps.of]
    result: NDArray[np.float32] = relative.clip(-LIMIT, LIMIT).astype(np.float32)
    return result


def _judge_one_by_one(
    slab: Slab,
    row: int,
    time: NDArray[np.int64],
    values: NDArray[np.float64],
    untimed: NDArray[np.bool_],
    policy: Policy,
    outcome: NDArray[np.uint8],  # written
    filled: NDArray[np.float64],  # written
) -> int | None:
    """Judge one row's samples in turn; returns the one with which the series starts anew."""
    last = int(slab.last_time[row])
    late = int(slab.late[row])
    held = slab.held[row].copy()
    newest = slab.last[row].copy()
    whole_before = not np.isnan(newest).any()
    stop = None
    for at, now in enumerate(time.tolist()):
        ahead = bool(untimed[at]) and last != NEVER and now > last + policy.max_jump
        if now == last:
            outcome[at] = Outcome.DUPLICATE
            continue
        if now < last or ahead:
            late += 1
            if late >= policy.restart_after_late:
                stop = at
                break
            outcome[at] = Outcome.FUTURE if ahead else Outcome.LATE
            continue
        missing = np.isnan(values[at])
        if missing.any() and (not whole_before or (held[missing] >= policy.hold_limit).any()):
            outcome[at] = Outcome.UNHELD
            continue
        newest = np.where(missing, newest, values[at])
        filled[at] = newest
        held = np.where(missing, held + 1, 0).astype(np.uint8)
        whole_before, last, late = True, now, 0
    if stop is not None:
        outcome[stop:] = Outcome.REFUSED  # overwritten when the fresh row judges them
    slab.late[row] = late
    slab.held[row] = held
    return stop
