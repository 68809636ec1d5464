"""What the rules of episodes look at, and what they say."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream_detector.core.steps import Steps
    from stream_detector.core.windows import WindowSet
    from stream_detector.records import AnomalyEvent, Partition


@dataclass(frozen=True, slots=True)
class Who:
    """What all events of a slab share."""

    source: str
    partition: Partition
    features: tuple[str, ...]
    version: str


@dataclass(slots=True)
class Samples:
    """Accepted samples of one piece, sorted by row, with their verdicts; m rows, s steps."""

    at: NDArray[np.int64]  # [m] arrival
    time: NDArray[np.int64]  # [m]
    offset: NDArray[np.int64]  # [m]
    previous: NDArray[np.int64]  # [m] time of the series' sample before
    silence: NDArray[np.int64]  # [m] ms since then
    step: NDArray[np.int64]  # [m] the step that speaks for it; -1: it completed none
    level: NDArray[np.float32]  # [m]
    score: NDArray[np.float32]  # [m]
    threshold: NDArray[np.float32]  # [m] level that raises an alarm
    scored: NDArray[np.int32]  # [m] scores the series had before this sample's
    steps: Steps
    excess: NDArray[np.float32]  # [s, X] weighted, of the windows completed by this very step
    windows: dict[int, tuple[WindowSet, NDArray[np.float32], NDArray[np.float32]]]
    expert_scale: Sequence[int]  # [X]


@dataclass(slots=True)
class Transitions:
    events: list[tuple[int, AnomalyEvent]] = field(default_factory=list)  # arrival, event
    anomalous: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))  # [m]
    relearn: dict[int, int] = field(default_factory=dict)  # row -> sample after which it is new
    suppressed: Counter[str] = field(default_factory=Counter)  # reason -> anomalies held back
