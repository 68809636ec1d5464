"""NASA's telemetry channels of the satellite SMAP and the rover MSL, with labelled intervals.

Hundman et al., "Detecting Spacecraft Anomalies Using LSTMs and Nonparametric Dynamic
Thresholding", KDD 2018. A channel's first column is telemetry, the others are commands.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, ClassVar

import msgspec
import numpy as np

from trainer.benchmarks import ranges
from trainer.benchmarks.cases import Case
from trainer.benchmarks.folders import arrays, columns, feature_names, own_folder, some
from trainer.data import DataError
from trainer.metrics.events import merge

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.metrics.events import Interval

MINUTE = 60_000
"""ms between samples; the files have no times, one a minute is what rates a day rest on."""
LABELS = "labeled_anomalies.csv"


class SmapMsl(ranges.RangeSuite):
    name: ClassVar[str] = "smap_msl"
    title: ClassVar[str] = "SMAP and MSL telemetry"
    origin: ClassVar[str] = (
        f"needs {LABELS} beside train/ and test/ with CHANNEL.npy, from "
        "https://github.com/khundman/telemanom, or beside CHANNEL.npz with arrays train and test"
    )
    protocol: ClassVar[str] = (
        "Trained on each channel's train part; telemetry and commands are features alike; samples "
        f"count as one a minute. {ranges.PROTOCOL} {ranges.USUAL_THRESHOLD}"
    )

    def find(self, data: Path) -> list[Path]:
        folder = own_folder(data, ["smap_msl", "telemanom"])
        labels = sorted(folder.rglob(LABELS))
        known = _known(labels[0]) if labels else {}
        files = [*folder.rglob("*.npz"), *folder.rglob("test/*.npy")]
        return some((one for one in files if one.stem in known), data, self.title, self.origin)

    def read(self, path: Path) -> Case:
        craft, anomalies = _known(_labels(path))[path.stem]
        if path.suffix == ".npz":
            parts = arrays(path, ("train", "test"))
            train, test = columns(parts["train"]), columns(parts["test"])
        else:
            other = path.parents[1] / "train" / path.name
            train, test = (columns(np.load(one, allow_pickle=False)) for one in (other, path))
        if train.shape[1:] != test.shape[1:]:
            raise DataError(f"{path}: train {train.shape} does not fit test {test.shape}")
        values = np.concatenate([train, test])
        last = len(test) - 1
        shifted = [
            (len(train) + a, len(train) + min(b, last)) for a, b in merge(anomalies) if a <= last
        ]
        times = MINUTE * np.arange(len(values), dtype=np.int64)
        names = feature_names(values.shape[1])
        return Case(path.stem, names, times, values, len(train), shifted, craft.lower())


def _labels(path: Path) -> Path:
    """The nearest file of labels above a channel. Raises DataError where there is none."""
    for folder in path.parents:
        if (folder / LABELS).is_file():
            return folder / LABELS
    raise DataError(f"{path}: no {LABELS} above it")


def _known(path: Path) -> dict[str, tuple[str, list[Interval]]]:
    """Channel -> spacecraft and labelled intervals; a channel may have several rows."""
    known: dict[str, tuple[str, list[Interval]]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                some = msgspec.json.decode(row["anomaly_sequences"], type=list[tuple[int, int]])
                known.setdefault(row["chan_id"], (row["spacecraft"], []))[1].extend(some)
    except (KeyError, msgspec.DecodeError) as error:
        raise DataError(
            f"{path}: {error}; needs columns chan_id, spacecraft, anomaly_sequences"
        ) from error
    return known
