"""What is to happen, drawn from a seed."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Literal, NamedTuple

from tests.chaos.faults import FAULTS, KILLS, OTHERS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

STEPS = 12
KILL_STEPS = 9  # at least
PORTIONS = STEPS + 6  # of the input; some steps take two
VARIANTS = 4  # of the input
DEGRADED = 0.25  # share of schedules in which a partition loses all its snapshots
WORKERS = (1, 1, 3, 3, 3, 2, 2, 1, 2, 3, 1, 2)  # up and down, step by step

Where = Literal["any", "broker", "cluster"]


class Step(NamedTuple):
    fault: str
    workers: int
    call: int
    amount: float  # s


class Schedule(NamedTuple):
    number: int
    where: Where
    variant: int  # of the input
    torch: bool
    static: bool  # workers have a kafka.group_instance_id
    every: float  # s between snapshots
    seed: int  # of what is decided on the way
    steps: Sequence[Step]

    @property
    def name(self) -> str:
        return f"schedule-{self.number}"


def draw(
    number: int,
    seed: int,
    kinds: Collection[str],
    where: Where = "any",
    *,
    torch: bool = False,
    transactions: bool = False,
) -> Schedule:
    """Faults of these kinds; where none of them is a kill, or all are, only such."""
    kinds = [kind for kind in kinds if transactions or not FAULTS[kind].transactions]
    rng = random.Random(f"{seed}-{number}")
    kills = [fault.name for fault in KILLS if fault.name in kinds]
    others = [
        fault.name
        for fault in OTHERS
        if fault.name in kinds and fault.where in {"any", where} and not fault.degrades
    ]
    own = [fault.name for fault in OTHERS if fault.name in kinds and fault.where == where != "any"]
    harm = [fault.name for fault in OTHERS if fault.name in kinds and fault.degrades]
    chosen: list[str] = []
    if own:
        chosen.append(rng.choice(own))
    if harm and (rng.random() < DEGRADED or not (kills or others)):
        chosen.append(rng.choice(harm))
    if others:
        chosen += rng.sample(others, min(len(others), STEPS - KILL_STEPS - len(chosen)))
    pool: list[str] = []
    while kills and len(chosen) < STEPS:  # each kind before any comes again
        pool = pool or rng.sample(kills, len(kills))
        chosen.append(pool.pop())
    rng.shuffle(chosen)
    steps = [
        Step(name, workers, rng.randint(1, FAULTS[name].calls), _amount(name, rng, transactions))
        for name, workers in zip(chosen, WORKERS, strict=False)
    ]
    return Schedule(
        number=number,
        where=where,
        variant=number % VARIANTS,
        torch=torch,
        static=rng.random() < 0.5,
        every=rng.choice((0.4, 1.5)),
        seed=rng.randrange(1 << 30),
        steps=tuple(steps),
    )


def _amount(name: str, rng: random.Random, transactions: bool) -> float:  # noqa: FBT001
    if name == "clock_jump":
        return rng.choice((-1, 1)) * math.exp(rng.uniform(math.log(60), math.log(1e6)))
    if transactions and name in {"sigstop", "stall"} and rng.random() < 0.3:
        return rng.uniform(11, 12)  # the broker has given the transaction up meanwhile
    return rng.uniform(*{"network_cut": (1, 7), "broker_restart": (0, 3)}.get(name, (4.5, 6)))


def places(count: int, kinds: Collection[str]) -> list[Where]:
    """Which brokers each schedule runs on: most share one."""
    wanted: list[Where] = ["any"] * count
    for where, every, first in (("broker", 6, 2), ("cluster", 12, 5)):
        if any(FAULTS[kind].where == where for kind in kinds):
            wanted[first::every] = [where] * len(wanted[first::every])  # type: ignore[list-item]
    return wanted
