"""Eleven correlated channels of one plant, and single rows of them that are anomalous.

Made, not measured: three causes that wander drive nine channels, each with noise of its own, and
two channels never change. An anomalous row is of one of three kinds and lasts for itself alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy.signal import lfilter

from trainer.config import ExpertRule, Split
from trainer.data import Dataset, SeriesData
from trainer.reading.marks import Mark, Truth
from trainer.recipes.base import Kit, Outcome, changed, seeded, with_pca
from trainer.recipes.labelled import Stream, compare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.config import TrainerConfig

Kind = Literal["spike", "mixture", "constant"]
KINDS: tuple[Kind, ...] = get_args(Kind)

LIVE, CONSTANT, CAUSES = 9, 2, 3
NAMES = [f"channel_{number}" for number in range(LIVE + CONSTANT)]
SEASON = 96
"""Rows of the season that the first cause follows."""
MEMORY = 0.95
"""Correlation of a cause with itself one row later."""
NOISE = 0.25
"""Deviation of a channel's own noise, beside causes that give it one of 1 or more."""
SPIKE = 4.0, 8.0
"""Deviations of the channel by which a spike is off."""
MIXED = 4
"""Live channels that each take the value of some other row."""
LEAP = 0.2, 0.5
"""Share of its value by which a constant channel is off."""

TRAIN, LATER, TEST = 34_000, 4_000, 2_000
"""Rows to fit, rows to stop and calibrate on, rows to test: 85%, 10% and 5% of a data set."""
SETS = 50
"""Data sets of one plant that share all but their test rows: a single one has two anomalies."""
RATE = 0.0009
"""Share of anomalous rows."""
BEFORE = 120
"""Rows of normal life that a detector has seen before the first test row."""
MINUTE = 60_000


class Plant:
    """How the causes reach the channels, and the channels' levels and sizes."""

    def __init__(self, rng: np.random.Generator) -> None:
        loadings = rng.normal(size=(CAUSES, LIVE))
        self.loadings = loadings / np.linalg.norm(loadings, axis=0)
        self.level = rng.uniform(10.0, 100.0, LIVE + CONSTANT)
        self.size = rng.uniform(0.5, 5.0, LIVE)

    def rows(
        self,
        rng: np.random.Generator,
        n: int,
        first: int = 0,
        causes: NDArray[np.float64] | None = None,  # [3] of the row before
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows first to first + n - 1 [n, 11], and the causes [3] of the last one."""
        before = rng.normal(size=CAUSES) if causes is None else causes
        push = np.sqrt(1 - MEMORY**2) * rng.normal(size=(n, CAUSES))
        wander, _ = lfilter([1.0], [1.0, -MEMORY], push, axis=0, zi=MEMORY * before[None])
        cause = wander.copy()
        cause[:, 0] += np.sin(2 * np.pi * (first + np.arange(n)) / SEASON)
        values = np.tile(self.level, (n, 1))
        values[:, :LIVE] += self.size * (cause @ self.loadings + NOISE * rng.normal(size=(n, LIVE)))
        return values, wander[-1]


def spoilt(
    rng: np.random.Generator,
    values: NDArray[np.float64],  # [n, 11] normal rows
    row: int,
    kind: Kind,
) -> NDArray[np.float64]:
    """What becomes of a row, [11].

    spike: one live channel leaps; mixture: four live channels each take the value that they have in
    some other row, so each is as usual, but not with the others; constant: a channel that never
    changes does.
    """
    found: NDArray[np.float64] = values[row].copy()
    if kind == "mixture":
        at = rng.choice(LIVE, MIXED, replace=False)
        found[at] = values[rng.integers(len(values), size=MIXED), at]
        return found
    sign = rng.choice((-1.0, 1.0))
    if kind == "spike":
        one = rng.integers(LIVE)
        found[one] += sign * rng.uniform(*SPIKE) * values[:, one].std()
    else:
        one = LIVE + rng.integers(CONSTANT)
        found[one] *= 1 + sign * rng.uniform(*LEAP)
    return found


def drawn(seed: int) -> tuple[SeriesData, list[Stream]]:
    """The rows to fit and calibrate on, and the test rows of every set after normal ones."""
    rng = np.random.default_rng(seed)
    plant = Plant(rng)
    learnt, causes = plant.rows(rng, TRAIN + LATER)
    n = len(learnt)
    bad = rng.choice(SETS * TEST, round(RATE * SETS * TEST), replace=False)
    kinds = dict(zip(bad.tolist(), rng.permutation(np.resize(KINDS, len(bad))), strict=True))
    streams = []
    for number in range(SETS):
        normal, _ = plant.rows(rng, TEST, n, causes)
        values = np.concatenate((learnt[-BEFORE:], normal))
        judged: dict[str, list[int]] = {
            "normal": [], "abnormal": [], **{kind: [] for kind in KINDS}
        }  # fmt: skip
        for row in range(TEST):
            kind = kinds.get(number * TEST + row)
            if kind is None:
                judged["normal"].append(BEFORE + row)
                continue
            values[BEFORE + row] = spoilt(rng, normal, row, kind)
            judged["abnormal"].append(BEFORE + row)
            judged[kind].append(BEFORE + row)
        rows = {name: np.array(some, np.int64) for name, some in judged.items()}
        streams.append(Stream(_series(values, n - BEFORE), rows))
    return _series(learnt, 0), streams


def measure(kit: Kit, config: TrainerConfig, seed: int) -> Outcome:
    learn, streams = drawn(seed)
    share = 1 / len(learn)
    split = Split(train=TRAIN * share, validation=LATER / 2 * share)
    config = changed(seeded(config, seed), split=split)
    pca = changed(with_pca(config), experts=[ExpertRule(name="newest")])
    first = streams[0]
    bad = first.series.timestamp[first.judged["abnormal"]].tolist()
    truth = Truth(
        "rows that the generator spoilt",
        {learn.name: [Mark(at, at) for at in bad]},
        {learn.name: int(first.series.timestamp[BEFORE])},
    )
    return compare(
        kit, Dataset(NAMES, [learn]), streams, config, pca,
        example=(Dataset(NAMES, [first.series]), truth),
    )  # fmt: skip


def _series(values: NDArray[np.float64], first: int) -> SeriesData:
    return SeriesData("plant", MINUTE * (first + np.arange(len(values))), values)
