"""From what became of each file to the one JSON object that `benchmark --json` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from trainer.benchmarks.work import OURS
from trainer.metrics import NAN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.benchmarks.cases import Judged, Suite
    from trainer.benchmarks.work import Done
    from trainer.config import TrainerConfig


def body(
    suite: Suite,
    recipe: str,
    config: TrainerConfig,
    done: Sequence[Done],
    found: int,  # files of the suite in the folder, before --limit
    seconds: float,
) -> dict[str, Any]:
    """Metrics are means over the seeds; baselines ran with the first seed alone."""
    seeds = sorted({one.seed for one in done})
    by_seed = [[one for one in done if one.seed == seed] for seed in seeds]
    totals = [suite.total(_of(some, OURS)) for some in by_seed]
    windows = sum(one.windows for one in done)
    return {
        "suite": suite.name,
        "title": suite.title,
        "recipe": recipe,
        "files": len(by_seed[0]),
        "files_found": found,
        "headline": suite.headline,
        "metrics": {name: _mean([one[name] for one in totals]) for name in totals[0]},
        "intervals": _intervals(suite, [_of(some, OURS) for some in by_seed]),
        "seeds": {
            "values": seeds,
            "metrics": {name: _range([one[name] for one in totals]) for name in totals[0]},
        },
        "baselines": {
            name: {
                "metrics": suite.total(_of(by_seed[0], name)),
                "intervals": _intervals(suite, [_of(by_seed[0], name)]),
            }
            for name in by_seed[0][0].judged
            if name != OURS
        },
        "failed": [
            {"file": one.name, "seed": one.seed, "detector": name, "reason": reason}
            for one in done
            for name, reason in one.failed.items()
        ],
        "protocol": suite.protocol,
        "settings": msgspec.to_builtins(config),
        "per_file": [one.body() for one in done],
        "seconds": seconds,
        "cpu_us_per_window": 1e6 * sum(one.cpu for one in done) / windows if windows else NAN,
    }


def _of(done: Sequence[Done], detector: str) -> list[Judged]:
    return [one.judged[detector] for one in done]


def _intervals(suite: Suite, by_seed: Sequence[list[Judged]]) -> dict[str, list[float]]:
    """Bounds over the files, averaged over the seeds: files are the sample, seeds are not."""
    found = [suite.intervals(judged) for judged in by_seed]
    return {
        name: [_mean([one[name][side] for one in found if name in one]) for side in (0, 1)]
        for name in found[0]
    }


def _mean(values: Sequence[float]) -> float:
    there = [value for value in values if not np.isnan(value)]
    return float(np.mean(there)) if there else NAN


def _range(values: Sequence[float]) -> dict[str, float]:
    there = [value for value in values if not np.isnan(value)] or [NAN]
    return {"mean": _mean(values), "min": min(there), "max": max(there)}
