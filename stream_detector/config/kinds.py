"""What all sections are made of: kinds of values, durations, and the error that refuses."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(gt=0, lt=1)]
Duration = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$")]
"""A number and a unit: 500ms, 10s, 5m, 6h, 7d."""

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def milliseconds(duration: str) -> int:
    """`5m` -> 300000."""
    match = re.fullmatch(r"([0-9.]+)(ms|s|m|h|d)", duration)
    if match is None:
        raise ConfigError(f"{duration!r} is not a duration; write a number and ms, s, m, h or d")
    return round(float(match[1]) * _UNITS[match[2]])


class ConfigError(Exception):
    """Configuration that cannot be used; one line that names the place and the remedy."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Refuses keys that it does not know."""
