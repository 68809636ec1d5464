"""`stream-trainer evaluate`: what a bundle says of files. Adapters come as Ports from cli.py."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from stream_detector.bundle import Registry
from stream_detector.config import ConfigError
from trainer.config import Data

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.evaluate import Evaluation
    from trainer.refresh_command import Ports


def register(app: typer.Typer, ports: Callable[[], Ports]) -> None:
    """Add `evaluate` to the commands; `ports` is asked only when it runs."""

    @app.command("evaluate")
    def evaluate(
        *,
        bundle: Annotated[
            Path, typer.Option(help="Registry; its CURRENT bundle is used.", show_default=False)
        ],
        data: Annotated[
            Path, typer.Option(help="File or folder to run through it.", show_default=False)
        ],
        labels: Annotated[
            Path | None,
            typer.Option(help="Known anomalies, one JSON a line: series, from, to, label."),
        ] = None,
        label_column: Annotated[
            str | None, typer.Option(help="Column of the files that is 1 in an anomaly.")
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="Print one JSON object and nothing else.")
        ] = False,
    ) -> None:
        """Run files through the detector's engine: episodes per series and day.

        With labels also recall (labelled anomalies that an episode answers) and precision (episodes
        that answer one).
        """
        for path in (data, labels):
            if path is not None and not path.exists():
                raise ConfigError(f"{path}: no such file or folder")
        if labels is not None and label_column is not None:
            raise ConfigError("give either --labels or --label-column")

        from trainer import evaluate as module  # noqa: PLC0415  # torch takes seconds
        from trainer.data import load  # noqa: PLC0415

        current = Registry(bundle).load()
        dataset = load(data, Data(features=list(current.manifest.features)))
        spans = None
        if labels is not None:
            spans = module.read_labels(labels, [one.name for one in dataset.series])
        elif label_column is not None:
            spans = module.label_column(data, label_column)
        result = module.evaluate(ports().load(current), dataset, spans)
        if as_json:
            typer.echo(msgspec.json.encode(result.body()).decode())
        else:
            _show(result)


def _show(result: Evaluation) -> None:
    body = result.body()
    rate = body["episodes_per_series_day"]
    typer.echo(
        f"{result.version}: {result.samples:,} samples of {result.series} series, "
        f"{result.judged:,} judged ({result.days:.2f} series-days)"
    )
    often = "" if rate is None else f", {rate:.2f} per series and day"
    typer.echo(f"  {result.episodes} episodes, {result.events} events{often}")
    if result.labelled is None:
        return
    typer.echo(f"  {result.found} of {result.labelled} labelled anomalies found")
    typer.echo(f"  {result.right} of {result.episodes} episodes answer a label")
