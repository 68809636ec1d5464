"""Numenta Anomaly Benchmark: real-time detections in labelled windows, early ones earn more.

The scoring rules are in nab_scoring.py; here is what counts as the product's detections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

import msgspec
import numpy as np

from stream_detector.core.policy import DAY, Policy
from stream_detector.formats.tables import TableError, read_tables
from trainer.benchmarks.cases import Case, Judged, OperatingPoint
from trainer.benchmarks.folders import own_folder, some
from trainer.benchmarks.nab_scoring import (
    PROFILES,
    Profile,
    Rows,
    fixed,
    probation,
    read_profiles,
    rows_of,
    scores,
)
from trainer.config import Split
from trainer.data import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from trainer.benchmarks.cases import Answer
    from trainer.metrics.events import Interval

LEVEL = 2.4
"""For standard_fixed: one row in 250 reaches it. NAB takes off for each false detection an
eighteenth of what a found window gains, so that a few false ones a file are cheap. Chosen on these
files, where 2.3 to 2.5 do alike; see ABLATION.md for one that was chosen on others."""
QUIET = 30
"""Rows below it that end an episode."""
REGIME = 30
"""Days: its windows of anomalies are long."""
RECORD = 50
"""Rows: a row speaks only if its level is above those of so many rows before it."""
LABELS = "labels/combined_windows.json"
WEIGHTS = "config/profiles.json"

Windows = dict[str, list[tuple[str, str]]]


class Kept(NamedTuple):
    """What the whole suite's score needs of one file; m judged rows."""

    rows: Rows
    level: NDArray[np.float32]  # [m]
    opened: NDArray[np.bool_]  # [m] an episode opened
    profiles: dict[str, Profile]


class Nab:
    name: ClassVar[str] = "nab"
    title: ClassVar[str] = "Numenta Anomaly Benchmark"
    origin: ClassVar[str] = (
        f"needs data/CATEGORY/*.csv and {LABELS}, from https://github.com/numenta/NAB"
    )
    protocol: ClassVar[str] = (
        "Trained on the probation rows of each file (15%, at most 750), nothing of it judged. "
        "standard, reward_low_fp, reward_low_fn: NAB's rules on the files present, each with the "
        "one threshold that is best for all files together, as NAB does; a row's score is its "
        f"level, where that is above the levels of the {RECORD} rows before, since an alarm is "
        "told once (standard_every_row: without that). standard_fixed: the product's own threshold "
        f"set in advance, level {LEVEL} for every file; a detection is the first row of each of "
        f"its episodes, which {QUIET} rows below it end. What is usual is learnt anew after "
        f"{REGIME} days, not 12 hours."
    )
    headline: ClassVar[str] = "standard"
    baselines: ClassVar[tuple[str, ...]] = (
        "range", "mahalanobis", "knn", "random", "difference", "moving_average",
    )  # fmt: skip
    operating: ClassVar[OperatingPoint] = OperatingPoint(
        policy=Policy(level=LEVEL, quiet_period=QUIET, regime_change_after=REGIME * DAY)
    )
    # Probation is short: parts of it are told by the newest step alone.
    split: ClassVar[Split | None] = Split(train=0.55, validation=0.15, overlap=True)

    def find(self, data: Path) -> list[Path]:
        root = own_folder(data, ["nab"])
        known = _windows(root) if (root / LABELS).is_file() else {}
        files = (root / "data" / name for name in known)
        return some((one for one in files if one.is_file()), data, self.title, self.origin)

    def read(self, path: Path) -> Case:
        root, key = path.parents[2], f"{path.parent.name}/{path.name}"
        try:
            tables = list(read_tables(path, features=["value"]))
        except TableError as error:
            raise DataError(str(error)) from error
        times = np.concatenate([table.timestamp for table in tables])
        values = np.concatenate([table.values for table in tables])
        windows = [_rows(times, *limits, path) for limits in _windows(root)[key]]
        name = f"{path.parent.name}/{path.stem}"
        profiles = read_profiles(root / WEIGHTS)
        train = probation(len(times))
        return Case(name, ["value"], times, values, train, windows, extra=profiles)

    def judge(self, case: Case | None, answer: Answer | None) -> Judged:
        if case is None:
            return Judged({"windows": 0})
        rows = rows_of(len(case.timestamp), case.anomalies)
        level, opened = np.zeros(case.tested, np.float32), np.zeros(case.tested, np.bool_)
        if answer is not None:
            level = answer.level.astype(np.float32)
            opened[[first for first, _ in answer.episodes]] = True
        found = len(np.unique(rows.window[opened & (rows.window >= 0)]))
        body = {
            "windows": rows.windows,
            "episodes": int(opened.sum()),
            "windows_found": found,
            "false": int((opened & (rows.window < 0)).sum()),
        }
        return Judged(body, Kept(rows, level, opened, case.extra))

    def total(self, judged: Sequence[Judged]) -> dict[str, float]:
        kept: list[Kept] = [one.kept for one in judged if one.kept is not None]
        profiles = kept[0].profiles if kept else PROFILES
        told = scores([(one.rows, records(one.level)) for one in kept], profiles)
        every = scores([(one.rows, one.level) for one in kept], profiles)
        opened = [(one.rows, one.opened) for one in kept]
        metrics = {name: score for name, (score, _) in told.items()}
        metrics["standard_fixed"] = fixed(opened, profiles["standard"])
        metrics["standard_every_row"] = every["standard"][0]
        metrics["standard_threshold"] = told["standard"][1]
        return metrics

    def intervals(self, judged: Sequence[Judged]) -> dict[str, tuple[float, float]]:
        """None: one threshold for all files makes them no independent sample."""
        del judged
        return {}


def records(level: NDArray[np.float32]) -> NDArray[np.float32]:  # [m]
    """The level where it is above those of the RECORD rows before it, else 0."""
    padded = np.concatenate([np.full(RECORD, -np.inf, np.float32), level])
    before = np.lib.stride_tricks.sliding_window_view(padded[:-1], RECORD).max(axis=1)
    return np.where(level > before, level, np.float32(0))


def _windows(root: Path) -> Windows:
    path = root / LABELS
    try:
        return msgspec.json.decode(path.read_bytes(), type=Windows)
    except msgspec.DecodeError as error:
        raise DataError(f"{path}: {error}; needs FILE: [[first time, last time], ...]") from error


def _rows(times: NDArray[np.int64], first: str, last: str, path: Path) -> Interval:
    """First and last row of a window. Raises DataError where no row lies in it."""
    begin, end = (
        np.datetime64(one.replace(" ", "T"), "ms").astype(np.int64) for one in (first, last)
    )
    inside = np.flatnonzero((times >= begin) & (times <= end))
    if not len(inside):
        raise DataError(f"{path}: no row between {first} and {last}, a window of {LABELS}")
    return int(inside[0]), int(inside[-1])
