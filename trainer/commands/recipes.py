"""`stream-trainer recipes`: every known setup, fitted and scored beside its baselines."""

from __future__ import annotations

import time
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.commands.refresh import Ports


def register(app: typer.Typer, ports: Callable[[], Ports]) -> None:
    """Add `recipes` to the commands; `ports` is asked only when it runs."""

    @app.command("recipes")
    def recipes(
        *,
        data: Annotated[
            Path,
            typer.Option(help="Folder of the public data that recipes need.", show_default=False),
        ],
        names: Annotated[
            list[str] | None,
            typer.Option("--name", help="A recipe; may be repeated. All where left out."),
        ] = None,
        seeds: Annotated[int, typer.Option(help="Seeds; means and ranges are told.", min=1)] = 1,
        report: Annotated[
            Path | None, typer.Option(help="Folder for one HTML report of each protocol.")
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="Print one JSON object and nothing else.")
        ] = False,
    ) -> None:
        """Fit and measure every recipe that comes with the program, beside its baselines.

        Each recipe (config/recipes/NAME.yaml; `stream-trainer fit --config NAME` uses it on data of
        yours) stands for a published LSTM project. Its protocols fit on a training part, run the
        test through the detector's engine and compare: ours, principal components in our model's
        place (pca), the published project's threshold rule (rule), and what it reported.

        Exit code 1 where a recipe's data is missing; the others are measured all the same.

        Example: stream-trainer recipes --data DIR --seeds 3 --report reports
        """
        from trainer.recipes.base import Kit  # noqa: PLC0415  # torch takes seconds
        from trainer.recipes.runner import chosen, lines, measured  # noqa: PLC0415

        started = time.monotonic()
        results, missing = measured(
            chosen(names or []), Kit(data, ports().load), seeds, quiet=as_json
        )
        bodies = [one.body() for one in results]
        if report is not None:
            from trainer.assess import assess  # noqa: PLC0415
            from trainer.report import write_report  # noqa: PLC0415  # matplotlib

            for one in results:
                if one.example is not None:
                    path = report / f"{one.recipe.name}-{one.protocol}.html"
                    write_report(path, one.example, assess(one.example))
        seconds = time.monotonic() - started
        if as_json:
            body = {"recipes": bodies, "missing": missing, "seconds": seconds}
            typer.echo(msgspec.json.encode(body).decode())
        else:
            for one_body in bodies:
                typer.echo("\n".join(lines(one_body)))
            typer.echo(f"{len(bodies)} protocols in {seconds:.0f} s")
        for problem in missing:
            typer.echo(f"stream-trainer: not measured: {' '.join(problem.split())}", err=True)
        raise typer.Exit(1 if missing else 0)
