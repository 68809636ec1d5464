"""A recipe as a user takes it up: fit by its name, replay, events; on small files of its kind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from stream_detector.cli import execute
from trainer.cli import run
from trainer.config.recipes import recipes_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def cheaper(recipe: str, folder: Path, changes: Mapping[str, Mapping[str, Any]]) -> Path:
    """The recipe's file with some keys of its sections changed, so that it fits in a second."""
    text = (recipes_folder() / f"{recipe}.yaml").read_text("utf-8")
    config: dict[str, Any] = yaml.safe_load(text)
    for section, values in changes.items():
        config.setdefault(section, {}).update(values)
    path = folder / f"{recipe}.yaml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    return path


def opened(config: Path, learn: Path, live: Path, folder: Path) -> list[dict[str, Any]]:
    """Bodies of the events that open an anomaly, after `fit` on one file and `replay` of another.

    The series keeps its name, which is the file's stem.
    """
    registry, events = folder / "registry", folder / "events.ndjson"
    arguments = ["--config", str(config), "--data", str(learn), "--out", str(registry)]
    assert run(["fit", "--json", *arguments]) == 0
    arguments = ["--bundle", str(registry), "--input", str(live), "--output", str(events)]
    assert execute(["replay", "--device", "cpu", *arguments]) == 0
    bodies = [json.loads(line)["data"] for line in events.read_text("utf-8").splitlines()]
    return [one for one in bodies if (one["kind"], one["status"]) == ("anomaly", "opened")]
