"""`stream-detector bench`: what this machine does, measured with the product's own parts."""

from __future__ import annotations

import json
import logging
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
import typer

from stream_detector.bundle import Registry
from stream_detector.commands.bench_restore import Size, restore

if TYPE_CHECKING:
    from stream_detector.ports import Model


def bench(
    *,
    suite: Annotated[Literal["restore"], typer.Option(help="What to measure.")] = "restore",
    model: Annotated[str, typer.Option(help="Of the trainer's models.")] = "dense_autoencoder",
    series: Annotated[int, typer.Option(min=8, help="Univariate series.")] = 1_000_000,
    partitions: Annotated[int, typer.Option(min=1, help="That they lie in.")] = 8,
    every: Annotated[
        str, typer.Option(help="`snapshots.every`.", show_default="the configuration's")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure this machine: restore, a restart with its replay, and the stalls by snapshots."""
    logging.disable(logging.WARNING)

    def say(text: str) -> None:
        typer.echo(text, err=True)

    results = []
    with tempfile.TemporaryDirectory(prefix="stream-detector-bench-") as folder:
        say(f"training a {model}")
        registry = _trained(model, Path(folder))
        for each in restore(lambda: _load(registry), Size(series, partitions), every, say):
            row = {
                "suite": suite,
                "model": model,
                "name": each.name,
                "value": each.value,
                "unit": each.unit,
                "ratio_to": None if each.goal is None else f"{each.goal:g} {each.unit} wanted",
                "ratio": None if each.goal is None else each.value / each.goal,
            }
            results.append(row)
            if not as_json:
                wanted = "" if each.goal is None else f" ({row['ratio_to']})"
                typer.echo(f"{each.name}: {each.value:,.6g} {each.unit}{wanted}")
    if as_json:
        typer.echo(
            json.dumps({"hardware": _hardware(), "versions": _versions(), "results": results})
        )


def _trained(name: str, folder: Path) -> Registry:
    """A bundle of noise: how well it detects is not what is measured."""
    from trainer.config import Fit, ModelChoice, TrainerConfig  # noqa: PLC0415
    from trainer.data import Dataset, SeriesData  # noqa: PLC0415
    from trainer.train import publish, train  # noqa: PLC0415

    values = np.random.default_rng(0).normal(0, 1, (2000, 1))
    times = 1_764_201_600_000 + 60_000 * np.arange(len(values), dtype=np.int64)
    fit = msgspec.convert({"epochs": 2, "threads": 1, "device": "cpu"}, type=Fit)
    config = TrainerConfig(model=ModelChoice(name=name), fit=fit)
    registry = Registry(folder / "registry")
    data = Dataset(["value"], [SeriesData("noise", times, values)])
    publish(train(data, config, quiet=True), registry)
    return registry


def _load(registry: Registry) -> Model:
    from stream_detector.adapters.torch_scorer import load_model  # noqa: PLC0415

    return load_model(registry.load(), "cpu", 1)


def _hardware() -> dict[str, Any]:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    }


def _versions() -> dict[str, str]:
    return {
        "stream_detector": version("stream-detector"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": version("torch"),
    }
