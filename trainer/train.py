"""The whole way from clean data to a published bundle: split, scale, fit, calibrate, export.

The commands, the demo and the refresh all come through here.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

from stream_detector.bundle import (
    SERIES,
    WINDOW,
    Bundle,
    Registry,
    SeriesTable,
    TrainingData,
    Transform,
)
from stream_detector.core.transforms import transformed
from trainer import experts, export
from trainer.calibrate import at_scale, calibrate, experts_of, score_runs
from trainer.config import ExpertRule, TrainerConfig
from trainer.data import DataError
from trainer.fit import drawn, fit
from trainer.preprocess import (
    Parts,
    Scaling,
    fit_scaling,
    normalised_windows,
    split,
    stream_windows,
)
from trainer.scales import Choice, choose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stream_detector.bundle import Golden, Manifest
    from trainer.data import Dataset, SeriesData
    from trainer.fit import Fitted

GOLDEN_SOURCE = 4000
"""Held-out windows that the golden ones are drawn from, at most."""

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
    data: Dataset,
    config: TrainerConfig | None = None,
    *,
    quiet: bool = False,
    now: dt.datetime | None = None,
) -> Trained:
    """Train on all series of the data together. Raises DataError where they are too short."""
    config = config or TrainerConfig()
    transforms = [Transform(kind=rule.kind, n=rule.n) for rule in config.windows.transforms]
    series = [
        replace(one, values=transformed(transforms, one.values, one.timestamp))
        for one in data.series
    ]
    choice = chosen_scales(series, config)
    scales = choice.scales
    series, left_out = _long_enough(series, config, max(scales))
    parts = split(series, config.split, max(scales))
    scaling = fit_scaling(parts.train, len(series), config.scaling)

    rules = expert_rules(config)
    modules: dict[int, bytes] = {}
    outputs: dict[int, list[str]] = {}
    metrics: dict[str, float] = {}
    seconds: dict[str, float] = {}
    history: dict[int, list[tuple[float, float]]] = {}
    for scale in scales:
        names = [one.name for one in at_scale(rules, scale, scales)]
        own = split(series, config.split, scale)
        fitted, exported = _fit(own, scaling, scale, names, config, quiet=quiet)
        modules[scale] = export.script(exported)
        outputs[scale] = exported.names
        metrics[f"train_error_{scale}"] = fitted.train_error
        metrics[f"validation_error_{scale}"] = fitted.validation_error
        metrics[f"epochs_{scale}"] = float(fitted.epochs)
        seconds[str(scale)] = fitted.seconds
        history[scale] = fitted.history

    scorer = export.Scripted(modules)
    wanted = experts_of(outputs, rules)
    scored = score_runs(scorer, wanted, parts.held_out, scaling, config.calibration.max_windows)
    result = calibrate(scored, wanted, series, scaling, config.calibration)
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
    manifest = msgspec.structs.replace(
        manifest, transforms=transforms, fusion=config.calibration.fusion
    )
    return Trained(manifest, files, left_out, seconds)


def _fit(
    parts: Parts,
    scaling: Scaling,
    scale: int,
    names: Sequence[str],
    config: TrainerConfig,
    *,
    quiet: bool,
) -> tuple[Fitted, export.Exported]:
    """The model of one scale, and with it the experts that the rules name there."""
    local, clip, seed = config.windows.local, config.windows.clip, config.fit.seed
    windows = normalised_windows(
        parts.train, scaling, scale, local=local, clip=clip, seed=seed,
        stride=config.windows.stride, cap=config.windows.max_windows,
    )  # fmt: skip
    validation = normalised_windows(parts.validation, scaling, scale, local=local, clip=clip)
    families = experts.build(names, scaling.center.shape[1])
    if families:
        sample = torch.from_numpy(windows.take(drawn(windows, experts.SAMPLE, seed)))
        for family in families:
            family.prepare(sample, seed)
    fitted = fit(windows, validation, config.model, config.fit, quiet=quiet)
    return fitted, export.Exported(fitted.model, families, local=local, clip=clip)


def publish(trained: Trained, registry: Registry, *, promote: bool = True) -> str:
    """Write the bundle, by default make it CURRENT; returns its version."""
    version = registry.publish(trained.manifest, trained.files)
    if promote:
        registry.promote(version)
    return version


def expert_rules(config: TrainerConfig) -> list[ExpertRule]:
    """The configured experts, or those that every module has."""
    if config.experts is not None:
        return config.experts
    smoothing = config.calibration.smoothing
    return [
        ExpertRule(name=name, smoothing=smoothing if name == "reconstruction" else 1)
        for name in experts.USUAL
    ]


def in_memory(trained: Trained, folder: Path = Path()) -> Bundle:
    """The bundle as a detector would read it, though nothing is on disk."""
    series = SeriesTable.from_bytes(trained.files[SERIES])
    return Bundle(folder / trained.version, trained.manifest, series, trained.files)


def chosen_scales(series: Sequence[SeriesData], config: TrainerConfig) -> Choice:
    """The configured scales, ascending, or those that the data suggests."""
    wanted = config.windows.scales
    if isinstance(wanted, str):
        return choose(series, config.split)
    return Choice(sorted(set(wanted)), None, "")


def _long_enough(
    series: Sequence[SeriesData], config: TrainerConfig, scale: int
) -> tuple[list[SeriesData], list[str]]:
    """Series with a window of the largest scale in every split, and the names of the others."""
    kept: list[SeriesData] = []
    left_out: list[str] = []
    for one in series:
        parts = split([one], config.split, scale)
        enough = all(
            any(len(run) >= scale * (WINDOW + slack) for run in runs)
            for runs, slack in ((parts.train, 1), (parts.validation, 0), (parts.held_out, 1))
        )
        if enough:
            kept.append(one)
        else:
            left_out.append(one.name)
    if not kept:
        shares = config.split
        later = min(shares.validation, 1 - shares.train - shares.validation)
        steps = max((WINDOW + 1) / shares.train, (2 if shares.overlap else WINDOW + 1) / later)
        needed = int(np.ceil(scale * steps)) + 1
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
        anchor = run.values[0]
        some, _ = stream_windows(run, scale, anchor)
        some = some[np.unique(np.linspace(0, len(some) - 1, min(len(some), most)).astype(int))]
        windows.append(some)
        shape = (len(some), len(anchor))
        center = (scaling.center[run.series] - anchor).astype(np.float32)
        centers.append(np.broadcast_to(center, shape))
        spreads.append(np.broadcast_to(scaling.scale[run.series].astype(np.float32), shape))
    return export.golden(
        scorer, scale, np.concatenate(windows), np.concatenate(centers), np.concatenate(spreads)
    )


def _training(series: Sequence[SeriesData]) -> TrainingData:
    start = min(int(one.timestamp[0]) for one in series)
    end = max(int(one.timestamp[-1]) for one in series)
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
