"""From the normal store to a challenger, through the gate, to CURRENT: one group, one round.

    store --normal samples--> learn | held out --train--> challenger --gate--> published, promoted

Reads a store and loads scorers through ports; knows neither Parquet nor TorchScript.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from stream_detector.bundle import BundleError
from stream_detector.config import milliseconds
from stream_detector.core.policy import Policy
from trainer import experts
from trainer.calibrate import experts_of
from trainer.choice.experts import expert_rules, suited
from trainer.data import DataError, samples_in_step
from trainer.gate import Figures, decide, measure, too_little
from trainer.inject import inject
from trainer.reading.store import cut, normal_data, pauses, runs
from trainer.train import in_memory, publish, train, transformed_series

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from stream_detector.bundle import Bundle, Expert, Registry
    from stream_detector.ports import Model, Stored, StoreReader
    from trainer.config import ExpertRule, TrainerConfig
    from trainer.data import SeriesData
    from trainer.inject import Injected
    from trainer.reading.store import Slices
    from trainer.train import Trained


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one round said of one group."""

    group: str
    promoted: bool
    reason: str  # one line, with the figures
    version: str | None = None  # of the challenger, where there was enough to train one
    champion: str | None = None
    challenger_figures: Figures | None = None
    champion_figures: Figures | None = None
    data: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def line(self) -> str:
        what = f"{self.version} promoted" if self.promoted else "not promoted"
        return f"{self.group}: {what}: {self.reason}"

    def body(self) -> dict[str, Any]:
        figures = (self.challenger_figures, self.champion_figures)
        challenger, champion = (one.body() if one else None for one in figures)
        return {
            "group": self.group,
            "promoted": self.promoted,
            "reason": self.reason,
            "version": self.version,
            "previous": self.champion,
            "challenger": challenger,
            "champion": champion,
            "data": self.data,
            "seconds": self.seconds,
        }


class _Champion(NamedTuple):
    model: Model | None
    version: str | None
    note: str  # why there is none, for the verdict


def refresh(
    group: str,
    registry: Registry,
    store: StoreReader,
    load: Callable[[Bundle], Model],
    config: TrainerConfig,
    *,
    quiet: bool = False,
    shield: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Verdict:
    """One round for one group. Raises BundleError or OSError where a registry cannot be written.

    Only a promoted challenger is published. `shield` surrounds that, to keep signals out.
    """
    began = time.monotonic()
    settings = config.refresh
    champion = _champion(registry, load)
    newest = store.newest(group)
    since = None if newest is None else newest - milliseconds(settings.history)
    stored = store.read(group, since)
    samples = len(stored.timestamp)
    notes = config.choice(stored.features, samples)
    config = config.of(stored.features, samples)
    scales = _scales(config, champion, stored)
    windows = msgspec.structs.replace(config.windows, scales=scales)
    config = msgspec.structs.replace(config, windows=windows, experts=_rules(config, champion))
    samples = samples_in_step(pauses(stored), windows.every)
    margin = settings.margin * max(scales) * samples
    normal, left_out = normal_data(stored, config.data, margin, settings.hole)
    slices = cut(normal, settings.gate.held_out, left_out)
    data = {
        "stored_samples": len(stored.timestamp),
        "left_out_samples": left_out,
        "learn_samples": slices.learn.rows,
        "held_out_samples": slices.held_out.rows,
        "held_out_from": slices.at,
        "series": len(normal.series),
        "skipped_files": list(stored.skipped),
    }

    def verdict(reason: str, **more: Any) -> Verdict:
        return Verdict(
            group=group, promoted=more.pop("promoted", False), reason=reason,
            champion=champion.version, data=data, seconds=time.monotonic() - began, **more,
        )  # fmt: skip

    problem = too_little(slices, settings.gate) or _unlike(champion, slices, scales, config)
    if problem:
        return verdict(problem)
    try:
        trained = train(slices.learn, config, quiet=quiet, notes=notes)
    except DataError as error:
        return verdict(f"too little data: {error}")
    stretches = runs(slices.held_out)
    gate = settings.gate
    cases = inject(stretches, max(scales), gate.injections, gate.seed, samples=samples)
    return _compare(trained, champion, stretches, cases, registry, load, config, shield, verdict)


def _scales(config: TrainerConfig, champion: _Champion, stored: Stored) -> list[int]:
    """`auto` becomes the champion's scales, which running detectors need, or those of the data."""
    wanted = config.windows.scales
    if not isinstance(wanted, str):
        return sorted(set(wanted))
    if champion.model is not None:
        return sorted(champion.model.bundle.manifest.scales)
    settings = config.refresh
    margin = settings.margin * samples_in_step(pauses(stored), config.windows.every)
    normal, _ = normal_data(stored, config.data, margin, settings.hole)
    series = transformed_series(normal.series, config)
    return suited(series, config)[1].scales if series else [1]


def _rules(config: TrainerConfig, champion: _Champion) -> list[ExpertRule] | None:
    """Where the data decides on experts, those of the champion, which running detectors need."""
    rules = config.experts
    if rules is None or champion.model is None:
        return rules
    present = {one.name for one in champion.model.bundle.manifest.experts}
    return [
        msgspec.structs.replace(one, when="always")
        for one in rules
        if one.when == "always" or one.name in present
    ]


def _compare(
    trained: Trained,
    champion: _Champion,
    stretches: Sequence[SeriesData],
    cases: Sequence[Injected],
    registry: Registry,
    load: Callable[[Bundle], Model],
    config: TrainerConfig,
    shield: Callable[[], AbstractContextManager[None]],
    verdict: Callable[..., Verdict],
) -> Verdict:
    """Measure both on the held-out slice, and promote the challenger where it passes."""
    gate = config.refresh.gate
    budget = config.calibration.alarm_budget
    # A fixed threshold is part of each bundle; a budget is asked of both alike.
    policy = Policy() if config.calibration.threshold else Policy(alarm_budget=budget)
    challenger = measure(load(in_memory(trained, registry.path)), stretches, cases, policy)
    old = measure(champion.model, stretches, cases, policy) if champion.model else None
    decision = decide(challenger, old, budget, gate)
    reason = decision.reason + champion.note
    found = {
        "version": trained.version,
        "challenger_figures": challenger,
        "champion_figures": old,
    }
    if not decision.promote:
        return verdict(reason, **found)
    gate_metrics = challenger.metrics()
    if old is not None:
        gate_metrics |= {f"champion_{name}": value for name, value in old.metrics().items()}
    metrics = trained.manifest.metrics | {
        name: value for name, value in gate_metrics.items() if math.isfinite(value)
    }
    manifest = msgspec.structs.replace(trained.manifest, metrics=metrics)
    with shield():
        publish(type(trained)(manifest, trained.files, trained.left_out, trained.seconds), registry)
    return verdict(reason, promoted=True, **found)


def _champion(registry: Registry, load: Callable[[Bundle], Model]) -> _Champion:
    """The promoted model; a broken one does not keep a challenger from healing the registry."""
    try:
        version = registry.current()
    except BundleError:
        return _Champion(None, None, "; there was no champion")
    try:
        return _Champion(load(registry.load(version)), version, "")
    except BundleError as error:
        return _Champion(None, version, f"; the champion cannot be used: {error}")


def _unlike(
    champion: _Champion, slices: Slices, scales: list[int], config: TrainerConfig
) -> str | None:
    """Why running detectors could not take the challenger up in place of the champion."""
    if champion.model is None:
        return None
    manifest = champion.model.bundle.manifest
    layout = {scale: [*experts.NAMES] for scale in scales}
    wanted = experts_of(layout, expert_rules(config))
    for what, new, old in (
        ("features", slices.learn.features, manifest.features),
        ("windows.scales", scales, sorted(manifest.scales)),
        ("windows.transforms", config.windows.chain, manifest.transforms),
        ("experts", _experts(wanted), _experts(manifest.experts)),
    ):
        if new != old:
            mine, theirs = msgspec.to_builtins(new), msgspec.to_builtins(old)
            return (
                f"{what} {mine} are not the champion's {theirs}, and running detectors would "
                "refuse that; use `stream-trainer fit` and start the detectors anew"
            )
    return None


def _experts(some: Sequence[Expert]) -> list[str]:
    """Those of a bundle, for people: with scale and smoothing."""
    return sorted(f"{one.name}@{one.scale}/{one.smoothing.n}" for one in some)
