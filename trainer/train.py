"""The whole way from clean data to a published bundle: split, scale, fit, calibrate, export.

The commands, the demo and the refresh all come through here.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
)
from stream_detector.config import ConfigError
from trainer import experts, export
from trainer.calibrate import calibrate, experts_of, score_runs
from trainer.choice.experts import enough_windows, suited
from trainer.config import ExpertRule, TrainerConfig
from trainer.data import DataError
from trainer.fit import drawn, fit
from trainer.models.base import ClosedForm
from trainer.preprocess import normalised_windows, stream_windows
from trainer.reading.derived import derived
from trainer.reading.rows import read
from trainer.runs import Parts, split, whole
from trainer.scaling import Scaling, fit_scaling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stream_detector.bundle import Golden, Manifest
    from trainer.choice.scales import Choice
    from trainer.fit import Fitted, OnPass
    from trainer.models.base import WindowModel
    from trainer.reading.rows import Series, SeriesSet
    from trainer.runs import Run
    from trainer.windows import WindowSource

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


@dataclass(frozen=True, slots=True)
class Prepared:
    """Series as the model will see them, cut in time."""

    series: list[Series]  # transformed, and long enough for every scale
    left_out: list[str]
    rules: list[ExpertRule]  # experts that hold for this data
    choice: Choice
    parts: Parts
    scaling: Scaling
    names: Mapping[int, list[str]]  # experts to fit, by scale
    notes: list[str]  # of experts that are not


class Module(NamedTuple):
    """What was fitted for one scale, and with it the experts that the rules name there."""

    fitted: Fitted
    exported: export.Exported


def train(
    data: SeriesSet,
    config: TrainerConfig | None = None,
    *,
    quiet: bool = False,
    now: dt.datetime | None = None,
    notes: Sequence[str] = (),
) -> Trained:
    """Train on all series of the data together. Raises DataError where they are too short.

    `notes` go into the bundle before those that come up here.
    """
    asked = config or TrainerConfig()
    samples = sum(len(one) for one in data.series)
    notes = [*notes, *asked.choice(data.features, samples)]
    config = asked.of(data.features, samples)
    prepared = prepare(data, config)
    fitted = fit_scales(prepared, config, quiet=quiet)
    return assemble(prepared, fitted, data.features, config, now=now, notes=notes)


def prepare(data: SeriesSet, config: TrainerConfig) -> Prepared:
    """Transform, leave out what is too short, cut, and find each series' centre and scale.

    Raises DataError where all are too short, ConfigError for a threshold that needs labels.
    """
    if config.calibration.threshold is not None and config.calibration.threshold.needs_labels:
        raise ConfigError(
            "calibration.threshold: f_beta needs labels, which this data lacks; leave it out, then "
            "`stream-trainer threshold --bundle REGISTRY --data LABELLED --rule 'f_beta: 1.0'`"
        )
    series = transformed_series(data.series, config)
    rules, choice = suited(series, config)
    series, left_out = _long_enough(series, config, max(choice.scales))
    parts = split(series, config.split, max(choice.scales))
    scaling = fit_scaling(parts.train, len(series), config.scaling)
    names, notes = enough_windows(series, choice.scales, rules, config)
    return Prepared(series, left_out, rules, choice, parts, scaling, names, notes)


def fit_scales(
    prepared: Prepared,
    config: TrainerConfig,
    *,
    quiet: bool = False,
    on_pass: OnPass | None = None,
) -> dict[int, Module]:
    """One module for each scale, ascending; `on_pass` begins with pass 1 again for each."""
    found = {}
    for scale in prepared.choice.scales:
        parts = split(prepared.series, config.split, scale)
        windows = _windows(parts.train, prepared.scaling, scale, config)
        validation = normalised_windows(
            parts.validation, prepared.scaling, scale,
            local=config.windows.local, clip=config.windows.clip,
        )  # fmt: skip
        one = fit(windows, validation, config.model, config.fit, quiet=quiet, on_pass=on_pass)
        found[scale] = Module(one, _exported(one.model, windows, prepared.names[scale], config))
    return found


def assemble(
    prepared: Prepared,
    fitted: Mapping[int, Module],
    features: list[str],
    config: TrainerConfig,
    *,
    now: dt.datetime | None = None,
    notes: Sequence[str] = (),
) -> Trained:
    """Calibrate on the held-out part, and make the files of a bundle."""
    series, parts, scaling = prepared.series, prepared.parts, prepared.scaling
    scales = prepared.choice.scales
    modules: dict[int, bytes] = {}
    outputs: dict[int, list[str]] = {}
    metrics: dict[str, float] = {}
    seconds: dict[str, float] = {}
    history: dict[int, list[tuple[float, float]]] = {}
    for scale, (one, exported) in fitted.items():
        modules[scale] = export.script(exported)
        outputs[scale] = exported.names
        metrics[f"train_error_{scale}"] = one.train_error
        metrics[f"validation_error_{scale}"] = one.validation_error
        metrics[f"epochs_{scale}"] = float(one.epochs)
        seconds[str(scale)] = one.seconds
        history[scale] = one.history

    scorer = export.Scripted(modules)
    wanted = experts_of(outputs, prepared.rules)
    fitted_all = config.split.order == "whole"
    scored = score_runs(
        scorer, wanted, parts.held_out, scaling, config.calibration.max_windows, early=fitted_all
    )
    result = calibrate(scored, wanted, series, scaling, config.calibration, fitted=fitted_all)
    metrics["held_out_error"] = float(np.nanmedian(np.concatenate([s.raw[:, 0] for s in scored])))
    metrics["held_out_windows"] = float(result.windows)

    if config.fit.refit:
        again = _refitted(prepared, fitted, config)
        modules = {scale: export.script(one) for scale, one in again.items()}
        scorer = export.Scripted(modules)

    files = export.bundle_files(
        modules,
        result.series,
        {scale: _golden(scorer, scale, parts, scaling) for scale in scales},
        history,
    )
    manifest = export.manifest(
        created=now or dt.datetime.now(dt.UTC),
        files=files,
        features=features,
        scales=scales,
        normalisation=scaling.normalisation,
        experts=result.experts,
        levels=result.levels,
        threshold=result.threshold,
        model=config.model.name,
        metrics=metrics,
        training=_training(series),
        scales_reason=prepared.choice.reason,
        notes=[*notes, *prepared.notes],
    )
    manifest = msgspec.structs.replace(
        manifest, transforms=config.windows.chain, fusion=config.calibration.fusion
    )
    return Trained(manifest, files, prepared.left_out, seconds)


def _windows(
    runs: Sequence[Run], scaling: Scaling, scale: int, config: TrainerConfig
) -> WindowSource:
    rule = config.windows
    return normalised_windows(
        runs, scaling, scale, local=rule.local, clip=rule.clip, seed=config.fit.seed,
        stride=rule.stride, cap=rule.max_windows,
    )  # fmt: skip


def _exported(
    model: WindowModel, windows: WindowSource, names: Sequence[str], config: TrainerConfig
) -> export.Exported:
    """The model with the families of experts that these names need, fitted to the windows."""
    seed = config.fit.seed
    families = experts.build(names, windows.features)
    sample = torch.from_numpy(windows.take(drawn(windows, experts.sample(windows.features), seed)))
    for family in families:
        family.prepare(sample, seed)
    moves = (sample != sample[:, :1]).flatten(0, 1).any(dim=0)
    return export.Exported(
        model,
        families,
        local=config.windows.local,
        clip=config.windows.clip,
        counted=names,
        moves=moves,
    )


def _refitted(
    prepared: Prepared, fitted: Mapping[int, Module], config: TrainerConfig
) -> dict[int, export.Exported]:
    """By scale, with all that is solved for in closed form fitted to the whole series."""
    found = {}
    for scale, (one, _) in fitted.items():
        windows = _windows(whole(prepared.series), prepared.scaling, scale, config)
        model = one.model
        if isinstance(model, ClosedForm):
            model = fit(windows, windows, config.model, config.fit, quiet=True).model
        found[scale] = _exported(model, windows, prepared.names[scale], config)
    return found


def transformed_series(series: Sequence[Series], config: TrainerConfig) -> list[Series]:
    """What the windows are made of: the series after their transforms, as the detector does it."""
    return derived(series, config.windows.chain)


def publish(trained: Trained, registry: Registry, *, promote: bool = True) -> str:
    """Write the bundle, by default make it CURRENT; returns its version."""
    version = registry.publish(trained.manifest, trained.files)
    if promote:
        registry.promote(version)
    return version


def in_memory(trained: Trained, folder: Path = Path()) -> Bundle:
    """The bundle as a detector would read it, though nothing is on disk."""
    series = SeriesTable.from_bytes(trained.files[SERIES])
    return Bundle(folder / trained.version, trained.manifest, series, trained.files)


def _long_enough(
    series: Sequence[Series], config: TrainerConfig, scale: int
) -> tuple[list[Series], list[str]]:
    """Series with a window of the largest scale in every split, and the names of the others."""
    kept: list[Series] = []
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
        steps = (WINDOW + 1) / shares.least
        if shares.overlap:
            steps = max(steps, 2 / later)
        needed = int(np.ceil(scale * steps)) + 1
        longest = max(series, key=len)
        what = "steps after resampling" if config.windows.every else "samples"
        raise DataError(
            f"the longest series, {longest.name}, has {len(longest)} complete {what}; "
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
