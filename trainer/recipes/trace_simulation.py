"""Event traces of threads that loop through small state machines, with labelled faults; seeded.

An event is one of 16 variables and the time since the thread's event before. Machines have branches
and a state that is retried; several states share a variable, and each state has a usual time of its
own, a hundred times longer in one than in another: neither a look-up of pairs of variables nor a
threshold on times finds all faults. Only numpy lives here; nothing reads, writes or waits.

    machine --walk--> steps --faults--> steps, some labelled --clock--> records of a thread
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

VARIABLES = 16
USED = 8
"""Variables of one thread; those of two threads overlap."""
STAGES = ((1.0,), (0.6, 0.4), (0.7, 0.3), (0.5, 0.3, 0.2))
"""Stages of the loop in order, each with the odds of its branches."""
STATES = (2, 4)
"""States of a branch, least and most."""
RETRY = 0.3
"""Odds that the one state which can be retried is."""

MEAN_MS = 200.0
"""Mean time between two events of a thread."""
USUAL = (0.1, 10.0)
"""Range of the states' usual times, before they are brought to the common mean."""
JITTER, RARE, WIDER = 0.25, 0.04, 3.0
"""Standard deviation of log times; the odds of a wider one, and by which factor it is wider."""
START_MS = 1_767_571_200_000  # 2026-01-05T00:00:00Z

Kind = Literal["order", "delay", "burst"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LENGTH = (3, 30)
"""Records that a fault lasts, least and most; short ones are likelier."""
FACTOR = (3.0, 8.0)
"""By how much times are longer in a delay, shorter in a burst."""
QUIET = (60, 180)
"""Records between two faults, least and most."""


class Step(NamedTuple):
    state: int
    variable: int
    gap: float  # ms since the step before


class Fault(NamedTuple):
    """First and last faulty record of one thread."""

    first: int
    last: int
    kind: Kind
    form: str  # name in FORMS


@dataclass(frozen=True, slots=True)
class Records:
    """What one thread left in a trace, in time order; no two times are equal."""

    thread: str
    time: NDArray[np.int64]  # [n] ms UTC
    variable: NDArray[np.int64]  # [n]
    faults: list[Fault]

    @property
    def gap(self) -> NDArray[np.float64]:
        """[n] log10 of the ms since the thread's record before; 0 for its first."""
        return np.log10(np.diff(self.time, prepend=self.time[0] - 1))


@dataclass(frozen=True, slots=True)
class Machine:
    """S states, each with one variable; state 0 begins the loop."""

    variable: NDArray[np.int64]  # [S]
    usual: NDArray[np.float64]  # [S] median ms before a state's event
    odds: NDArray[np.float64]  # [S, S] of the state that comes next

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Machine:
        lengths = [rng.integers(STATES[0], STATES[1] + 1, len(stage)) for stage in STAGES]
        odds = _odds(lengths)
        count = len(odds)
        retried = int(rng.integers(count))
        odds[retried] *= 1 - RETRY
        odds[retried, retried] = RETRY
        used = rng.choice(VARIABLES, USED, replace=False)
        variable = used[rng.permutation(np.arange(count) % USED)]
        usual = np.exp(rng.uniform(np.log(USUAL[0]), np.log(USUAL[1]), count))
        lazy = (odds + np.eye(count)) / 2  # as often in each state, and never periodic
        visits = np.linalg.matrix_power(lazy, 2**12)[0]
        return cls(variable, usual * MEAN_MS / (usual @ visits), odds)

    def step(self, state: int, rng: np.random.Generator) -> Step:
        width = JITTER * (WIDER if rng.random() < RARE else 1.0)
        gap = self.usual[state] * np.exp(width * rng.standard_normal())
        return Step(state, int(self.variable[state]), float(gap))

    def walk(self, state: int, count: int, rng: np.random.Generator) -> list[Step]:
        """So many steps on from a state."""
        steps: list[Step] = []
        for _ in range(count):
            state = int(rng.choice(len(self.odds), p=self.odds[state]))
            steps.append(self.step(state, rng))
        return steps

    def possible(self, state: int, variables: Sequence[int]) -> bool:
        """Whether these variables can come next, in this order, after a state."""
        now = np.arange(len(self.odds)) == state
        for one in variables:
            now = (now @ (self.odds > 0)) & (self.variable == one)
        return bool(now.any())


def _odds(lengths: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """[S, S] of branches of these lengths, by stage; a branch leads to those of the next stage."""
    ends = np.cumsum(np.concatenate(lengths))
    begins = np.concatenate(([0], ends[:-1]))
    stage = np.repeat(np.arange(len(STAGES)), [len(one) for one in STAGES])  # of each branch
    odds = np.diag(np.ones(int(ends[-1]) - 1), 1)
    for end, of in zip(ends, stage, strict=True):
        following = (of + 1) % len(STAGES)
        odds[end - 1] = 0.0
        odds[end - 1, begins[stage == following]] = STAGES[following]
    return odds


def swapped(machine: Machine, state: int, count: int, rng: np.random.Generator) -> list[Step]:
    """The first two steps in the wrong order, then further neighbours."""
    steps = machine.walk(state, count, rng)
    at = 0
    while at + 1 < count:
        steps[at], steps[at + 1] = steps[at + 1], steps[at]
        at += int(rng.integers(2, 5))
    return steps


def missed(machine: Machine, state: int, count: int, rng: np.random.Generator) -> list[Step]:
    """One or two steps left out at once, then again after two to four others."""
    steps: list[Step] = []
    while len(steps) < count:
        out = int(rng.integers(1, 3))
        going = machine.walk(state, out + int(rng.integers(2, 5)), rng)
        steps += going[out:]
        state = going[-1].state
    return steps[:count]


def delayed(machine: Machine, state: int, count: int, rng: np.random.Generator) -> list[Step]:
    """Every step takes so many times longer."""
    factor = float(np.exp(rng.uniform(*np.log(FACTOR))))
    return [one._replace(gap=one.gap * factor) for one in machine.walk(state, count, rng)]


def hurried(machine: Machine, state: int, count: int, rng: np.random.Generator) -> list[Step]:
    """Every step comes so many times sooner."""
    factor = float(np.exp(rng.uniform(*np.log(FACTOR))))
    return [one._replace(gap=one.gap / factor) for one in machine.walk(state, count, rng)]


def repeated(machine: Machine, state: int, count: int, rng: np.random.Generator) -> list[Step]:
    """The state itself again and again, at its usual pace."""
    return [machine.step(state, rng) for _ in range(count)]


Form = Callable[[Machine, int, int, np.random.Generator], list[Step]]
"""A machine, the state it is in, and how many steps to make."""
FORMS: dict[Kind, dict[str, Form]] = {
    "order": {"swap": swapped, "miss": missed},
    "delay": {"delay": delayed},
    "burst": {"burst": hurried, "repeat": repeated},
}
TIMES = ("delay", "burst")
"""Forms that change times alone. Others count only where the machine could not do the same."""


def simulate(seed: int, threads: int, clean: int, faulty: int) -> list[Records]:
    """Of each thread `clean` records without a fault, then `faulty` with faults of all kinds.

    A thread's records depend on the seed and its number alone.
    """
    found = []
    for number in range(threads):
        rng = np.random.default_rng((seed, number))
        steps, faults = _run(Machine.drawn(rng), clean, faulty, rng)
        order = np.arange(len(steps))
        due = np.ceil(np.cumsum([one.gap for one in steps])).astype(np.int64)
        time = START_MS + np.maximum.accumulate(due - order) + order
        variable = np.array([one.variable for one in steps])
        found.append(Records(f"thread-{number}", time, variable, faults))
    return found


def _run(
    machine: Machine, clean: int, faulty: int, rng: np.random.Generator
) -> tuple[list[Step], list[Fault]]:
    """Kinds come in random order, each as often as the others; after the last fault it is quiet."""
    steps = machine.walk(0, clean, rng)
    faults: list[Fault] = []
    kinds: list[Kind] = []
    while True:
        steps += machine.walk(steps[-1].state, int(rng.integers(QUIET[0], QUIET[1] + 1)), rng)
        kinds = kinds or [KINDS[place] for place in rng.permutation(len(KINDS))]
        kind = kinds.pop()
        form = str(rng.choice(list(FORMS[kind])))
        count = int(np.exp(rng.uniform(np.log(LENGTH[0]), np.log(LENGTH[1] + 1))))
        while True:
            state = steps[-1].state
            wrong = FORMS[kind][form](machine, state, count, rng)
            if form in TIMES or not machine.possible(state, [one.variable for one in wrong]):
                break
            steps += machine.walk(state, 1, rng)
        if len(steps) + count + QUIET[0] > clean + faulty:
            missing = max(clean + faulty - len(steps), 0)
            return (steps + machine.walk(steps[-1].state, missing, rng))[: clean + faulty], faults
        faults.append(Fault(len(steps), len(steps) + count - 1, kind, form))
        steps += wrong


def csv_lines(threads: Sequence[Records]) -> Iterator[str]:
    """The trace as a file that `fit` and `replay` read: all threads, in time order."""
    variables = [f"v{number:02d}" for number in range(VARIABLES)]
    yield ",".join(["timestamp", "series", *variables, "gap"])
    of = np.repeat(np.arange(len(threads)), [len(one.time) for one in threads])
    time, variable, gap = (
        np.concatenate([getattr(one, name) for one in threads])
        for name in ("time", "variable", "gap")
    )
    for row in np.lexsort((of, time)).tolist():
        marks = ["1" if number == variable[row] else "0" for number in range(VARIABLES)]
        yield ",".join([str(time[row]), threads[of[row]].thread, *marks, f"{gap[row]:.6g}"])
