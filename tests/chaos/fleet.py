"""The workers of one schedule: started, given orders, and started again when they are gone."""

from __future__ import annotations

import random
import signal
import time
from itertools import count
from typing import TYPE_CHECKING

from tests.chaos.children import Worker, fork
from tests.chaos.faults import Order, Orders
from tests.chaos.samples import Told
from tests.chaos.worker import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.chaos.schedules import Schedule

ENDED_WELL = {0, -signal.SIGKILL, -signal.SIGTERM}  # when asked, or before it could listen


class Fleet:
    """Does what whoever runs the service would do, and nothing more."""

    def __init__(self, schedule: Schedule, folder: Path) -> None:
        self._schedule = schedule
        self._folder = folder
        self._rng = random.Random(schedule.seed)
        self._workers: list[Worker] = []
        self._tasks: list[Task] = []
        self._lines: list[list[str]] = []  # of all journals, as far as they were read
        self._read: dict[Path, int] = {}  # bytes of each journal
        self._said = Told()
        self._clock = any(step.fault == "clock_jump" for step in schedule.steps)

    def _journal(self) -> list[list[str]]:
        for path in (task.journal for task in self._tasks):
            if not path.exists() or path.stat().st_size == self._read.get(path, 0):
                continue
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            self._lines += [line.split() for line in whole.decode().splitlines()]
        return self._lines

    def _start(self, ends: Mapping[int, int] | None = None, order: Order | None = None) -> Worker:
        instance = None
        if self._schedule.static:
            taken = {worker.task.instance for worker in self._workers}
            instance = next(name for n in count() if (name := f"worker-{n}") not in taken)
        task = Task(self._folder, len(self._tasks) + 1, instance, ends)
        self._tasks.append(task)
        orders = Orders(task.orders)
        if order is not None:
            orders.give(order)
        worker = fork(task, orders, clock=self._clock)
        self._workers.append(worker)
        return worker

    def _alive(self) -> list[Worker]:
        return [each for each in self._workers if not each.stopping and not self._over(each)]

    def _over(self, worker: Worker) -> bool:
        if not worker.ended():
            return False
        self._workers.remove(worker)
        if worker.code == -signal.SIGKILL:
            self._said.kills += 1
        elif worker.code not in ENDED_WELL or not worker.stopping:
            *_, last = worker.task.log.read_text("utf-8", "replace").splitlines() or [""]
            self._said.crashes.append(f"exit {worker.code}: {last[-300:]}")
        return True

    def _scale(self, wanted: int, order: Order | None = None) -> None:
        """As many workers as wanted; those that are too many are asked to leave."""
        for worker in list(self._workers):
            self._over(worker)
        alive = self._alive()
        for worker in alive[wanted:]:
            worker.stopping = True
            worker.signal(signal.SIGTERM)
        for _ in range(wanted - len(alive)):
            self._start(order=order)

    def _wait(
        self, done: Callable[[], bool], seconds: float, workers: int, order: Order | None
    ) -> bool:
        """False where it is not done in time; whoever died meanwhile is replaced."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
            self._scale(workers, order)
        return True

    def _kill(self, worker: Worker) -> None:
        worker.signal(signal.SIGKILL)
        worker.wait(10)
