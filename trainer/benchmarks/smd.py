"""Server Machine Dataset: 38 metrics a server, each with a normal half and a labelled half.

Su et al., "Robust Anomaly Detection for Multivariate Time Series through Stochastic Recurrent
Neural Network", KDD 2019. One sample a minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trainer.benchmarks import ranges
from trainer.benchmarks.cases import Case
from trainer.benchmarks.folders import arrays, feature_names, own_folder, some
from trainer.data import DataError
from trainer.metrics.events import stretches

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


MINUTE = 60_000
PARTS = ("train", "test", "test_label")


class Smd(ranges.RangeSuite):
    name: ClassVar[str] = "smd"
    title: ClassVar[str] = "Server Machine Dataset"
    origin: ClassVar[str] = (
        "needs train/, test/ and test_label/ with machine-*.txt, from ServerMachineDataset of "
        "https://github.com/NetManAIOps/OmniAnomaly, or machine-*.npz with arrays of these names"
    )
    protocol: ClassVar[str] = (
        f"Trained on each machine's train part. {ranges.PROTOCOL} {ranges.USUAL_THRESHOLD}"
    )

    def find(self, data: Path) -> list[Path]:
        folder = own_folder(data, ["smd", "ServerMachineDataset"])
        found = [*folder.glob("machine-*.npz"), *(folder / "test").glob("machine-*.txt")]
        return some(found, data, self.title, self.origin)

    def read(self, path: Path) -> Case:
        train, test, label = _parts(path)
        if train.shape[1:] != test.shape[1:] or label.shape != test.shape[:1]:
            raise DataError(f"{path}: train {train.shape}, test {test.shape}, {label.shape} labels")
        values = np.concatenate([train, test]).astype(np.float64)
        times = MINUTE * np.arange(len(values), dtype=np.int64)
        flags = np.concatenate([np.zeros(len(train), np.bool_), label > 0])
        names = feature_names(values.shape[1])
        return Case(path.stem, names, times, values, len(train), stretches(flags))


def _parts(path: Path) -> list[NDArray[np.float64]]:
    if path.suffix == ".npz":
        return list(arrays(path, PARTS).values())
    try:
        root = path.parents[1]
        return [np.loadtxt(root / part / path.name, delimiter=",") for part in PARTS]
    except ValueError as error:
        raise DataError(f"{path}: {error}; needs numbers separated by commas") from error
