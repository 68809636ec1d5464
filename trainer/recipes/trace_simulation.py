"""Event traces of threads that loop through small state machines, with labelled faults; seeded.

An event is one of 16 variables and the time since the event before it. Machines have branches and
a state that is retried; several states share a variable, and each state has a usual time of its
own, a hundred times longer in one than in another: neither a look-up of pairs of variables nor a
threshold on times finds all faults. Only numpy lives here.

    machine --walk--> steps of a thread --fault--> steps, some of them labelled --clock--> records
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

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
"""Standard deviation of the logarithm of times; rare ones have a wider one by this factor."""

Kind = Literal["order", "delay", "burst"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LENGTH = (3, 30)
"""Records that a fault lasts, least and most; short ones are likelier."""
FACTOR = (3.0, 8.0)
"""By how much times are longer in a delay, shorter in a burst."""
QUIET = (60, 180)
"""Records between two faults, least and most."""
START_MS = 1_767_571_200_000  # 2026-01-05T00:00:00Z


class Fault(NamedTuple):
    """First and last of a thread's records that are faulty."""

    first: int
    last: int
    kind: Kind
    form: str  # swap and miss are of order, repeat of burst


class Step(NamedTuple):
    state: int
    variable: int
    gap: float  # ms since the thread's step before


@dataclass(frozen=True, slots=True)
class Records:
    """What one thread left in the trace, in time order; no two times are equal."""

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
        count = int(sum(map(np.sum, lengths)))
        used = rng.choice(VARIABLES, USED, replace=False)
        variable = used[rng.permutation(np.arange(count) % USED)]
        odds = _odds(lengths, count)
        retried = int(rng.integers(count))
        odds[retried] *= 1 - RETRY
        odds[retried, retried] += RETRY
        usual = np.exp(rng.uniform(*np.log(USUAL), count))
        visits = np.linalg.matrix_power((odds + np.eye(count)) / 2, 2**12)[0]
        return cls(variable, usual * MEAN_MS / (usual @ visits), odds)

    def step(self, state: int, rng: np.random.Generator) -> Step:
        width = JITTER * (WIDER if rng.random() < RARE else 1.0)
        gap = self.usual[state] * np.exp(width * rng.standard_normal())
        return Step(state, int(self.variable[state]), float(gap))

    def walk(self, state: int, steps: int, rng: np.random.Generator) -> list[Step]:
        """So many steps on from a state."""
        found: list[Step] = []
        for _ in range(steps):
            state = int(rng.choice(len(self.odds), p=self.odds[state]))
            found.append(self.step(state, rng))
        return found

    def possible(self, state: int, variables: Sequence[int]) -> bool:
        """Whether these variables can come next, in this order, after a state."""
        now = np.arange(len(self.odds)) == state
        for one in variables:
            now = (now @ (self.odds > 0)) & (self.variable == one)
        return bool(now.any())


def _odds(lengths: Sequence[NDArray[np.int64]], count: int) -> NDArray[np.float64]:
    """States in order of stage and branch; a branch's last state leads to the next stage."""
    ends = np.cumsum(np.concatenate(lengths))
    begins = np.concatenate(([0], ends[:-1]))
    odds = np.diag(np.ones(count - 1), 1)
    odds[ends[:-1] - 1] = 0.0
    firsts = np.cumsum([0, *map(len, STAGES)])
    for number, _ in enumerate(STAGES):
        following = (number + 1) % len(STAGES)
        into = begins[firsts[following] : firsts[following] + len(STAGES[following])]
        for end in ends[firsts[number] : firsts[number + 1]]:
            odds[end - 1, into] = STAGES[following]
    return odds


def swapped(machine: Machine, state: int, length: int, rng: np.random.Generator) -> list[Step]:
    """Neighbours in the wrong order, the first two and then some more."""
    steps = machine.walk(state, length, rng)
    at = 0
    while at + 1 < length:
        steps[at], steps[at + 1] = steps[at + 1], steps[at]
        at += int(rng.integers(2, 5))
    return steps


def missed(machine: Machine, state: int, length: int, rng: np.random.Generator) -> list[Step]:
    """One or two steps are left out, first at once and then again and again."""
    steps: list[Step] = []
    while len(steps) < length:
        out = int(rng.integers(1, 3))
        going = machine.walk(state, out + int(rng.integers(2, 5)), rng)
        steps += going[out:]
        state = going[-1].state
    return steps[:length]


def repeated(machine: Machine, state: int, length: int, rng: np.random.Generator) -> list[Step]:
    """The state again and again."""
    return [machine.step(state, rng) for _ in range(length)]


def delayed(machine: Machine, state: int, length: int, rng: np.random.Generator) -> list[Step]:
    factor = np.exp(rng.uniform(*np.log(FACTOR)))
    return [one._replace(gap=one.gap * factor) for one in machine.walk(state, length, rng)]


def hurried(machine: Machine, state: int, length: int, rng: np.random.Generator) -> list[Step]:
    factor = np.exp(rng.uniform(*np.log(FACTOR)))
    return [one._replace(gap=one.gap / factor) for one in machine.walk(state, length, rng)]


Form = Callable[[Machine, int, int, np.random.Generator], list[Step]]
FORMS: dict[Kind, dict[str, Form]] = {
    "order": {"swap": swapped, "miss": missed},
    "delay": {"delay": delayed},
    "burst": {"burst": hurried, "repeat": repeated},
}
IMPOSSIBLE = ("swap", "miss", "repeat")
"""Forms that count only where the machine itself could not have done the same."""


def run(machine: Machine, clean: int, faulty: int, rng: np.random.Generator) -> tuple[list[Step], list[Fault]]:
    """`clean` steps without faults, then `faulty` with them."""
    steps, faults, kinds = machine.walk(0, clean, rng), [], []
    total = clean + faulty
    while True:
        steps += machine.walk(steps[-1].state, int(rng.integers(QUIET[0], QUIET[1] + 1)), rng)
        kinds = kinds or list(rng.permutation(len(KINDS)))
        kind = KINDS[kinds.pop()]
        form = list(FORMS[kind])[int(rng.integers(len(FORMS[kind])))]
        length = int(np.exp(rng.uniform(np.log(LENGTH[0]), np.log(LENGTH[1] + 1))))
        while True:
            state = steps[-1].state
            found = FORMS[kind][form](machine, state, length, rng)
            if form not in IMPOSSIBLE or not machine.possible(state, [one.variable for one in found]):
                break
            steps += machine.walk(state, 1, rng)
        if len(steps) + len(found) + QUIET[0] > total:
            return (steps)[:total], faults
        faults.append(Fault(len(steps), len(steps) + len(found) - 1, kind, form))
        steps += found


def simulate(seed: int, threads: int, clean: int, faulty: int) -> list[Records]:
    result = []
    for number in range(threads):
        rng = np.random.default_rng((seed, number))
        steps, faults = run(Machine.drawn(rng), clean, faulty, rng)
        order = np.arange(len(steps))
        time = np.cumsum([one.gap for one in steps])
        time = np.maximum.accumulate(np.ceil(time).astype(np.int64) - order) + order
        result.append(Records(f"thread-{number}", START_MS + time, np.array([one.variable for one in steps]), faults))
    return result
