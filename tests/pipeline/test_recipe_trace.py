"""The trace recipe on small generated files: fit by its name, replay, events at injected faults."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.pipeline.recipe_case import cheaper, opened
from trainer.recipes.trace_simulation import Records, csv_lines, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CLEAN, FAULTY = 1500, 700


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """`replay` listens to signals; the tests go on with those that were there."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def written(path: Path, traces: Sequence[Records]) -> Path:
    path.write_text("\n".join(csv_lines(traces)) + "\n")
    return path


def first(one: Records, rows: int) -> Records:
    return Records(one.thread, one.time[:rows], one.variable[:rows], [])


def test_the_trace_recipe_finds_faults_of_interleaved_threads(tmp_path: Path) -> None:
    traces = simulate(21, 2, CLEAN, FAULTY)
    fit = {"epochs": 10, "windows_per_epoch": 640, "device": "cpu", "threads": 1}
    changes = {"fit": fit, "model": {"options": {"layers": [32, 24], "marks": 16, "forecast": 1}}}
    config = cheaper("trace_stacked_lstm", tmp_path, changes)
    learn = written(tmp_path / "learn.csv", [first(one, CLEAN) for one in traces])
    events = opened(config, learn, written(tmp_path / "live.csv", traces), tmp_path)
    for one in traces:
        said = np.array([e["started_at"] for e in events if e["series"] == one.thread])
        found = [
            bool(((said >= one.time[f.first]) & (said <= one.time[f.last])).any())
            for f in one.faults
        ]
        assert sum(found) >= len(found) - 1
        assert len(said) <= len(found) + 2
        assert (said >= one.time[CLEAN]).all()
    for event in events:
        expected = np.array([event["expected"][f"v{n:02d}"] for n in range(16)])
        assert expected.min() >= -1e-3
        assert expected.sum() == pytest.approx(1.0, abs=0.02)
