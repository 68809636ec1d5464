"""Many schedules, several side by side, and what they prove together."""

from __future__ import annotations

import shutil
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from stream_detector.config import DetectorConfig
from tests.chaos.brokers import Lane
from tests.chaos.children import preload
from tests.chaos.faults import FAULTS
from tests.chaos.samples import Told, oracle
from tests.chaos.schedules import PORTIONS, draw, places
from tests.chaos.supervisor import Supervisor
from tests.chaos.worker import load

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from tests.chaos.samples import Oracle
    from tests.chaos.schedules import Schedule, Where

BASE: dict[str, Any] = {
    "source": "plant",
    "commit_every": "200ms",
    # Nothing but the input decides what is said: ticks would follow the wall clock.
    "time": {"tick_every": None, "evict_after": "8h"},
    "limits": {"max_batch": 50},
    "episodes": {
        "quiet_period": 9,
        "update_every": "15m",
        "silent_after": "40m",
        "regime_change_after": "4h",
        "flatline_after": 20,
    },
}


@dataclass(frozen=True)
class Verdict:
    """One schedule against the oracle."""

    schedule: Schedule
    told: Told
    expected: int = 0
    lost: int = 0
    doubled: int = 0
    other: int = 0  # events, letters that the oracle doesn't know
    unlike: int = 0  # same id, another body
    equal: bool = False
    undeclared: bool = False  # a partition lost its snapshots, and nobody said so
    failures: list[str] = field(default_factory=list)


def judge(schedule: Schedule, told: Told, truth: Oracle, delivery: str) -> Verdict:
    """All partitions but the one whose snapshots were all destroyed must be exact."""
    said, harmed = told.output, told.degraded
    assert said is not None
    wanted = {
        id_: body for id_, partition, body in truth.output.events if partition != harmed
    } | dict.fromkeys(_counted(truth.output.letters, harmed), "")
    ids: Counter[str] = Counter()
    unlike = 0
    for id_, partition, body in said.events:
        if partition != harmed:
            ids[id_] += 1
            unlike += wanted.get(id_, body) != body
    ids.update(_counted(said.letters, harmed))
    lost = len(wanted.keys() - ids.keys())
    doubled = sum(count - 1 for count in ids.values())
    other = len(ids.keys() - wanted.keys())
    equal = all(told.hashes.get(n) == truth.hashes[n] for n in truth.hashes if n != harmed)
    declared = told.restores["bounded"] + told.restores["partial"] > 0
    undeclared = harmed is not None and not declared
    failures = list(told.problems)
    failures += [f"{lost} lost"] if lost else []
    failures += [f"{doubled} doubled"] if doubled and delivery == "exactly_once" else []
    failures += [f"{other} with another id"] if other else []
    failures += [f"{unlike} with another body"] if unlike else []
    failures += [] if equal else ["another state"]
    failures += [f"{told.unscored} records not scored"] if told.unscored else []
    failures += ["degraded in silence"] if undeclared else []
    return Verdict(
        schedule, told, len(wanted), lost, doubled, other, unlike, equal, undeclared, failures
    )


def _counted(letters: list[str], harmed: int | None) -> list[str]:
    return [each for each in letters if each.split("/")[0] != str(harmed)]


class Campaign:
    def __init__(
        self,
        folder: Path,
        *,
        schedules: int,
        delivery: str,
        seed: int,
        kinds: Collection[str] = tuple(FAULTS),
        torch: int = 0,
        registry: Path | None = None,
        parallel: int = 4,
        until: float = float("inf"),
        where: Where | None = None,
        session: float = 2.0,
    ) -> None:
        """`until`: monotonic clock, no schedule begins later; `where`: all run on such brokers;
        `session`: kafka.session_timeout, s.
        """
        self._session = session
        self._folder = folder
        self._delivery = delivery
        self._seed = seed
        self._began = time.monotonic()
        self._until = until
        self._parallel = parallel
        self._registry = registry
        self._drawn = [
            draw(
                number,
                seed,
                kinds,
                place,
                torch=number < torch,
                transactions=delivery == "exactly_once",
            )
            for number, place in enumerate(
                [where] * schedules if where else places(schedules, kinds)
            )
        ]
        self._truths: dict[tuple[int, bool], Oracle] = {}
        self._lock = threading.Lock()
        self.verdicts: list[Verdict] = []
        preload(torch=torch > 0)

    def run(self, progress: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """The report; `progress` is called with the one so far after each schedule."""
        with ExitStack() as stack:
            lanes: dict[Where, Lane] = {}
            groups: dict[Where, list[Schedule]] = {}
            for schedule in self._drawn:
                groups.setdefault(schedule.where, []).append(schedule)
            for where in groups:
                lane = lanes[where] = Lane(
                    3 if where == "cluster" else 1, proxied=where == "broker"
                )
                stack.callback(lane.close)
            parallel = self._parallel
            pools = [
                # Brokers that faults are meant for serve one schedule at a time.
                (where, stack.enter_context(ThreadPoolExecutor(parallel if where == "any" else 1)))
                for where in groups
            ]
            futures = [
                pool.submit(self._one, schedule, lanes[where], progress)
                for where, pool in pools
                for schedule in groups[where]
            ]
            for future in futures:
                future.result()
        return self._report()

    def _truth(self, schedule: Schedule) -> Oracle:
        key = (schedule.variant, schedule.torch)
        with self._lock:
            if key not in self._truths:
                settings = self._base(schedule) | {
                    "kafka": {"bootstrap_servers": ["none"], "group_id": "none"},
                    "input": {"topics": ["in"]},
                    "output": {"topic": "out", "dead_letter_topic": "dead"},
                }
                config = msgspec.convert(settings, DetectorConfig)
                self._truths[key] = oracle(config, load(config), schedule.variant, PORTIONS)
            return self._truths[key]

    def _base(self, schedule: Schedule) -> dict[str, Any]:
        registry = self._registry if schedule.torch else None
        return BASE | {"model": {"registry": str(registry or "numpy"), "name": "g"}}

    def _one(
        self, schedule: Schedule, lane: Lane, progress: Callable[[dict[str, Any]], None]
    ) -> None:
        if time.monotonic() > self._until:
            return
        folder = self._folder / schedule.name
        truth = self._truth(schedule)
        try:
            folder.mkdir(parents=True)
            told = Supervisor(
                schedule,
                truth,
                lane,
                folder,
                self._delivery,
                self._base(schedule),
                self._session,
            ).run()
            verdict = judge(schedule, told, truth, self._delivery)
        except Exception as error:  # noqa: BLE001  # one schedule must not end the others
            folder.with_suffix(".error").write_text(traceback.format_exc(), "utf-8")
            verdict = Verdict(schedule, Told(), failures=[f"broken off: {error!r}"])
        if not verdict.failures:
            shutil.rmtree(folder, ignore_errors=True)
        with self._lock:
            self.verdicts.append(verdict)
            progress(self._report())

    def _report(self) -> dict[str, Any]:
        every = self.verdicts
        faults: Counter[str] = Counter()
        unfired: Counter[str] = Counter()
        restores: Counter[str] = Counter()
        crashes: Counter[str] = Counter()
        for each in every:
            faults += each.told.faults
            unfired.update(each.told.unfired)
            restores += each.told.restores
            crashes.update(each.told.crashes)
        return {
            "schedules": len(every),
            "kills": sum(each.told.kills for each in every),
            "delivery": self._delivery,
            "seed": self._seed,
            "session_timeout": self._session,
            "torch_schedules": sum(each.schedule.torch for each in every),
            "static_member_schedules": sum(each.schedule.static for each in every),
            "faults": dict(faults),
            "unfired": dict(unfired),
            "expected": sum(each.expected for each in every),
            "lost": sum(each.lost for each in every),
            "doubled": sum(each.doubled for each in every),
            "other_id_duplicates": sum(each.other for each in every),
            "same_id_other_body": sum(each.unlike for each in every),
            "unscored": sum(each.told.unscored for each in every),
            "hashes_equal": all(each.equal for each in every),
            "hashes_unequal_schedules": sum(not each.equal for each in every),
            "degraded_schedules": sum(each.told.degraded is not None for each in every),
            "degraded_in_silence": sum(each.undeclared for each in every),
            "restores": dict(restores),
            "crashes": dict(crashes),
            "fewest_kills": min((each.told.kills for each in every), default=0),
            "failed": [
                {
                    "schedule": each.schedule.number,
                    "where": each.schedule.where,
                    "why": each.failures,
                    "steps": [step.fault for step in each.schedule.steps],
                }
                for each in sorted(every, key=lambda each: each.schedule.number)
                if each.failures
            ],
            "seconds": round(time.monotonic() - self._began, 1),
        }
