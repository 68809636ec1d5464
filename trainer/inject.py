"""Known anomalies put into normal data, seeded, so that two models face the very same ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from stream_detector.bundle import WINDOW
from stream_detector.core.robust import median_and_spread
from trainer.data import SeriesData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Kind = Literal["spike", "level_shift", "noise_burst", "flatline"]
KINDS: tuple[Kind, ...] = get_args(Kind)

LEARN = 120
"""Steps, then scores, that the detector needs of a series that its bundle does not know."""

LENGTH = {"spike": 2, "level_shift": WINDOW, "noise_burst": 40, "flatline": WINDOW}
"""Steps that an anomaly lasts at scale 1."""

SIZE = {"spike": (8.0, 16.0), "level_shift": (4.0, 8.0), "noise_burst": (3.0, 6.0)}
"""Robust spreads of the stretch that it is off by; of the noise, the standard deviation."""


class Injected(NamedTuple):
    kind: Kind
    stretch: SeriesData  # with the lead that a detector needs before it
    onset: int  # ms, first anomalous sample
    end: int  # ms, last one that an alarm still counts for
    length: int  # anomalous samples


def inject(
    stretches: Sequence[SeriesData],
    scale: int,
    each: int,
    seed: int,
    strength: float = 1.0,
    samples: int = 1,
) -> list[Injected]:
    """`each` anomalies of every kind at random places of stretches that are long enough.

    `scale` is the largest of the models'; lead and anomaly grow with it, and with the `samples`
    that make one step of scale 1. `strength` multiplies SIZE. Empty where no stretch is long
    enough.
    """
    rng = np.random.default_rng(seed)
    step = scale * samples
    least = (WINDOW + WINDOW // 2) * step  # a known series is judged after 60 steps
    most = least + LEARN * samples + LEARN * step
    tail = WINDOW * step
    room = np.array([max(len(one) - least - (WINDOW + 1) * step, 0) for one in stretches])
    if not room.sum():
        return []
    cases = []
    for kind in KINDS:
        for _ in range(each):
            one = stretches[int(rng.choice(len(stretches), p=room / room.sum()))]
            length = LENGTH[kind] * (step if kind != "spike" else samples)
            onset = int(rng.integers(least, len(one) - length))
            start, stop = max(onset - most, 0), min(onset + length + tail, len(one))
            values = one.values[start:stop].copy()
            values[onset - start : onset - start + length] = _anomaly(
                kind, one.values, onset, length, strength, rng
            )
            stretch = SeriesData(one.name, one.timestamp[start:stop], values)
            first, last = int(one.timestamp[onset]), int(one.timestamp[stop - 1])
            cases.append(Injected(kind, stretch, first, last, length))
    return cases


def _anomaly(
    kind: Kind,
    values: NDArray[np.float64],
    onset: int,
    length: int,
    strength: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:  # [length, F]
    """At least one feature is hit, each other with even odds; a flatline holds all of them."""
    part = values[onset : onset + length].copy()
    if kind == "flatline":
        part[:] = values[onset - 1]
        return part
    width = values.shape[1]
    _, spread = median_and_spread(values)
    hit = (rng.random(width) < 0.5) | (np.arange(width) == rng.integers(width))
    size = (
        strength * rng.uniform(*SIZE[kind], width) * rng.choice((-1.0, 1.0), width) * spread * hit
    )
    if kind == "noise_burst":
        return np.asarray(part + size * rng.standard_normal(part.shape))
    return np.asarray(part + size)
