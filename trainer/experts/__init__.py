"""Anomaly scores beside the model's own, by name. A new family is a file here and a line below.

A family computes one or several scores of a window; those that a recipe names are computed, in
one go. Families are fitted to a sample of the training windows, in closed form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.bundle import WINDOW
from stream_detector.config import ConfigError
from trainer.experts import hotelling, innovation, movement, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.experts.base import Family

FAMILIES: tuple[type[Family], ...] = (
    nearest.Nearest,
    hotelling.Hotelling,
    innovation.Innovation,
    movement.Movement,
)

SAMPLE, SAMPLE_OF_MANY = 8192, 32768
"""Training windows that families are fitted to, at most; of many features, whose covariances need

more of them, within so many values.
"""
SAMPLE_VALUES = 1 << 26

INDEPENDENT = 8
"""Windows that do not overlap in what a score is made of, which its family must have to learn from.

Fewer give a covariance that fits them and nothing else.
"""

USUAL = ("reconstruction", "newest", "stuck")
OF_THE_MODEL = (*USUAL, "below", "above")
"""Scores that every exported module has without a family, and those that make the score if none
are named."""
NAMES = (*OF_THE_MODEL, *(name for family in FAMILIES for name in family.names))


def sample(features: int) -> int:
    """Training windows that families of so many features are fitted to, at most."""
    if features == 1:
        return SAMPLE
    return max(SAMPLE, min(SAMPLE_OF_MANY, SAMPLE_VALUES // (WINDOW * features)))


def too_few(names: Sequence[str], steps: int) -> dict[str, float]:
    """The scores that so many windows, one step apart, are too few for, and how many there are that

    do not overlap. Where that is all of them, the score of the shortest summary is kept.
    """
    widths = {name: width for family in FAMILIES for name, width in family.widths.items()}
    found = {name: steps / widths[name] for name in names if name in widths}
    few = {name: count for name, count in found.items() if count < INDEPENDENT}
    if len(few) == len(names):
        few.pop(max(few, key=few.__getitem__))
    return few


def build(names: Sequence[str], features: int) -> list[Family]:
    """The families that these scores need, unfitted. Raises ConfigError for an unknown name."""
    for name in names:
        if name not in NAMES:
            raise ConfigError(f"experts: {name!r} is unknown; there are {', '.join(NAMES)}")
    needed = [[name for name in family.names if name in names] for family in FAMILIES]
    return [
        family(wanted, features) for family, wanted in zip(FAMILIES, needed, strict=True) if wanted
    ]
