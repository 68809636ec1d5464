"""Workers as child processes, forked from one that has imported all they need."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from typing import TYPE_CHECKING

from tests.chaos.machine import faked
from tests.chaos.worker import work

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

    from tests.chaos.faults import Orders
    from tests.chaos.worker import Task

_forks = multiprocessing.get_context("forkserver")
_processes = threading.Lock()
"""multiprocessing looks at all children whenever one is started: one thread at a time."""
_usual = forkserver.connect_to_new_process
_with_clocks = forkserver.ForkServer()
"""Beside the usual one: libfaketime takes a third of a worker's time."""


def preload(*, torch: bool) -> None:
    """What workers have imported when they are forked; before the first of them."""
    modules = ["tests.chaos.worker", *(["torch"] if torch else [])]
    _forks.set_forkserver_preload(modules)
    _with_clocks.set_forkserver_preload(modules)


def _connect_with_clocks(fds: list[int]) -> tuple[int, int]:
    resource_tracker.ensure_running()  # with the usual clock
    before = dict(os.environ)
    os.environ.update(faked())
    try:
        _with_clocks.ensure_running()
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
    return _with_clocks.connect_to_new_process(fds)


@dataclass
class Worker:
    task: Task
    process: ForkServerProcess
    orders: Orders
    stopping: bool = False
    code: int | None = None

    def ended(self) -> bool:
        if self.code is None:
            with _processes:
                self.code = self.process.exitcode
        return self.code is not None

    def signal(self, number: int) -> None:
        if not self.ended():
            os.kill(self.process.pid or 0, number)

    def wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.ended() and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.ended()


def fork(task: Task, orders: Orders, *, clock: bool) -> Worker:
    """`clock`: it can be set (`machine.set_clock`)."""
    process = _forks.Process(target=work, args=(task,))
    with _processes:
        # The only way to choose the server that a process is forked from.
        forkserver.connect_to_new_process = _connect_with_clocks if clock else _usual  # type: ignore[assignment]
        try:
            process.start()
        finally:
            forkserver.connect_to_new_process = _usual
    return Worker(task, process, orders)
