"""Runs one schedule: gives orders to workers, harms what lies around them, reads what they did."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import yaml

from stream_detector.adapters.kafka import committed
from stream_detector.formats import checkpoint
from stream_detector.formats.snapshots import offset_of
from tests.chaos.faults import FAULTS, Order, tally
from tests.chaos.fleet import Fleet
from tests.chaos.machine import Disk, set_clock
from tests.chaos.samples import PARTITIONS, Output
from tests.chaos.worker import CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.chaos.brokers import Lane
    from tests.chaos.children import Worker
    from tests.chaos.samples import Oracle, Told
    from tests.chaos.schedules import Schedule, Step

MAX_POLL = 3.0  # s, of the shortest sessions; a turn takes seconds on a busy machine
DRAIN = 120.0  # s without a record; on a busy machine members are thrown out again and again
RESTORED = re.compile(r"\[(\d+)\]: state in place \((\w+)\)")


class Supervisor(Fleet):
    def __init__(
        self,
        schedule: Schedule,
        oracle: Oracle,
        lane: Lane,
        folder: Path,
        delivery: str,
        base: Any,
        session: float,
    ) -> None:
        """`base`: the configuration but for names, brokers and snapshots; `session`: in s."""
        super().__init__(schedule, folder)
        self._oracle = oracle
        self._lane = lane
        self._delivery = delivery
        self._max_poll = max(MAX_POLL, 3 * (session - 1))
        self._patience = 6 + 3 * session  # s until a fault counts as not fired
        self._disk: Disk | None = None
        self._fed = 0
        name = f"{folder.name}-{os.getpid()}"
        self._input, self._events, self._letters = (f"{name}-{n}" for n in ("in", "out", "dead"))
        self._settings = base | {
            "kafka": {
                "bootstrap_servers": lane.for_workers,
                "group_id": name,
                "session_timeout": f"{session:g}s",
                "max_poll_interval": f"{self._max_poll:g}s",
                # Many workers wait side by side: they need not ask twenty times a second.
                "fetch_max_wait": "500ms",
            },
            "input": {"topics": [self._input], "start": "earliest"},
            "output": {"topic": self._events, "dead_letter_topic": self._letters},
            "delivery": delivery,
            "snapshots": {
                "url": str(folder / "snapshots"),
                "every": f"{round(1000 * schedule.every)}ms",
            },
        }

    def run(self) -> Told:
        began = time.monotonic()
        try:
            self._prepare()
            for step in self._schedule.steps:
                self._step(step)
            self._finish()
        finally:
            for worker in self._workers:
                worker.signal(signal.SIGKILL)
            for worker in self._workers:
                worker.wait(10)
            if self._disk is not None:
                self._disk.close()
        said = self._said
        lines = self._journal()
        said.faults += tally(lines)
        said.unscored = self._unscored(lines)
        for log in self._folder.glob("worker-*.log"):
            for _, outcome in RESTORED.findall(log.read_text("utf-8", "replace")):
                said.restores[outcome] += 1
        isolation = "read_committed" if self._delivery == "exactly_once" else "read_uncommitted"
        said.output = Output.of(
            self._lane.messages(self._events, isolation),
            self._lane.messages(self._letters, isolation),
        )
        self._lane.drop([self._input, self._events, self._letters])
        said.seconds = time.monotonic() - began
        return said

    # What is around the workers

    def _prepare(self) -> None:
        self._configure()
        if any(step.fault == "disk_full" for step in self._schedule.steps):
            self._disk = Disk(self._folder / "snapshots")
        self._lane.create({self._input: PARTITIONS, self._events: 1, self._letters: 1})

    def _configure(self, **changes: Any) -> None:
        self._settings |= changes
        staged = self._folder / f"{CONFIG}.new"
        staged.write_text(yaml.safe_dump(self._settings), "utf-8")
        staged.replace(self._folder / CONFIG)

    def _feed(self) -> None:
        if self._fed < len(self._oracle.portions):
            self._lane.put(self._input, self._oracle.portions[self._fed])
            self._fed += 1

    def _unscored(self, lines: list[list[str]]) -> int:
        """Records that no worker dealt with live."""
        dealt: dict[int, set[int]] = {number: set() for number in range(PARTITIONS)}
        for _, number, start, end in (words for words in lines if words[0] == "dealt"):
            dealt[int(number)].update(range(int(start), int(end)))
        return sum(len(set(range(end)) - dealt[n]) for n, end in self._oracle.ends.items())

    # Steps

    def _step(self, step: Step) -> None:
        fault = FAULTS[step.fault]
        before = len(self._alive())
        if before and step.workers != before:
            self._said.faults["scale_up" if step.workers > before else "scale_down"] += 1
        if fault.place:
            self._order(step)
        else:
            self._scale(step.workers)
            harm: Callable[[Step], bool] = getattr(self, f"_{step.fault}")
            if harm(step):
                self._said.faults[step.fault] += 1
            else:
                self._said.unfired.append(step.fault)
        self._scale(step.workers)

    def _order(self, step: Step) -> None:
        """Each worker gets the order; the first that comes to the place does it."""
        order = Order(step.fault, step.call, self._too_long(step))
        seen = tally(self._journal())[step.fault]
        if FAULTS[step.fault].restarts:
            self._wait(self._has_files, self._patience, step.workers, None)
            self._feed()
            self._wait(lambda: False, self._rng.uniform(0.05, 0.5), step.workers, None)
            for worker in self._alive()[:1]:
                self._kill(worker)
        for worker in self._alive():
            worker.orders.give(order)
        self._scale(step.workers, order)
        self._feed()
        fired = self._wait(
            lambda: tally(self._journal())[step.fault] > seen, self._patience, step.workers, order
        )
        if not fired:
            self._said.unfired.append(step.fault)
        elif FAULTS[step.fault].does == "refuse":
            self._feed()
            self._wait(lambda: False, 2.0, step.workers, order)
        for worker in self._workers:
            worker.orders.give()

    def _too_long(self, step: Step) -> float:
        """So many seconds without a poll cost a worker its partitions."""
        return step.amount + self._max_poll - MAX_POLL

    def _kill_any_time(self, step: Step) -> bool:
        self._feed()
        self._wait(lambda: False, self._rng.uniform(0, 2.5), step.workers, None)
        alive = self._alive()
        if not alive:
            return False
        self._kill(self._rng.choice(alive))
        return True

    def _sigstop(self, step: Step) -> bool:
        self._feed()
        self._wait(lambda: False, self._rng.uniform(0.1, 1.5), step.workers, None)
        alive = self._alive()
        if not alive:
            return False
        worker = self._rng.choice(alive)
        worker.signal(signal.SIGSTOP)
        time.sleep(self._too_long(step))
        worker.signal(signal.SIGCONT)
        return True

    def _clock_jump(self, step: Step) -> bool:
        """The workers that are there go wrong, those that start meanwhile are right."""
        wrong: list[Worker] = []

        def jump() -> None:
            if not any(worker in self._workers for worker in wrong):
                wrong[:] = self._alive()
                for worker in wrong:
                    set_clock(worker.task.clock, step.amount)

        try:
            return self._until_noticed("jumped", step, jump)
        finally:
            for worker in wrong:
                set_clock(worker.task.clock, 0)

    def _disk_full(self, step: Step) -> bool:
        assert self._disk is not None
        try:
            return self._until_noticed("full", step, self._disk.fill)
        finally:
            self._disk.free()

    def _until_noticed(
        self, word: str, step: Step, again: Callable[[], object] = lambda: None
    ) -> bool:
        """Until a worker has written so into its journal, and 2 s more; `again` and `again`."""

        def times() -> int:
            again()
            return sum(words[0] == word for words in self._journal())

        before = times()
        self._feed()
        if not self._wait(lambda: times() > before, self._patience, step.workers, None):
            return False
        self._feed()
        self._wait(lambda: times() < 0, 2.0, step.workers, None)
        return True

    def _broker_restart(self, step: Step) -> bool:
        self._feed()
        (node,) = self._lane.nodes
        node.stop(hard=self._rng.random() < 0.5)
        try:
            time.sleep(step.amount)
        finally:
            node.start()
        return True

    def _network_cut(self, step: Step) -> bool:
        self._feed()
        assert self._lane.proxy is not None
        self._lane.proxy.cut(step.amount)
        return True

    def _leader_change(self, step: Step) -> bool:
        self._feed()
        node = self._lane.leader(self._input)
        if not 0 <= node < len(self._lane.nodes):
            return False
        self._lane.nodes[node].stop(hard=True)
        try:
            changed = self._wait(
                lambda: self._lane.leader(self._input) not in {-1, node}, 20, step.workers, None
            )
            self._wait(lambda: False, step.amount, step.workers, None)
        finally:
            self._lane.nodes[node].start()
        return changed

    # Snapshots

    def _stand(self) -> dict[int, tuple[int, checkpoint.Checkpoint]]:
        """Of each partition that was committed: the offset, and what the commit says."""
        group = self._settings["kafka"]["group_id"]
        found = committed(self._lane.kafka(group))
        read = {p.number: (at.offset, checkpoint.decode(at.metadata)) for p, at in found.items()}
        return {number: (at, said) for number, (at, said) in read.items() if said is not None}

    def _all_die(self, step: Step, ready: Callable[[], bool]) -> bool:
        self._feed()
        if not self._wait(ready, self._patience, step.workers, None):
            return False
        self._feed()
        self._wait(lambda: False, self._rng.uniform(0.1, 0.6), step.workers, None)
        for worker in self._alive():
            worker.signal(signal.SIGKILL)
        for worker in list(self._workers):
            worker.wait(10)
        return True

    def _has_files(self) -> bool:
        """There are snapshots of every partition."""
        return len({path.parent for path in self._folder.rglob("*.state")}) == PARTITIONS

    def _snapshotted(self, generations: int) -> Callable[[], bool]:
        def ready() -> bool:
            if not self._has_files():
                return False
            time.sleep(0.3)
            stand = self._stand()
            enough = [n for n, (_, said) in stand.items() if len(said.snapshots) >= generations]
            return len(enough) == PARTITIONS

        return ready

    def _flip(self, number: int, names: list[str]) -> None:
        (folder,) = (self._folder / "snapshots").glob(f"*/{self._input}-{number}")
        for name in names:
            path = folder / f"{name}.state"
            data = bytearray(path.read_bytes())
            data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)
            path.write_bytes(data)

    def _snapshot_flipped(self, step: Step) -> bool:
        if not self._all_die(step, self._snapshotted(2)):
            return False
        stand = self._stand()
        number = self._rng.choice([n for n in stand if len(stand[n][1].snapshots) > 1])
        self._flip(number, stand[number][1].snapshots[:1])
        return True

    def _snapshots_all_flipped(self, step: Step) -> bool:
        if not self._all_die(step, self._snapshotted(1)):
            return False
        stand = self._stand()
        number = self._rng.choice(sorted(stand))
        self._flip(number, stand[number][1].snapshots)
        self._said.degraded = number
        self._configure(restore={"max_replay": 150})
        return True

    def _trimmed_past_replay(self, step: Step) -> bool:
        for _ in range(3):
            if not self._all_die(step, self._snapshotted(1)):
                return False
            stand = self._stand()
            behind = [
                (number, at)
                for number, (at, said) in stand.items()
                if at > (offset_of(said.snapshots[0]) or 0)
            ]
            if behind:
                number, at = self._rng.choice(behind)
                self._lane.trim(self._input, number, at)
                self._said.degraded = number
                return True
            self._scale(step.workers)
        return False

    # The end

    def _finish(self) -> None:
        while self._fed < len(self._oracle.portions):
            self._feed()
        workers = self._schedule.steps[-1].workers

        def drained() -> bool:
            return self._unscored(self._journal()) == 0

        left = self._unscored(self._journal())
        while not self._wait(drained, DRAIN, workers, None):
            before, left = left, self._unscored(self._journal())
            if left >= before:
                self._said.problems.append(f"{left} records not read, none in {DRAIN:g} s")
                for worker in self._alive():
                    worker.signal(signal.SIGUSR1)
                time.sleep(1)  # until they have told where they are
                break
        self._scale(0)
        for worker in list(self._workers):
            if not worker.wait(20):
                self._said.problems.append("a worker did not stop when asked")
                self._kill(worker)
            self._over(worker)
        last = self._start(self._oracle.ends)
        last.stopping = True
        if not last.wait(2 * DRAIN):
            self._said.problems.append("the last worker did not come to the end")
        self._over(last)
        if last.task.state.exists():
            found = json.loads(last.task.state.read_text("utf-8"))
            self._said.hashes = {int(number): hashes for number, hashes in found.items()}
