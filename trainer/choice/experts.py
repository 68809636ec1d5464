"""Which scales and experts suit the data, asked before anything is fitted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stream_detector.bundle import WINDOW
from trainer import experts
from trainer.calibrate import at_scale
from trainer.choice.repetition import repeats
from trainer.choice.scales import Choice, choose, largest
from trainer.config import ExpertRule
from trainer.runs import split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.config import TrainerConfig
    from trainer.reading.rows import Series


def suited(series: Sequence[Series], config: TrainerConfig) -> tuple[list[ExpertRule], Choice]:
    """The experts that hold for this data; the scales, ascending, that are configured or that the

    data suggests; of them, those that have an expert.
    """
    repeating = repeats(series, config)
    rules = expert_rules(config)
    rules = [one for one in rules if repeating or one.when == "always"] or rules
    choice = _scales(series, config, repeating=repeating)
    used = [scale for scale in choice.scales if at_scale(rules, scale, choice.scales)]
    return rules, replace(choice, scales=used)


def _scales(series: Sequence[Series], config: TrainerConfig, *, repeating: bool) -> Choice:
    wanted = config.windows.scales
    if not isinstance(wanted, str):
        return Choice(sorted(set(wanted)), None, "")
    choice = choose(series, config.split, config.windows.span)
    if not config.windows.aperiodic or (repeating and len(choice.scales) > 1):
        return choice
    most, extra = largest(series, config.split), sorted(config.windows.aperiodic)
    fitting = [scale for scale in extra if scale <= most]
    reason = choice.reason if repeating else "windows do not repeat"
    told = f"windows.aperiodic {fitting}"
    if not fitting:
        told = f"too little data for windows.aperiodic {extra}"
    return replace(choice, scales=sorted({1, *fitting}), reason=f"{reason}; {told}")


def enough_windows(
    series: Sequence[Series],
    scales: Sequence[int],
    rules: Sequence[ExpertRule],
    config: TrainerConfig,
) -> tuple[dict[int, list[str]], list[str]]:
    """Names to fit by scale, and for people, which are left out since there is too little data."""
    names, notes = {}, []
    for scale in scales:
        wanted = [one.name for one in at_scale(rules, scale, scales)]
        runs = split(series, config.split, scale).train
        steps = sum(max(len(run) - scale * WINDOW, 0) for run in runs) // scale
        few = experts.too_few(wanted, steps)
        names[scale] = [name for name in wanted if name not in few]
        notes += [
            f"scale {scale}: {name} left out: {count:.1f} windows to fit to that do not overlap, "
            f"of {experts.INDEPENDENT} needed"
            for name, count in few.items()
        ]
    return names, notes


def expert_rules(config: TrainerConfig) -> list[ExpertRule]:
    """The configured experts, or those that every module has."""
    if config.experts is not None:
        return config.experts
    smoothing = config.calibration.smoothing
    return [
        ExpertRule(name=name, smoothing=smoothing if name == "reconstruction" else 1)
        for name in experts.USUAL
    ]
