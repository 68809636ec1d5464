"""The scoring rules of the Numenta Anomaly Benchmark, all thresholds in one pass over sorted rows.

Lavin & Ahmad, "Evaluating Real-time Anomaly Detection Algorithms - the Numenta Anomaly Benchmark",
ICMLA 2015. A detection earns the more the earlier in its window it comes, each window once; one
outside costs the more the further behind a window it comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from trainer.data import DataError
from trainer.metrics import NAN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from trainer.metrics.events import Interval

PROBATION, COUNTED_ROWS = 0.15, 5000
"""Share of a file that is not judged, of at most so many of its rows."""
FAR = 3.0
"""Window widths behind a window beyond which a false detection costs all of its weight."""


class Profile(NamedTuple):
    """What a found window earns, a false detection costs, a missed window costs."""

    true: float
    false: float
    missed: float


PROFILES = {
    "standard": Profile(1.0, 0.11, 1.0),
    "reward_low_fp": Profile(1.0, 0.22, 1.0),
    "reward_low_fn": Profile(1.0, 0.11, 2.0),
}
"""As NAB publishes them; config/profiles.json in its folder overrules them."""

_NAMES = {
    "standard": "standard",
    "reward_low_fp": "reward_low_FP_rate",
    "reward_low_fn": "reward_low_FN_rate",
}


class _Costs(msgspec.Struct):
    true: float = msgspec.field(name="tpWeight")
    false: float = msgspec.field(name="fpWeight")
    missed: float = msgspec.field(name="fnWeight")


class _Entry(msgspec.Struct):
    costs: _Costs = msgspec.field(name="CostMatrix")


def read_profiles(path: Path) -> dict[str, Profile]:
    """NAB's config/profiles.json; the published weights where there is none."""
    if not path.is_file():
        return dict(PROFILES)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, _Entry])
        costs = {ours: found[theirs].costs for ours, theirs in _NAMES.items()}
    except (msgspec.DecodeError, KeyError) as error:
        raise DataError(f"{path}: {error}; needs NAB's three application profiles") from error
    return {name: Profile(one.true, one.false, one.missed) for name, one in costs.items()}


def probation(rows: int) -> int:
    """Rows at the start of a file that are not judged."""
    return int(min(np.floor(PROBATION * rows), PROBATION * COUNTED_ROWS))


def sigmoid(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n] 2 / (1 + e^(5 x)) - 1: near 1 at a window's start (-1), 0 at its end, -1 far behind."""
    return np.where(position > FAR, -1.0, 2 / (1 + np.exp(5 * np.minimum(position, FAR))) - 1)


@dataclass(frozen=True, slots=True)
class Rows:
    """The m judged rows of one file."""

    gain: NDArray[np.float64]  # [m] of a detection: in a window 1 at its start, outside below 0
    window: NDArray[np.int64]  # [m] number of the window, -1 outside

    @property
    def windows(self) -> int:
        return len(np.unique(self.window[self.window >= 0]))


def rows_of(count: int, windows: Sequence[Interval]) -> Rows:
    """Of a file of `count` rows; windows are first and last row of each, in order."""
    place = np.arange(count)
    position = np.full(count, np.inf)
    number = np.full(count, -1, np.int64)
    for at, (first, last) in enumerate(windows):
        width = last - first + 1
        number[first : last + 1] = at
        position[first : last + 1] = (place[first : last + 1] - last - 1) / width
        behind = place[last + 1 :]
        position[last + 1 :] = (behind - last) / max(width - 1, 1)
    gain = sigmoid(position)
    gain[number >= 0] /= sigmoid(np.array([-1.0]))[0]
    start = probation(count)
    return Rows(gain[start:], number[start:])


@dataclass(frozen=True, slots=True)
class Sweep:
    """Raw scores at all thresholds, from above the highest score down; T of them."""

    threshold: NDArray[np.float64]  # [T] rows with at least this score are detections
    score: NDArray[np.float64]  # [T]

    @property
    def best(self) -> int:
        """The highest threshold among the best, as NAB's optimiser has it."""
        return int(np.argmax(self.score))


def sweep(
    files: Iterable[tuple[Rows, NDArray[np.floating]]],  # and the score of each row [m]
    profile: Profile,
) -> Sweep:
    """One threshold for all files together."""
    gains, windows, scores = [], [], []
    count = 0
    for rows, score in files:
        gains.append(rows.gain)
        windows.append(np.where(rows.window >= 0, rows.window + count, -1))
        scores.append(np.asarray(score, np.float64))
        count += int(rows.window.max(initial=-1)) + 1
    gain, window, score = (np.concatenate(part) for part in (gains, windows, scores))
    order = np.argsort(-score, kind="stable")
    gain, window, score = gain[order], window[order], score[order]
    step = np.where(window < 0, profile.false * gain, 0.0)
    best = np.full(count, -profile.missed)
    for row in np.flatnonzero(window >= 0).tolist():
        earned = profile.true * gain[row]
        step[row] = max(earned - best[window[row]], 0.0)
        best[window[row]] += step[row]
    nothing = -profile.missed * len(np.unique(window[window >= 0]))
    raw = nothing + np.cumsum(step)
    last = np.flatnonzero(np.diff(score, append=-np.inf))  # of the rows with one score
    return Sweep(np.append(np.inf, score[last]), np.append(nothing, raw[last]))


def normalised(raw: float, windows: int, profile: Profile) -> float:
    """0 for a detector that says nothing, 100 for one that finds every window at its start."""
    if not windows:
        return NAN
    nothing, perfect = -profile.missed * windows, profile.true * windows
    return 100 * (raw - nothing) / (perfect - nothing)


def scores(
    files: Sequence[tuple[Rows, NDArray[np.floating]]], profiles: Mapping[str, Profile]
) -> dict[str, tuple[float, float]]:
    """Normalised score of each profile at its own best threshold, and that threshold."""
    windows = sum(rows.windows for rows, _ in files)
    found = {}
    for name, profile in profiles.items():
        swept = sweep(files, profile)
        at = swept.best
        score = normalised(float(swept.score[at]), windows, profile)
        found[name] = score, float(swept.threshold[at])
    return found


def fixed(
    files: Sequence[tuple[Rows, NDArray[np.bool_]]],  # and whether each row is a detection [m]
    profile: Profile,
) -> float:
    """Normalised score of detections as they were made."""
    swept = sweep([(rows, made.astype(np.float64)) for rows, made in files], profile)
    made = swept.score[swept.threshold >= 1]
    return normalised(float(made[-1]), sum(rows.windows for rows, _ in files), profile)
