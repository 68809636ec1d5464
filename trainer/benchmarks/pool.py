"""Files of a suite over processes; the largest begin first: a long one that came last would run

alone.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trainer import processes
from trainer.benchmarks.work import work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.benchmarks.detect import Load
    from trainer.benchmarks.work import Done, Task


def run(tasks: Sequence[Task], load: Load, jobs: int) -> list[Done]:
    """All tasks, in their order."""
    order = sorted(range(len(tasks)), key=lambda i: -_size(tasks[i]))
    label = tasks[0].suite if tasks else ""
    return processes.run(partial(work, load=load), tasks, jobs, label, order)


def _size(task: Task) -> int:
    path = task.path
    if path.is_dir():
        return sum(one.stat().st_size for one in path.iterdir())
    return path.stat().st_size
