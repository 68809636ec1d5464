"""A file larger than the memory that training may take: `fit` on it, its peak, and its bundle.

python -m tests.bench.bench_large_file [--gigabytes 3] [--limit 1024] [--model pca] [--json]

Needs about three times the file's size in TMPDIR. The peak is the process's greatest resident set
over that after its imports.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from stream_detector.bundle import Registry

FEATURES = 8
BLOCK = 50_000
START = 1_764_201_600_000
SPLIT = 0.7

MEASURED = """
import resource, sys, torch
import trainer.commands.fit, trainer.train, trainer.reading.training_set, trainer.distributed
from trainer.cli import run
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
code = run(sys.argv[1:])
print(before, peak())
sys.exit(code)
"""
"""Prints two lines: the summary of `fit --json`, and KiB before and after."""


def block() -> np.ndarray[Any, Any]:
    """[BLOCK, FEATURES]: waves of different periods and sizes, with noise."""
    rng = np.random.default_rng(0)
    at = np.arange(BLOCK)[:, None]
    periods, sizes = BLOCK / np.array([1000, 625, 500, 400, 250, 200, 125, 100]), 10.0
    waves = sizes * (5 + np.sin(2 * np.pi * at / periods) + rng.normal(0, 0.2, (BLOCK, FEATURES)))
    rounded: np.ndarray[Any, Any] = np.round(waves, 4)
    return rounded


def write(path: Path, size: int) -> int:
    """The same block again and again, a sample a second, until the file is that large; its rows."""
    rest = ["," + ",".join(map(str, row)) + "\n" for row in block().tolist()]
    rows = written = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("timestamp," + ",".join(f"f{i}" for i in range(FEATURES)) + "\n")
        while written < size:
            first = START + 1000 * rows
            times = range(first, first + 1000 * BLOCK, 1000)
            written += file.write("".join(map("{}{}".format, times, rest)))
            rows += BLOCK
    return rows


def bench(gigabytes: float, limit: int, model: str) -> dict[str, Any]:
    """Fits and measures; raises AssertionError for a peak above the limit or a wrong bundle."""
    with tempfile.TemporaryDirectory(prefix="bench-large-file-") as name:
        folder = Path(name)
        data, config, registry = folder / "large.csv", folder / "trainer.yaml", folder / "registry"
        rows = write(data, int(gigabytes * 1e9))
        config.write_text(
            f"model: {{name: {model}}}\nfit: {{epochs: 2, device: cpu, threads: 1}}\n"
        )
        began = time.monotonic()
        arguments = ["--json", "--data", data, "--config", config, "--out", registry]
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, "fit", *map(str, arguments)],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        seconds = time.monotonic() - began
        summary, memory = done.stdout.splitlines()
        before, after = (int(part) / 1024 for part in memory.split())
        found = {
            "gigabytes": data.stat().st_size / 1e9,
            "rows": rows,
            "seconds": seconds,
            "imports_mib": before,
            "growth_mib": after - before,
            "limit_mib": limit,
        }
        check(json.loads(summary), Registry(registry), rows)
    assert found["growth_mib"] < limit, found
    return found


def check(summary: dict[str, Any], registry: Registry, rows: int) -> None:
    """The bundle knows all rows, and its scaling is that of the training part."""
    bundle = registry.load()  # verifies the digests
    assert bundle.version == summary["version"]
    assert bundle.manifest.training.rows == rows
    assert bundle.manifest.metrics["held_out_windows"] == min(
        200_000, rows - round(0.8 * rows) - 59
    )
    assert bundle.series.interval.tolist() == [1000]
    whole, rest = divmod(round(rows * SPLIT), BLOCK)
    weight = np.full(BLOCK, whole) + (np.arange(BLOCK) < rest)
    values = block()
    mean = np.average(values, axis=0, weights=weight)
    deviation = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weight))
    np.testing.assert_allclose(bundle.series.center[0], mean, rtol=1e-9)
    np.testing.assert_allclose(bundle.series.scale[0], deviation, rtol=1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--limit", type=int, default=1024, help="MiB over the imports")
    parser.add_argument("--model", default="pca")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = bench(options.gigabytes, options.limit, options.model)
    if options.json:
        print(json.dumps(found))
        return
    print(
        f"{found['gigabytes']:.2f} GB, {found['rows']:,} rows of {FEATURES} features fitted in "
        f"{found['seconds']:.0f} s; resident growth {found['growth_mib']:.0f} MiB of at most "
        f"{found['limit_mib']} (imports: {found['imports_mib']:.0f} MiB); the bundle is right"
    )


if __name__ == "__main__":
    main()
