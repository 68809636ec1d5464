"""The trace recipe on small generated files: fit by its name, replay, events at injected faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.pipeline.recipe_case import cheaper, opened
from trainer.recipes.trace import FEATURES
from trainer.recipes.trace_simulation import Records, csv_lines, simulate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CLEAN, FAULTY = 1500, 700


def written(path: Path, traces: Sequence[Records]) -> Path:
    path.write_text("\n".join(csv_lines(traces)) + "\n")
    return path


def first(one: Records, rows: int) -> Records:
    return Records(one.thread, one.time[:rows], one.variable[:rows], [])


def test_the_trace_recipe_finds_faults_of_interleaved_threads(tmp_path: Path) -> None:
    traces = simulate(22, 2, CLEAN, FAULTY)
    quick: dict[str, dict[str, Any]] = {
        "fit": {
            "epochs": 10,
            "windows_per_epoch": 640,
            "learning_rate": 0.02,
            "threads": 1,
            "device": "cpu",
        },
        "model": {"options": {"layers": [48], "marks": 16, "forecast": 1}},
    }
    config = cheaper("trace_stacked_lstm", tmp_path, quick)
    learn = written(tmp_path / "learn.csv", [first(one, CLEAN) for one in traces])
    events = opened(config, learn, written(tmp_path / "live.csv", traces), tmp_path)
    for one in traces:
        said = [event["started_at"] for event in events if event["series"] == one.thread]
        faults = [(one.time[fault.first], one.time[fault.last]) for fault in one.faults]
        hits = [sum(begin <= at <= end for begin, end in faults) for at in said]
        assert sum(hits) >= len(faults) // 2
        assert sum(hits) >= len(said) - 1
        assert min(said) >= one.time[CLEAN]
    for event in events:  # odds in the input's units; variables that training never had tell none
        odds = np.array([event["expected"][name] for name in FEATURES[:-1]])
        assert odds.min() > -1e-3
        assert 0.8 < odds.sum() < 1.001
