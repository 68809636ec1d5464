"""The product's own path on one file: train on its first part, publish, load, run the engine."""

from __future__ import annotations

import math
import tempfile
import time
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from stream_detector.bundle import WINDOW, BundleError, Registry
from stream_detector.core.transforms import Transforms
from trainer.benchmarks.cases import Answer
from trainer.config import Split
from trainer.config.data import Data
from trainer.data import DataError, Dataset, clean
from trainer.evaluate import scored
from trainer.train import publish, train

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stream_detector.bundle import Bundle, Manifest
    from stream_detector.core.policy import Policy
    from stream_detector.ports import Model
    from trainer.benchmarks.cases import Case
    from trainer.config import TrainerConfig
    from trainer.data import SeriesData

    Load = Callable[[Bundle], Model]

CAUSAL = Data(missing="forward_fill")
"""Missing values repeat the last one, as the detector does: no line to a value yet to come."""


def detect(
    case: Case,
    config: TrainerConfig,
    split: Split | None,
    load: Load,
    policy: Policy | None = None,
) -> Answer:
    """Train on the first rows, then judge the others one after another.

    `split` replaces the recipe's shares of the training part. Raises DataError where that is too
    short, BundleError where the bundle cannot be served.
    """
    config = with_room(config, split, case.train, per_step(case, config.windows.every))
    series, _ = stretch(case, 0, case.train)
    trained = train(Dataset(case.features, [series]), config, quiet=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        registry = Registry(folder)
        publish(trained, registry)
        try:
            model = load(registry.load())
        except BundleError as error:  # its folder will be gone when this is read
            raise BundleError(str(error).replace(f"{folder}/", "")) from error
    return judged(case, model, policy)


def judged(case: Case, model: Model, policy: Policy | None = None) -> Answer:
    """The engine's answer for the tested rows; its windows begin in the training part."""
    manifest = model.bundle.manifest
    step = per_step(case, Transforms(manifest.transforms).every)
    start = max(case.train - step * look_back(manifest), 0)
    series, rows = stretch(case, start, len(case.timestamp))
    began = time.process_time()
    seen = scored(model, Dataset(case.features, [series]), None, policy)
    cpu = time.process_time() - began
    place = rows - case.train  # [k] of each sample among the tested rows, below 0 before them
    tested = place >= 0
    thresholds = seen.threshold[np.isfinite(seen.threshold)]
    if not np.isfinite(seen.score).any() or not len(thresholds):
        raise DataError(f"{case.name}: no window could be scored behind the training part")

    def spread(values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Onto the tested rows; those without a verdict are as calm as the calmest."""
        full = np.full(case.tested, np.nan)
        full[place[tested]] = values[tested]
        return np.where(np.isfinite(full), full, np.nanmin(values))

    def flags(values: NDArray[np.bool_]) -> NDArray[np.bool_]:
        full = np.zeros(case.tested, np.bool_)
        full[place[tested]] = values[tested]
        return full

    blame = np.full((case.tested, len(case.features)), np.nan, np.float32)
    blame[place[tested]] = seen.contribution[tested]
    at = series.timestamp
    ends = [
        (place[np.searchsorted(at, one.start)], place[np.searchsorted(at, one.end, "right") - 1])
        for one in seen.about.episodes
    ]
    judged_samples = int(np.isfinite(seen.level).sum())
    return Answer(
        score=spread(seen.score),
        level=spread(seen.level),
        threshold=float(np.median(thresholds)),
        above=flags(seen.above),
        inside=flags(seen.anomalous),
        episodes=[(max(int(first), 0), int(last)) for first, last in ends if last >= 0],
        windows=sum(judged_samples // (scale * step) for scale in manifest.scales),
        cpu=cpu,
        contribution=blame,
    )


def stretch(case: Case, start: int, stop: int) -> tuple[SeriesData, NDArray[np.int64]]:
    """Rows of a file as the product reads them, and the row of each sample that is left."""
    times = case.timestamp[start:stop]
    series = clean(case.name, times, case.values[start:stop], CAUSAL)
    if not len(series):
        raise DataError(f"{case.name}: no complete row from {start} to {stop}")
    once, first = np.unique(times, return_index=True)
    rows: NDArray[np.int64] = start + first[np.searchsorted(once, series.timestamp)]
    return series, rows


def per_step(case: Case, every: int) -> int:
    """Samples that make one step of scale 1, where they are resampled `every` so many ms."""
    return max(math.ceil(every / max(case.interval, 1.0)), 1)


def look_back(manifest: Manifest) -> int:
    """Steps before the first tested one, so that it has a window and smoothed scores."""
    experts = max(one.scale * (WINDOW + one.smoothing.n) for one in manifest.experts)
    return experts + sum(one.n for one in manifest.transforms)


def with_room(
    config: TrainerConfig, split: Split | None, rows: int, step: int = 1
) -> TrainerConfig:
    """The suite's or the recipe's shares; parts shorter than a window are given one if possible."""
    if config.split.order == "whole":  # there are no parts
        return config
    shares = split or config.split
    if shares.overlap:  # windows begin in the part before: no part needs room for a whole one
        return msgspec.structs.replace(config, split=shares)
    scales = config.windows.scales
    least = step * (WINDOW + 1) * (1 if isinstance(scales, str) else max(scales))
    validation = max(round(rows * shares.validation), least)
    held_out = max(rows - round(rows * (shares.train + shares.validation)), least)
    fitted = rows - validation - held_out
    if fitted >= least:
        shares = Split(train=fitted / rows, validation=validation / rows)
    return msgspec.structs.replace(config, split=shares)
