"""Anomaly scores beside the model's own, by name. A new family is a file here and a line below.

A family computes one or several scores of a window; those that a recipe names are computed, in
one go. Families are fitted to a sample of the training windows, in closed form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_detector.config import ConfigError
from trainer.experts import hotelling, movement, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.experts.base import Family

FAMILIES: tuple[type[Family], ...] = (nearest.Nearest, hotelling.Hotelling, movement.Movement)

SAMPLE = 8192
"""Training windows that families are fitted to, at most."""

USUAL = ("reconstruction", "newest", "stuck")
OF_THE_MODEL = (*USUAL, "below", "above")
"""Scores that every exported module has without a family, and those that make the score if none
are named."""
NAMES = (*OF_THE_MODEL, *(name for family in FAMILIES for name in family.names))


def build(names: Sequence[str], features: int) -> list[Family]:
    """The families that these scores need, unfitted. Raises ConfigError for an unknown name."""
    for name in names:
        if name not in NAMES:
            raise ConfigError(f"experts: {name!r} is unknown; there are {', '.join(NAMES)}")
    needed = [[name for name in family.names if name in names] for family in FAMILIES]
    return [
        family(wanted, features) for family, wanted in zip(FAMILIES, needed, strict=True) if wanted
    ]
