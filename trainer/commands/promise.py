"""`stream-trainer promise`: is the alarm budget kept where nothing is wrong, and what is found?

The detector's scorer comes as a port from cli.py, as something that other processes can load.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from stream_detector.config import ConfigError
from trainer.config.recipes import default_or

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.promise.work import Load

FIRST_DAYS = 31
"""The promise of the smaller budgets begins with day 30."""


def register(app: typer.Typer, loader: Callable[[], Load]) -> None:
    """Add `promise` to the commands; `loader` is asked only when it runs."""

    @app.command("promise")
    def promise(
        *,
        recipe: Annotated[
            str | None,
            typer.Option(help="Name of a recipe, or a trainer.yaml; else `default`, if there is."),
        ] = None,
        names: Annotated[
            list[str] | None,
            typer.Option(
                "--case", help="A case or an anomaly; may be repeated. All where left out."
            ),
        ] = None,
        start: Annotated[
            Literal["new", "known", "both"],
            typer.Option(help="Whether the bundle was trained on the very series, or on others."),
        ] = "new",
        series: Annotated[int, typer.Option(help="Series of each case.", min=1)] = 50,
        days: Annotated[int, typer.Option(help="Days of each series.", min=FIRST_DAYS)] = 90,
        seed: Annotated[int, typer.Option(help="Of the series and of the fit.", min=0)] = 0,
        jobs: Annotated[
            int | None, typer.Option(help="Processes; else one for each CPU.", min=1)
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="Print one JSON object and nothing else.")
        ] = False,
        report: Annotated[Path | None, typer.Option(help="Write one HTML file.")] = None,
    ) -> None:
        """Simulate series in which nothing is wrong and count the episodes against the budget.

        Each case (iid, season, heavy, drift, step, day_night) trains a bundle on 7 days and runs
        samples at 1-minute steps through the detector's engine at three budgets. Realised over
        promised is counted from day 7 (1 a day) or day 30 (1 a week, 1 in 30 days) on; what was
        before is told apart. Anomalies (spike, shift, burst) are put into `season` twice a series:
        how many are found, how late, and what one static threshold of the same clean rate finds.

        Example: stream-trainer promise --case season --case spike --report promise.html
        """
        title, config = default_or(recipe)
        if report is not None and report.suffix != ".html":
            raise ConfigError(f"--report {report}: the ending must be .html")
        from trainer import processes  # noqa: PLC0415  # torch takes seconds
        from trainer.promise import table  # noqa: PLC0415
        from trainer.promise.work import Setup, chosen, work  # noqa: PLC0415

        started = time.monotonic()
        setup = Setup(config, series, days, seed)
        tasks = chosen(names or (), start, setup)
        done = processes.run(
            partial(work, load=loader()), tasks, jobs or len(os.sched_getaffinity(0)), "promise"
        )
        body = table.body(title, setup, done, time.monotonic() - started)
        if report is not None:
            from trainer.promise.report import write  # noqa: PLC0415  # matplotlib

            write(report, body)
        if as_json:
            typer.echo(msgspec.json.encode(body).decode())
            return
        typer.echo("\n".join(table.lines(body)))
        if report is not None:
            typer.echo(str(report))
