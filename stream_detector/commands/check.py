"""`stream-detector check`: is everything in place for `run`?"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from stream_detector.app import policy_of
from stream_detector.bundle import Registry
from stream_detector.commands import wiring
from stream_detector.commands.keeping import snapshot_store
from stream_detector.config import ConfigError, DetectorConfig, load_yaml
from stream_detector.core.serving import Serving
from stream_detector.ports import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_detector.adapters.kafka import TopicInfo
    from stream_detector.ports import Model


def check(
    *,
    config: Annotated[Path, typer.Option(help="detector.yaml", show_default=False)],
    create_topics: Annotated[
        bool, typer.Option("--create-topics", help="Create output topics that are absent.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Don't talk to the brokers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Validate the configuration, verify the bundles, reach the broker, plan the capacity.

    Ends with 2 where the configuration is wrong and with 1 where something is not in place.
    """
    from stream_detector.adapters.torch_scorer import load_model  # noqa: PLC0415

    settings = load_yaml(config, DetectorConfig)
    wiring.plan(settings)  # refuses paths and templates that mean nothing
    _check_store(settings)
    report: dict[str, Any] = {"config": str(config), "groups": [], "topics": {}}
    report["snapshots"] = _check_snapshots(settings)
    for route in settings.routes:
        model = load_model(Registry(route.registry).load(), settings.device, settings.threads)
        report["groups"].append(_capacity(route.name or route.match, model, settings))
    if not offline:
        report["topics"] = _topics(settings, create=create_topics)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print(report)


def _check_store(config: DetectorConfig) -> None:
    """Raises OSError where nothing can be written to the normal store."""
    if config.store.url is None:
        return
    try:
        from stream_detector.adapters.store import store_path  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(wiring.NEEDS_PYARROW) from error
    _check_writable("store.url", store_path(config.store))


def _check_snapshots(config: DetectorConfig) -> dict[str, Any] | None:
    """Where snapshots lie; raises OSError where none can be written to a folder."""
    from stream_detector.adapters.snapshots import local_folder  # noqa: PLC0415

    url = config.snapshots.url
    if url is None:
        return None
    snapshot_store(config)  # refuses a URL that means nothing
    folder = local_folder(url)
    if folder is not None:
        _check_writable("snapshots.url", folder)
    return {"url": url, "local": folder is not None}


def _check_writable(key: str, folder: Path) -> None:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise OSError(f"{key}: {folder} cannot be written, because of {there}; name a folder")


def _capacity(group: str, model: Model, config: DetectorConfig) -> dict[str, Any]:
    manifest = model.bundle.manifest
    speed = _windows_per_second(model)
    serving = Serving(model, policy_of(config))
    share = sum(1 / scale for scale in manifest.scales)  # windows a sample
    return {
        "group": group,
        "version": model.bundle.version,
        "model": manifest.model,
        "features": manifest.features,
        "scales": manifest.scales,
        "known_series": len(model.bundle.series.row),
        "threshold": _threshold(config, model),
        "windows_per_second": round(speed),
        "samples_per_second": round(speed / share),
        "resampled_every_ms": serving.transforms.every,
        "bytes_per_series": serving.slab().bytes_per_row,
    }


def _windows_per_second(model: Model) -> float:
    """Measured on golden windows in the largest tile, for about a third of a second."""
    scale = model.bundle.manifest.scales[0]
    golden = model.bundle.golden(scale)
    rung = model.scorer.rungs[-1]
    at = np.arange(rung) % len(golden.windows)
    tile = golden.windows[at], golden.center[at], golden.scale[at]
    start, count = time.monotonic(), 0
    while time.monotonic() - start < 0.3:
        model.scorer.score(scale, *tile)
        count += rung
    return count / (time.monotonic() - start)


def _threshold(config: DetectorConfig, model: Model) -> str:
    rule = policy_of(config).rule
    if rule is None:
        given = model.bundle.manifest.threshold
        told = f" ({given.provenance})" if given.provenance else ""
        return f"the bundle's: {given.method} {given.value:g}{told}"
    if rule[0] == "alarm_budget":
        return f"alarm budget of {rule[1]:g} episodes per series and day"
    return f"{rule[0]} {rule[1]:g}"


def _topics(config: DetectorConfig, *, create: bool) -> dict[str, Any]:
    from stream_detector.adapters.kafka import create_topics, topics  # noqa: PLC0415

    outputs = [config.output.topic, config.output.dead_letter_topic]
    wanted = [*config.input.topics, *outputs]
    found = topics(config.kafka, wanted)
    if create and all(name in found for name in config.input.topics):
        # As many partitions as the input has, so that events of one series keep their order.
        count = max(found[name].partitions for name in config.input.topics)
        create_topics(config.kafka, {name: count for name in outputs if name not in found})
        found = topics(config.kafka, wanted)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise SourceError(
            f"no topic {', '.join(missing)} on {', '.join(config.kafka.bootstrap_servers)}; "
            "create it, or let `check --create-topics` create those for output"
        )
    refuse_compacted(config, found)
    return {name: {"partitions": found[name].partitions} for name in wanted}


def refuse_compacted(config: DetectorConfig, found: Mapping[str, TopicInfo]) -> None:
    """Raises ConfigError where an input topic does not keep every sample."""
    compacted = [
        name
        for name in config.input.topics
        if name in found and "compact" in found[name].cleanup_policy
    ]
    if compacted:
        raise ConfigError(
            f"input topic {', '.join(compacted)} is compacted: samples vanish from it, so windows "
            "could not be rebuilt; use a topic with cleanup.policy=delete"
        )


def _print(report: dict[str, Any]) -> None:
    for group in report["groups"]:
        typer.echo(
            f"group {group['group']}: bundle {group['version']} ({group['model']}, "
            f"{len(group['features'])} features, scales {group['scales']}) verified; "
            f"threshold: {group['threshold']}"
        )
        every = group["resampled_every_ms"]
        what, pace = "samples", "sample a minute"
        if every:
            what, pace = "steps", f"step every {every / 1000:g} s"
        series = round(group["samples_per_second"] * (every / 1000 or 60))
        typer.echo(
            f"  capacity here: {group['windows_per_second']:,} windows/s, "
            f"{group['samples_per_second']:,} {what}/s, that is {series:,} series at one {pace}; "
            f"{group['bytes_per_series']:,} bytes a series"
        )
    for name, topic in report["topics"].items():
        typer.echo(f"topic {name}: {topic['partitions']} partitions")
    if report["snapshots"] is None:
        typer.echo("snapshots: none; a restart reads records again, see restore.max_replay")
    elif report["snapshots"]["local"]:
        typer.echo("snapshots: a local path; it serves one worker, or a shared volume several")
    typer.echo("ready to run")
