"""How unusual a score is for its own series, followed online, block by block.

A score's level, and the level that raises an alarm, depend on what the blocks before its own have
taught; see lesson.py. All rows of a piece advance together, each by its own blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_detector.core.calibration.heights import Heights
from stream_detector.core.calibration.lesson import MATURE, UNIT, Terms, Usual, learn
from stream_detector.core.calibration.memory import ALARM, ANCHOR, BLOCK, RARE, RAREST
from stream_detector.core.calibration.tail import Tail, walk
from stream_detector.core.segments import heads

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
        if len(active) == len(segments):
            _advance(state, active, start, taken, t, limits, terms, rules, judged)
        else:
            part = state.take(active)
            held = terms.take(active)
            _advance(part, active, start[active], taken, t, limits, held, rules, judged)
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
    n = len(rows)
    of = np.arange(n).repeat(taken)
    ends = taken.cumsum()
    begin = ends - taken
    within = np.arange(len(of))
    at: NDArray[np.int64] | slice
    if n == 1:  # what the row has is broadcast to its scores: most of a lone series' time is calls
        at = slice(int(start[0]), int(start[0]) + len(of))
    else:
        within -= begin[of]
        at = start[of] + within

    def each(value: NDArray[Any]) -> NDArray[Any]:  # [n] -> [k], or [1]
        return value if n == 1 else value[of]

    heights = Heights.of(memory)
    here, location, deviation = t[at], each(state.location), each(state.deviation)
    z = (here - location) / deviation
    tail = Tail.at(walk(memory, of, begin, here), each(memory["tail"]), location, deviation)
    level = judged.level[at] = tail.level(here)
    asked = terms.asked(heights)
    least = each(terms.height(memory, heights, asked))
    limit = limits.t[rows]
    fixed, by_level = each(np.isfinite(limit)), each(np.isfinite(terms.level))
    need = np.where(fixed, each(limit), location + least * deviation)
    calls = np.where(fixed, limits.reached[at], z >= least)
    judged.t[at] = need
    judged.threshold[at] = tail.level(need)
    if by_level.any():
        by_level, wanted = by_level & ~fixed, each(terms.level)
        judged.t[at] = np.where(by_level, tail.t(wanted), need)
        judged.threshold[at] = np.where(by_level, wanted, judged.threshold[at])
        calls = np.where(by_level, level >= wanted, calls)
    calls &= judged.seen[at] >= MATURE

    place = each(memory["count"].astype(np.int64)) + within  # in the block
    some = (z > each(heights.anchor)).nonzero()[0]
    if len(some):
        _mark(memory, ANCHOR, of[some], place[some])
        memory["over"] += np.bincount(of[some], minlength=n).astype(np.uint8)
    for rung, height in ((RARE, heights.rare), (RAREST, heights.rarest)):
        some = (z >= each(height)).nonzero()[0]
        if len(some):
            _mark(memory, rung, of[some], place[some])
    if rules.run > 1:
        calls = _in_a_row(memory, calls, of, begin, ends, rules.run)
    some = calls.nonzero()[0]
    if len(some):
        _begin(memory, of[some], place[some], rules.quiet)
        _mark(memory, ALARM, of[some], place[some])

    _sum(memory, z, each(memory["known"]), begin)
    memory["count"] += taken.astype(np.uint8)
    _teach(state, heights, asked, terms, rules)


def _sum(
    memory: NDArray[np.void],
    z: NDArray[np.float64],  # [k]
    known: NDArray[np.float32],  # [k] or [1]
    begin: NDArray[np.int64],  # [n]
) -> None:
    most = np.where(known < MATURE, WIDE, NARROW)
    cut = np.rint(UNIT * np.minimum(np.maximum(z, -most), most))
    memory["sum"] = memory["sum"] + np.add.reduceat(cut, begin)
    memory["size"] = memory["size"] + np.add.reduceat(np.abs(cut), begin)
    memory["top"] = np.maximum(memory["top"], np.maximum.reduceat(z, begin))


def _teach(
    state: State, heights: Heights, asked: NDArray[np.float64], terms: Terms, rules: Rules
) -> None:
    """Take in the blocks that are full."""
    memory = state.memory
    full = (memory["count"] == BLOCK).nonzero()[0]
    if len(full) == len(memory):
        known = Usual(state.location, state.deviation)
        known = learn(memory, known, heights, asked, terms, rules.least, rules.quiet)
        state.location[:], state.deviation[:] = known
    elif len(full):
        records = memory[full]
        known = Usual(state.location[full], state.deviation[full])
        held, met = terms.take(full), heights.take(full)
        known = learn(records, known, met, asked[full], held, rules.least, rules.quiet)
        memory[full] = records
        state.location[full], state.deviation[full] = known


def _mark(
    memory: NDArray[np.void], height: int, of: NDArray[np.int64], place: NDArray[np.int64]
) -> None:
    """Note the first and the last place of each row; both [h], in order."""
    new = heads(of)
    head = of[new]
    first = memory["first"]
    first[head, height] = np.minimum(first[head, height], place[new])
    memory["last"][of, height] = place  # the last one written stays


def _begin(
    memory: NDArray[np.void], of: NDArray[np.int64], place: NDArray[np.int64], quiet: int
) -> None:
    """Count the alarms that begin: at least `quiet` scores after the last one at the height."""
    new = heads(of)
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
