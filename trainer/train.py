"""The whole way from clean data to a published bundle: split, scale, fit, calibrate, export.

The commands, the demo and the refresh all come through here.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from stream_detector.bundle import WINDOW, Registry, TrainingData, Transform
from trainer import export
from trainer.calibrate import calibrate, experts_of, score_runs
from trainer.config import TrainerConfig
from trainer.data import DataError
from trainer.derived import derived
from trainer.fit import fit
from trainer.preprocess import (
    Parts,
    Scaling,
    fit_scaling,
    normalised_windows,
    split,
    stream_windows,
)
from trainer.rows import read
from trainer.scales import Choice, choose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stream_detector.bundle import Golden, Manifest
    from trainer.rows import Series, SeriesSet

GOLDEN_SOURCE = 4000
"""Held-out windows that the golden ones are drawn from, at most."""
GOLDEN_REACH = 1 << 16
"""The latest windows of a held-out run, which these come from."""

YEAR_1973_MS = 10**11
"""Earlier times are sample numbers: data that has no times of its own."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A bundle that is not yet published."""

    manifest: Manifest
    files: Mapping[str, bytes]
    left_out: list[str]  # series too short to learn from
    seconds: Mapping[str, float]  # of fitting, by scale

    @property
    def version(self) -> str:
        return self.manifest.version


def train(
    data: SeriesSet,
    config: TrainerConfig | None = None,
    *,
    quiet: bool = False,
    now: dt.datetime | None = None,
) -> Trained:
    """Train on all series of the data together. Raises DataError where they are too short."""
    config = config or TrainerConfig()
    rules = [Transform(kind=rule.kind, n=rule.n) for rule in config.windows.transforms]
    series = [derived(one, rules) for one in data.series]
    choice = chosen_scales(series, config)
    scales = choice.scales
    series, left_out = _long_enough(series, config, max(scales))
    parts = split(series, config.split)
    scaling = fit_scaling(parts.train, len(series), config.scaling)

    modules: dict[int, bytes] = {}
    metrics: dict[str, float] = {}
    seconds: dict[str, float] = {}
    history: dict[int, list[tuple[float, float]]] = {}
    for scale in scales:
        windows = normalised_windows(
            parts.train, scaling, scale,
            stride=config.windows.stride, cap=config.windows.max_windows, seed=config.fit.seed,
        )  # fmt: skip
        validation = normalised_windows(parts.validation, scaling, scale)
        fitted = fit(windows, validation, config.model, config.fit, quiet=quiet)
        modules[scale] = export.script(fitted.model)
        metrics[f"train_error_{scale}"] = fitted.train_error
        metrics[f"validation_error_{scale}"] = fitted.validation_error
        metrics[f"epochs_{scale}"] = float(fitted.epochs)
        seconds[str(scale)] = fitted.seconds
        history[scale] = fitted.history

    scorer = export.Scripted(modules)
    experts = experts_of(scales, config.calibration.smoothing)
    scored = score_runs(scorer, experts, parts.held_out, scaling, config.calibration.max_windows)
    result = calibrate(scored, experts, series, scaling, config.calibration)
    metrics["held_out_error"] = float(np.median(np.concatenate([s.raw[:, 0] for s in scored])))
    metrics["held_out_windows"] = float(result.windows)

    files = export.bundle_files(
        modules,
        result.series,
        {scale: _golden(scorer, scale, parts, scaling) for scale in scales},
        history,
    )
    manifest = export.manifest(
        created=now or dt.datetime.now(dt.UTC),
        files=files,
        features=data.features,
        scales=scales,
        normalisation=scaling.normalisation,
        experts=result.experts,
        levels=result.levels,
        threshold=result.threshold,
        model=config.model.name,
        metrics=metrics,
        training=_training(series),
        scales_reason=choice.reason,
    )
    manifest = msgspec.structs.replace(manifest, transforms=rules)
    return Trained(manifest, files, left_out, seconds)


def publish(trained: Trained, registry: Registry, *, promote: bool = True) -> str:
    """Write the bundle, by default make it CURRENT; returns its version."""
    version = registry.publish(trained.manifest, trained.files)
    if promote:
        registry.promote(version)
    return version


def chosen_scales(series: Sequence[Series], config: TrainerConfig) -> Choice:
    """The configured scales, ascending, or those that the data suggests."""
    wanted = config.windows.scales
    if isinstance(wanted, str):
        return choose(series, config.split)
    return Choice(sorted(set(wanted)), None, "")


def _long_enough(
    series: Sequence[Series], config: TrainerConfig, scale: int
) -> tuple[list[Series], list[str]]:
    """Series with a window of the largest scale in every split, and the names of the others."""
    kept: list[Series] = []
    left_out: list[str] = []
    for one in series:
        parts = split([one], config.split)
        enough = all(
            any(len(run) >= scale * (WINDOW + slack) for run in runs)
            for runs, slack in ((parts.train, 1), (parts.validation, 0), (parts.held_out, 1))
        )
        if enough:
            kept.append(one)
        else:
            left_out.append(one.name)
    if not kept:
        needed = int(np.ceil(scale * (WINDOW + 1) / config.split.least)) + 1
        longest = max(series, key=len)
        raise DataError(
            f"the longest series, {longest.name}, has {len(longest)} complete samples; "
            f"with these split shares and windows.scales a series needs about {needed}"
        )
    return kept, left_out


def _golden(
    scorer: export.Scripted,
    scale: int,
    parts: Parts,
    scaling: Scaling,
) -> Golden:
    """Golden windows from the held-out runs, all series alike, off the centre as newcomers are."""
    most = max(GOLDEN_SOURCE // len(parts.held_out), 1)
    windows, centers, spreads = [], [], []
    for run in parts.held_out:
        anchor = read(run.values[:1])[0]
        some, _ = stream_windows(run, scale, anchor, GOLDEN_REACH)
        some = some[np.unique(np.linspace(0, len(some) - 1, min(len(some), most)).astype(int))]
        windows.append(some)
        shape = (len(some), len(anchor))
        center = (scaling.center[run.series] - anchor).astype(np.float32)
        centers.append(np.broadcast_to(center, shape))
        spreads.append(np.broadcast_to(scaling.scale[run.series].astype(np.float32), shape))
    return export.golden(
        scorer, scale, np.concatenate(windows), np.concatenate(centers), np.concatenate(spreads)
    )


def _training(series: Sequence[Series]) -> TrainingData:
    start = min(int(read(one.timestamp[:1])[0]) for one in series)
    end = max(int(read(one.timestamp[-1:])[0]) for one in series)
    timed = end >= YEAR_1973_MS
    return TrainingData(
        start=_rfc3339(start) if timed else "",
        end=_rfc3339(end) if timed else "",
        rows=sum(len(one) for one in series),
        series=len(series),
    )


def _rfc3339(ms: int) -> str:
    time = dt.datetime.fromtimestamp(ms / 1000, dt.UTC)
    return time.isoformat(timespec="milliseconds")
