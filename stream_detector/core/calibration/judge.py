"""How unusual a score is for its own series, followed online, block by block.

A score's level, and the level that raises an alarm, depend on what the blocks before its own have
taught; see lesson.py. All rows of a piece advance together, each by its own blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.calibration.heights import Heights
from stream_detector.core.calibration.lesson import MATURE, UNIT, Terms, Usual, learn
from stream_detector.core.calibration.memory import ALARM, ANCHOR, BLOCK, RARE, RAREST
from stream_detector.core.calibration.tail import Tail, walk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.segments import Segments

WIDE, NARROW = 100.0, 3.0
"""Deviations at which errors are cut, of young series and of others."""


@dataclass(slots=True)
class State:
    """What the series of some rows know of their scores; [u] each, written."""

    memory: NDArray[np.void]
    location: NDArray[np.float64]
    deviation: NDArray[np.float64]
    scored: NDArray[np.int32]

    def take(self, rows: NDArray[np.int64]) -> State:
        return State(
            self.memory[rows], self.location[rows], self.deviation[rows], self.scored[rows]
        )

    def put(self, rows: NDArray[np.int64], part: State) -> None:
        self.memory[rows] = part.memory
        self.location[rows], self.deviation[rows] = part.location, part.deviation
        self.scored[rows] = part.scored


@dataclass(frozen=True, slots=True)
class Rules:
    """What all series are held to."""

    least: float  # deviation
    quiet: int  # samples below the threshold that end an episode
    run: int  # samples at the threshold in a row that begin one


@dataclass(frozen=True, slots=True)
class Limits:
    """What scores are held against; infinite `t` [u] and false `reached` where no score decides."""

    t: NDArray[np.float64]  # [u] transformed score that raises an alarm
    reached: NDArray[np.bool_]  # [k] the score has


@dataclass(frozen=True, slots=True)
class Judged:
    level: NDArray[np.float64]  # [k]
    threshold: NDArray[np.float64]  # [k] level that raised an alarm then
    t: NDArray[np.float64]  # [k] transformed score that would have had that level
    seen: NDArray[np.int32]  # [k] scores of the series before this one


def judge(
    state: State,
    segments: Segments,
    t: NDArray[np.float64],  # [k] transformed scores
    limits: Limits,
    terms: Terms,
    rules: Rules,
) -> Judged:
    """Place each score in its series' own distribution, and learn from it."""
    k = len(t)
    seen = (state.scored[segments.of] + segments.nth).astype(np.int32)
    judged = Judged(np.empty(k), np.empty(k), np.empty(k), seen)
    active = np.arange(len(segments))
    start, left = segments.start.copy(), segments.count.copy()
    while len(active):
        room = BLOCK - state.memory["count"][active].astype(np.int64)
        taken = np.minimum(left[active], room)
        everything = len(active) == len(segments)
        part = state if everything else state.take(active)
        _advance(part, active, start[active], taken, t, limits, terms.take(active), rules, judged)
        if not everything:
            state.put(active, part)
        start[active] += taken
        left[active] -= taken
        active = active[left[active] > 0]
    state.scored += segments.count.astype(np.int32)
    return judged


def _advance(
    state: State,
    rows: NDArray[np.int64],  # [n] segments
    start: NDArray[np.int64],  # [n] of their scores in t
    taken: NDArray[np.int64],  # [n] how many of them, all of one block
    t: NDArray[np.float64],
    limits: Limits,
    terms: Terms,
    rules: Rules,
    judged: Judged,
) -> None:
    memory = state.memory
    of = np.repeat(np.arange(len(rows)), taken)
    ends = np.cumsum(taken)
    begin = ends - taken
    within = np.arange(len(of)) - begin[of]
    at = start[of] + within
    heights = Heights.of(memory)
    here, location, deviation = t[at], state.location[of], state.deviation[of]
    z = (here - location) / deviation
    tail = Tail.at(walk(memory, of, begin, here), memory["tail"][of], location, deviation)
    level = judged.level[at] = tail.level(here)
    fixed, wanted = np.isfinite(limits.t[rows])[of], terms.level[of]
    height = terms.height(memory, heights)[of]
    need = np.where(fixed, limits.t[rows][of], location + height * deviation)
    by_level = ~fixed & np.isfinite(wanted)
    judged.threshold[at] = np.where(by_level, wanted, tail.level(need))
    judged.t[at] = np.where(by_level, tail.t(wanted), need)

    place = memory["count"].astype(np.int64)[of] + within  # in the block
    calls = np.where(by_level, level >= wanted, z >= height)
    calls = np.where(fixed, limits.reached[at], calls) & (judged.seen[at] >= MATURE)
    for rung, over in (
        (ANCHOR, z > heights.anchor[of]),
        (RARE, z >= heights.rare[of]),
        (RAREST, z >= heights.rarest[of]),
    ):
        some = np.flatnonzero(over)
        if len(some):
            _mark(memory, rung, of[some], place[some])
            if rung == ANCHOR:
                memory["over"] += np.bincount(of[some], minlength=len(rows)).astype(np.uint8)
    if rules.run > 1:
        calls = _in_a_row(memory, calls, of, begin, ends, rules.run)
    some = np.flatnonzero(calls)
    if len(some):
        _begin(memory, of[some], place[some], rules.quiet)
        _mark(memory, ALARM, of[some], place[some])

    young = (memory["known"] < MATURE)[of]
    cut = np.rint(UNIT * np.clip(z, *np.where(young, WIDE, NARROW) * np.array([[-1], [1]])))
    memory["sum"] += np.add.reduceat(cut, begin)
    memory["size"] += np.add.reduceat(np.abs(cut), begin)
    memory["top"] = np.maximum(memory["top"], np.maximum.reduceat(z, begin))
    memory["count"] += taken.astype(np.uint8)

    full = np.flatnonzero(memory["count"] == BLOCK)
    if len(full):
        records = memory[full]
        usual = Usual(state.location[full], state.deviation[full])
        usual = learn(records, usual, rules.least, terms.take(full), rules.quiet)
        memory[full] = records
        state.location[full], state.deviation[full] = usual


def _mark(
    memory: NDArray[np.void], height: int, of: NDArray[np.int64], place: NDArray[np.int64]
) -> None:
    """Note the first and the last place of each row; both [h], in order."""
    new = np.diff(of, prepend=-1) != 0
    head = of[new]
    first = memory["first"]
    first[head, height] = np.minimum(first[head, height], place[new])
    memory["last"][of, height] = place  # the last one written stays


def _begin(
    memory: NDArray[np.void], of: NDArray[np.int64], place: NDArray[np.int64], quiet: int
) -> None:
    """Count the alarms that begin: at least `quiet` scores after the last one at the height."""
    new = np.diff(of, prepend=-1) != 0
    last = memory["last"][of, ALARM].astype(np.int64)
    since = np.where(last >= 0, place - last - 1, memory["quiet"][of, ALARM] + place)
    between = np.diff(place, prepend=0) - 1
    begun = np.where(new, since, between) >= quiet
    memory["begun"] += np.bincount(of[begun], minlength=len(memory)).astype(np.uint8)


def _in_a_row(
    memory: NDArray[np.void],
    calls: NDArray[np.bool_],
    of: NDArray[np.int64],
    begin: NDArray[np.int64],
    ends: NDArray[np.int64],
    least: int,
) -> NDArray[np.bool_]:
    """Those with so many calls in a row up to them."""
    place = np.arange(len(calls))
    broken = np.maximum.accumulate(np.where(calls, -1, place))
    whole = broken < begin[of]  # since before the part
    length = np.where(whole, place - begin[of] + 1 + memory["run"][of], place - broken)
    memory["run"] = np.minimum(np.where(calls[ends - 1], length[ends - 1], 0), 65535)
    return calls & (length >= least)
