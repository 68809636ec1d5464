"""`stream-trainer fit`: files in, a promoted bundle out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from stream_detector.bundle import Registry
from stream_detector.config import ConfigError
from trainer.config.recipes import load_config

if TYPE_CHECKING:
    from trainer.reading.training_set import TrainingSet
    from trainer.train import Trained


def fit(
    *,
    out: Annotated[
        Path, typer.Option(help="Registry: the folder that bundles go to.", show_default=False)
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="CSV, NDJSON, Parquet, npy or npz file, gzipped or not, or a folder or zip "
            "archive of them. Overrules data.path.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="trainer.yaml, or the name of a recipe; else `default`.", show_default=False
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Train on normal data, calibrate on a later part of it, make the bundle CURRENT.

    Each series is split in time: 70% to fit, 10% to decide when to stop, the last 20% to learn what
    scores are normal. Files need no preparation: a time column (timestamp, time, datetime, date
    or ds) and a series column are found by name, all other columns of numbers are features.

    Example: stream-trainer fit --data history.csv --out registry
    On several processes: torchrun --standalone --nproc-per-node 2 -m trainer fit ... (each reads
    the same data and takes its share of every batch; the first one writes the bundle)
    """
    settings = load_config(config)
    place = data or (Path(settings.data.path) if settings.data.path else None)
    if place is None:
        raise ConfigError("nothing to learn from: give --data PATH, or data.path in --config")
    if not place.exists():
        raise ConfigError(f"{place}: no such file or folder")

    rule = settings.data.labels
    if rule is not None and rule.file is not None and not Path(rule.file).exists():
        raise ConfigError(f"data.labels.file: {rule.file}: no such file")

    from trainer.distributed import joined  # noqa: PLC0415  # torch takes seconds
    from trainer.reading.training_set import training_set  # noqa: PLC0415
    from trainer.train import publish, train  # noqa: PLC0415

    started = time.monotonic()
    with joined() as writes:
        dataset = training_set(place, settings.data)
        trained = train(dataset, settings, quiet=as_json)
        if not writes:
            return
        version = publish(trained, Registry(out))
    summary = _summary(dataset, trained, out, time.monotonic() - started)
    if as_json:
        typer.echo(msgspec.json.encode(summary).decode())
        return
    typer.echo(f"{version} -> {out}, now CURRENT, in {summary['seconds']:.0f} s")
    typer.echo(
        f"  {trained.manifest.model} on {summary['rows']:,} samples of {summary['series']} series "
        f"with {len(dataset.features)} features: {', '.join(dataset.features)}"
    )
    if trained.manifest.scales_reason:
        typer.echo(f"  scales {trained.manifest.scales}: {trained.manifest.scales_reason}")
    for note in trained.manifest.notes:
        typer.echo(f"  {note}")
    if dataset.left_out is not None:
        typer.echo(f"  {dataset.left_out:,} samples in or near known anomalies left out")
    typer.echo(f"  threshold: {trained.manifest.threshold.provenance}")
    if trained.left_out:
        typer.echo(f"  too short, left out: {', '.join(trained.left_out)}")


def _summary(dataset: TrainingSet, trained: Trained, out: Path, seconds: float) -> dict[str, Any]:
    manifest = trained.manifest
    return {
        "version": manifest.version,
        "registry": str(out),
        "model": manifest.model,
        "features": dataset.features,
        "scales": manifest.scales,
        "scales_reason": manifest.scales_reason,
        "series": manifest.training.series,
        "rows": manifest.training.rows,
        "left_out_samples": dataset.left_out,
        "left_out": trained.left_out,
        "notes": manifest.notes,
        "metrics": manifest.metrics,
        "threshold": msgspec.to_builtins(manifest.threshold),
        "seconds": seconds,
        "seconds_by_scale": dict(trained.seconds),
    }
