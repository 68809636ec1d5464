"""`stream-trainer evaluate`: what a bundle says of files. Adapters come as Ports from cli.py."""

from __future__ import annotations

import math
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from stream_detector.bundle import Registry
from stream_detector.config import ConfigError
from trainer.config.data import Data

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.commands.refresh import Ports
    from trainer.data import Dataset
    from trainer.reading.marks import Truth
    from trainer.scored import Scored

FORMATS = (".parquet", ".npz")


def register(app: typer.Typer, ports: Callable[[], Ports]) -> None:
    """Add `evaluate` to the commands; `ports` is asked only when it runs."""

    @app.command("evaluate")
    def evaluate(
        *,
        bundle: Annotated[
            Path | None,
            typer.Option(help="Registry; its CURRENT bundle is used.", show_default=False),
        ] = None,
        data: Annotated[
            Path | None,
            typer.Option(help="File, folder or archive to run through it.", show_default=False),
        ] = None,
        from_scores: Annotated[
            Path | None,
            typer.Option(help="File of --scores instead of --bundle and --data: no model runs."),
        ] = None,
        array: Annotated[
            str | None,
            typer.Option(help="Array to read of npz files that hold several, e.g. test."),
        ] = None,
        labels: Annotated[
            Path | None,
            typer.Option(help="Known anomalies, one JSON a line: series, from, to, label."),
        ] = None,
        label_column: Annotated[
            str | None, typer.Option(help="Column of the files that is 1 in an anomaly.")
        ] = None,
        report: Annotated[
            Path | None, typer.Option(help="Write one HTML file with tables and pictures.")
        ] = None,
        scores: Annotated[
            Path | None,
            typer.Option(help="Write scores and verdicts of all samples: .parquet or .npz."),
        ] = None,
        review: Annotated[
            Path | None, typer.Option(help="Write a CSV table to go through sample by sample.")
        ] = None,
        merge_gap: Annotated[
            int, typer.Option(help="Samples between two episodes that count as one alarm.", min=0)
        ] = 0,
        as_json: Annotated[
            bool, typer.Option("--json", help="Print one JSON object and nothing else.")
        ] = False,
    ) -> None:
        """Run files through the detector's engine: episodes per series and day.

        With labels also recall (labelled anomalies that an episode answers), precision (episodes
        that answer one) and all measures of samples, ranks and events. Files named as in the UCR
        archive (..._TRAINEND_START_END.txt) are labelled by their names.
        """
        for path in (data, labels, from_scores):
            if path is not None and not path.exists():
                raise ConfigError(f"{path}: no such file or folder")
        if labels is not None and label_column is not None:
            raise ConfigError("give either --labels or --label-column")
        if scores is not None and scores.suffix not in FORMATS:
            raise ConfigError(f"--scores {scores}: the ending must be {' or '.join(FORMATS)}")
        if from_scores is not None:
            if {bundle, data, labels, label_column} != {None}:
                raise ConfigError("--from-scores already holds bundle, data and labels")
            result = _read(from_scores)
        elif bundle is None or data is None:
            raise ConfigError("give --bundle and --data, or --from-scores")
        else:
            result = _run(bundle, data, array, labels, label_column, ports)
        _write(result, report, scores, review, merge_gap, as_json=as_json)


def _read(path: Path) -> Scored:
    from trainer.scored import read_scored  # noqa: PLC0415  # numpy takes a while

    return read_scored(path)


def _run(
    bundle: Path,
    path: Path,
    array: str | None,
    labels: Path | None,
    column: str | None,
    ports: Callable[[], Ports],
) -> Scored:
    from trainer import evaluate as module  # noqa: PLC0415  # torch takes seconds
    from trainer.data import load  # noqa: PLC0415

    current = Registry(bundle).load()
    dataset = load(path, Data(features=list(current.manifest.features), array=array))
    truth = truth_of(path, dataset, labels, column, array)
    result = module.scored(ports().load(current), dataset, truth)
    result.about.data.update(
        path=str(path), series=len(dataset.series), samples=dataset.rows, registry=str(bundle)
    )
    return result


def truth_of(
    path: Path, data: Dataset, labels: Path | None, column: str | None, array: str | None = None
) -> Truth | None:
    """Labels from a file, a column, or else the names of the files; None: nothing is labelled."""
    from trainer.reading import marks  # noqa: PLC0415

    if labels is not None:
        return marks.from_file(labels, [one.name for one in data.series])
    return marks.from_names(data) if column is None else marks.from_column(path, column, array)


def _write(
    result: Scored,
    report: Path | None,
    scores: Path | None,
    review: Path | None,
    gap: int,
    *,
    as_json: bool,
) -> None:
    from trainer.assess import assess  # noqa: PLC0415  # scikit-learn takes seconds

    body = assess(result, gap=gap)
    if scores is not None:
        result.save(scores)
    if review is not None:
        from trainer.review import write_review  # noqa: PLC0415

        write_review(review, result)
    if report is not None:
        from trainer.report import write_report  # noqa: PLC0415  # matplotlib

        write_report(report, result, body)
    if as_json:
        typer.echo(msgspec.json.encode(body).decode())
        return
    _show(body)
    for path in (report, scores, review):
        if path is not None:
            typer.echo(f"  {path}")


def _show(body: dict[str, Any]) -> None:
    rate = body["episodes_per_series_day"]
    typer.echo(
        f"{body['version']}: {body['samples']:,} samples of {body['series']} series, "
        f"{body['judged']:,} judged ({body['series_days']:.2f} series-days)"
    )
    often = "" if rate is None else f", {rate:.2f} per series and day"
    typer.echo(f"  {body['episodes']} episodes, {body['events']} events{often}")
    if body["labelled"] is None:
        return
    found = round((body["recall"] or 0) * body["labelled"])
    right = round((body["precision"] or 0) * body["episodes"])
    typer.echo(f"  {found} of {body['labelled']} labelled anomalies found")
    typer.echo(f"  {right} of {body['episodes']} episodes answer a label")
    for title, key, names in SHOWN:
        parts = [f"{name} {_three(body[key][name])}" for name in names]
        typer.echo(f"  {title}: {', '.join(parts)}")


def _three(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


SHOWN = (
    ("samples", "points", ("precision", "recall", "f1")),
    ("scores", "ranks", ("roc_auc", "average_precision", "vus_pr", "best_f1")),
    ("events", "event_wise", ("precision", "recall", "f1")),
)
