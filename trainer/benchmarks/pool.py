"""Files over processes, each with one thread; a bar on a terminal's error stream."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.benchmarks.work import work
from trainer.data import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.benchmarks.detect import Load
    from trainer.benchmarks.work import Done, Task

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run(tasks: Sequence[Task], load: Load, jobs: int) -> list[Done]:
    """All tasks, in their order. With one job in this process, so that a debugger sees it.

    The largest files begin first: a long one that came last would run alone.
    """
    order = sorted(range(len(tasks)), key=lambda i: -_size(tasks[i]))
    found: dict[int, Done] = {}
    with _progress() as progress:
        bar = progress.add_task(tasks[0].suite if tasks else "", total=len(tasks))
        for place, done in _each(tasks, order, load, min(jobs, len(tasks))):
            found[place] = done
            progress.advance(bar)
    return [found[place] for place in range(len(tasks))]


def _each(
    tasks: Sequence[Task], order: Sequence[int], load: Load, jobs: int
) -> Iterator[tuple[int, Done]]:
    if jobs <= 1:
        with _one_thread_here():
            for place in order:
                yield place, work(tasks[place], load)
        return
    with _one_thread_each():
        # Spawned, since a forked torch may hang on the locks of threads that were not forked.
        executor = ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,))
        try:
            futures = {executor.submit(work, tasks[place], load): place for place in order}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise DataError(
                "a process of the benchmark was killed, perhaps for want of memory; "
                "try fewer --jobs"
            ) from error
        finally:
            executor.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """The numerical libraries read these when a spawned process loads them."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _one_thread_here() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _size(task: Task) -> int:
    path = task.path
    if path.is_dir():
        return sum(one.stat().st_size for one in path.iterdir())
    return path.stat().st_size


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
