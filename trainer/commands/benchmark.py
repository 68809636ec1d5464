"""`stream-trainer benchmark SUITE`, a command a suite, and `benchmark report`, which combines them.

The detector's scorer comes as a port from cli.py, as something that other processes can load.
"""

from __future__ import annotations

import os
import time
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from stream_detector.config import ConfigError
from trainer.config.recipes import default_or

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.benchmarks.detect import Load

TITLES = {
    "ucr": "UCR Anomaly Archive: is the largest score near the one anomaly?",
    "nab": "Numenta Anomaly Benchmark: early detections in labelled windows.",
    "skab": "SKAB, sensors of a water loop: F1 of rows, at the product's threshold.",
    "smd": "Server Machine Dataset: VUS-PR, events, delays, false alarms.",
    "smap_msl": "Telemetry of SMAP and MSL: VUS-PR, events, delays, false alarms.",
    "kpi": "AIOps KPI and WSD: VUS-PR, events, delays, false alarms.",
    "attribution": "Anomalies of one feature put into SMD: is that the feature that is blamed?",
}
"""Suites; told here because help need not wait for what runs them."""
ENDINGS = (".md", ".html")


def register(app: typer.Typer, loader: Callable[[], Load]) -> None:
    """Add `benchmark` to the commands; `loader` is asked only when a suite runs."""
    group = typer.Typer(
        help="Run a public benchmark through the product's own path, beside simple baselines.\n\n"
        "Example: stream-trainer benchmark ucr --data DIR --recipe NAME --json > ucr.json",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for name, title in TITLES.items():
        group.command(name, help=title)(_suite(name, loader))
    group.command("report")(report)
    app.add_typer(group, name="benchmark")


def _suite(name: str, loader: Callable[[], Load]) -> Callable[..., None]:
    def benchmark(
        *,
        data: Annotated[
            Path,
            typer.Option(help="The suite's folder, or the one that holds it.", show_default=False),
        ],
        recipe: Annotated[
            str | None,
            typer.Option(help="Name of a recipe, or a trainer.yaml; else `default`."),
        ] = None,
        limit: Annotated[
            int | None, typer.Option(help="Files at most, evenly spread over all.", min=1)
        ] = None,
        seed: Annotated[int, typer.Option(help="Of the fit.", min=0)] = 0,
        seeds: Annotated[int, typer.Option(help="Fits a file, with seeds from --seed.", min=1)] = 1,
        jobs: Annotated[
            int | None, typer.Option(help="Processes; else one for each CPU.", min=1)
        ] = None,
        baselines: Annotated[
            bool, typer.Option(help="Run simple detectors on the same files too.")
        ] = True,
        as_json: Annotated[
            bool, typer.Option("--json", help="Print one JSON object and nothing else.")
        ] = False,
        report: Annotated[
            Path | None, typer.Option(help="Write a scoreboard: .md or .html.")
        ] = None,
    ) -> None:
        if report is not None and report.suffix not in ENDINGS:
            raise ConfigError(f"--report {report}: the ending must be {' or '.join(ENDINGS)}")
        title, config = default_or(recipe)
        if not data.is_dir():
            raise ConfigError(f"--data {data}: no such folder")
        from trainer.benchmarks import pool, results, scoreboard  # noqa: PLC0415  # torch
        from trainer.benchmarks.suites import SUITES  # noqa: PLC0415
        from trainer.benchmarks.work import Task  # noqa: PLC0415

        started = time.monotonic()
        suite = SUITES[name]
        found = suite.find(data)
        tasks = [
            Task(name, path, config, seed + turn, baselines and not turn)
            for turn in range(seeds)
            for path in spread(found, limit)
        ]
        done = pool.run(tasks, loader(), jobs or len(os.sched_getaffinity(0)))
        spent = time.monotonic() - started
        body = results.body(suite, title, config, done, len(found), spent)
        if report is not None:
            scoreboard.write(report, [msgspec.json.decode(msgspec.json.encode(body))])
        if as_json:
            typer.echo(msgspec.json.encode(body).decode())
            return
        _show(body)
        if report is not None:
            typer.echo(f"  {report}")

    return benchmark


def report(
    results: Annotated[
        list[Path], typer.Argument(help="Files that `benchmark SUITE --json` was written to.")
    ],
    out: Annotated[Path, typer.Option(help="Scoreboard: .md or .html.", show_default=False)],
) -> None:
    """Combine results of several suites, recipes or days into one scoreboard."""
    if out.suffix not in ENDINGS:
        raise ConfigError(f"--out {out}: the ending must be {' or '.join(ENDINGS)}")
    from trainer.benchmarks import scoreboard  # noqa: PLC0415  # it reads the pages' parts

    scoreboard.write(out, [scoreboard.read_result(path) for path in results])
    typer.echo(str(out))


def spread(files: Sequence[Path], limit: int | None) -> list[Path]:
    """At most so many, evenly over the sorted list: neighbours are often of one family."""
    if limit is None or limit >= len(files):
        return list(files)
    return [files[place * len(files) // limit] for place in range(limit)]


def _show(body: dict[str, Any]) -> None:
    typer.echo(
        f"{body['title']}: {body['files']} of {body['files_found']} files, recipe "
        f"{body['recipe']}, {body['seconds']:.0f} s"
    )
    for name, value in body["metrics"].items():
        bounds = body["intervals"].get(name)
        between = "" if bounds is None else f" ({bounds[0]:.3f} to {bounds[1]:.3f})"
        range_ = body["seeds"]["metrics"][name]
        several = len(body["seeds"]["values"]) > 1
        seeds = f", seeds {range_['min']:.3f} to {range_['max']:.3f}" if several else ""
        typer.echo(f"  {name}: {value:.3f}{between}{seeds}")
    for name, part in body["baselines"].items():
        typer.echo(f"  {name}: {body['headline']} {part['metrics'][body['headline']]:.3f}")
    for one in body["failed"]:
        typer.echo(f"  failed, a miss: {one['file']} ({one['detector']}): {one['reason']}")
    typer.echo(f"  {body['cpu_us_per_window']:.1f} us CPU a window")
