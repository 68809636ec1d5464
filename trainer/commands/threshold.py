"""`stream-trainer threshold`: another threshold for a bundle, from scores of data at hand."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from stream_detector.bundle import SERIES, Registry
from stream_detector.config import ConfigError, parse_yaml
from trainer.commands.evaluate import truth_of
from trainer.config.data import Data
from trainer.config.threshold import ThresholdChoice

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.bundle import Bundle
    from trainer.commands.refresh import Ports
    from trainer.thresholds import Chosen


def register(app: typer.Typer, ports: Callable[[], Ports]) -> None:
    """Add `threshold` to the commands; `ports` is asked only when it runs."""

    @app.command("threshold")
    def threshold(
        *,
        bundle: Annotated[
            Path,
            typer.Option(help="Registry; its CURRENT bundle is taken.", show_default=False),
        ],
        data: Annotated[
            Path,
            typer.Option(
                help="File or folder that the model was not fitted to.", show_default=False
            ),
        ],
        rule: Annotated[
            str,
            typer.Option(
                help="As calibration.threshold in trainer.yaml: 'f_beta: 1.0', "
                "'{pot: 0.0001, scope: global}' ...",
                show_default=False,
            ),
        ],
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
        promote: Annotated[
            bool, typer.Option("--promote", help="Make the new version CURRENT.")
        ] = False,
        as_json: Annotated[
            bool, typer.Option("--json", help="Print one JSON object and nothing else.")
        ] = False,
    ) -> None:
        """Publish a version of a bundle with another threshold, chosen by a rule.

        The files are run through the detector's engine, and the rule looks at the scores: `f_beta`
        at those of labelled samples, all others at those of normal ones. Without labels every
        sample counts as normal. The model stays what it is.

        Example: stream-trainer threshold --bundle registry --data labelled.csv
        --label-column fault --rule 'f_beta: 1.0' --promote
        """
        for path in (data, labels):
            if path is not None and not path.exists():
                raise ConfigError(f"{path}: no such file or folder")
        if labels is not None and label_column is not None:
            raise ConfigError("give either --labels or --label-column")
        choice = parse_yaml(rule, ThresholdChoice, "--rule", {})
        registry = Registry(bundle)
        current = registry.load()
        chosen = _choose(current, choice, data, array, labels, label_column, ports)
        version = _publish(registry, current, chosen)
        if promote:
            registry.promote(version)
        if as_json:
            answer = {
                "version": version,
                "previous": current.version,
                "registry": str(bundle),
                "promoted": promote,
                "threshold": msgspec.to_builtins(chosen.threshold),
            }
            typer.echo(msgspec.json.encode(answer).decode())
            return
        later = f"; `stream-trainer promote {version} --registry {bundle}` makes it CURRENT"
        typer.echo(f"{version} -> {bundle}{', now CURRENT' if promote else later}")
        typer.echo(f"  threshold: {chosen.threshold.provenance}")


def _choose(
    current: Bundle,
    rule: ThresholdChoice,
    path: Path,
    array: str | None,
    labels: Path | None,
    column: str | None,
    ports: Callable[[], Ports],
) -> Chosen:
    from trainer import evaluate, thresholds  # noqa: PLC0415  # torch takes seconds
    from trainer.data import load  # noqa: PLC0415

    dataset = load(path, Data(features=list(current.manifest.features), array=array))
    truth = truth_of(path, dataset, labels, column, array)
    scored = evaluate.scored(ports().load(current), dataset, truth)
    scores = thresholds.settled(scored)
    anomalous = sum(int(part.truth.sum()) for part in scores.values())
    source = f"from {sum(len(part.score) for part in scores.values())} windows of {path}"
    source += "" if truth is None else f", {anomalous} of them anomalous by {truth.source}"
    return thresholds.choose(rule, scores, list(current.series.row), source)


def _publish(registry: Registry, current: Bundle, chosen: Chosen) -> str:
    """The bundle with another threshold, as a version of its own; returns its name."""
    from trainer.export import version_of  # noqa: PLC0415  # torch takes seconds

    table = replace(current.series, score_threshold=chosen.each)
    files = {**current.files, SERIES: table.to_bytes()}
    created = dt.datetime.now(dt.UTC)
    manifest = msgspec.structs.replace(
        current.manifest,
        version=version_of(created, files | {"": msgspec.json.encode(chosen.threshold)}),
        created=created.isoformat(timespec="seconds"),
        threshold=chosen.threshold,
    )
    return registry.publish(manifest, files)
