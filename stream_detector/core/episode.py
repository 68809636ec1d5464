"""What is remembered of an open episode: state alone, the rules are in episodes/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from stream_detector.records import Kind


class Window(NamedTuple):
    """The window that an event speaks of, in the input's units."""

    scale: int
    start: int  # ms
    end: int  # ms
    expected: dict[str, float]
    contribution: dict[str, float]


class Now(NamedTuple):
    """A series as of one of its samples."""

    time: int
    offset: int
    level: float
    score: float
    scored: int
    observed: dict[str, float]


@dataclass(slots=True)
class Episode:
    """An open episode; all that later events of it need."""

    kind: Kind
    started_at: int
    window: Window
    now: Now
    seq: int = 0
    quiet: int = 0
    severity: int = 0
    repeated_at: int = 0
    threshold: float = 0.0
    contaminated: bool = False  # its first window may hold an anomaly before it
    coarsest: int = 1  # largest scale that was to blame
    peak: float = 0.0  # largest score on its natural scale, and its step; where episodes end by it
    peaked: int = 0
