"""Tasks over processes, each with one thread; a bar on a terminal's error stream."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import TYPE_CHECKING, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.data import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")
R = TypeVar("R")

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run(
    work: Callable[[T], R], tasks: Sequence[T], jobs: int, label: str, first: Sequence[int] = ()
) -> list[R]:
    """What `work` makes of each task, in their order. With one job it runs in this process, so

    that a debugger sees it. `first` says in which order they begin, by their numbers; else the
    given one. Raises DataError where a process was killed.
    """
    order = first or range(len(tasks))
    found: dict[int, R] = {}
    with _progress() as progress:
        bar = progress.add_task(label, total=len(tasks))
        for place, done in _each(work, tasks, order, min(jobs, len(tasks))):
            found[place] = done
            progress.advance(bar)
    return [found[place] for place in range(len(tasks))]


def _each(
    work: Callable[[T], R], tasks: Sequence[T], order: Sequence[int], jobs: int
) -> Iterator[tuple[int, R]]:
    if jobs <= 1:
        with _one_thread_here():
            for place in order:
                yield place, work(tasks[place])
        return
    with _one_thread_each():
        # Spawned, since a forked torch may hang on the locks of threads that were not forked.
        executor = ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,))
        try:
            with _deaf_to_interrupts():
                futures = {executor.submit(work, tasks[place]): place for place in order}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise DataError(
                "a process was killed, perhaps for want of memory; try fewer --jobs"
            ) from error
        except KeyboardInterrupt:
            for child in active_children():
                child.terminate()
            raise
        finally:
            executor.shutdown(cancel_futures=True)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes begun meanwhile stay so: a terminal interrupts all, but one should speak."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
