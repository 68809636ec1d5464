"""Scores and verdicts of samples, as a file: all that a report needs, without model and torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from stream_detector.formats.tables import TableError
from stream_detector.formats.tables.parquet import read_columns, write_columns
from trainer.data import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = "stream-trainer scores 1"
PER_FEATURE = ("observed", "expected", "contribution")


class Episode(msgspec.Struct, frozen=True):
    """One anomaly episode of one series, ms; and what the event said when it opened."""

    series: str
    start: int
    end: int
    level: float
    severity: str


class Known(msgspec.Struct, frozen=True):
    """One labelled anomaly of one series, ms."""

    series: str
    start: int
    end: int
    magnitude: float | None = None


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of the whole file."""

    version: str  # of the bundle
    features: list[str]
    series: list[str]  # by name, in the order of the rows
    intervals: list[float]  # of each series: median ms between samples
    days: float  # series-days that were judged
    grace: int  # steps for which an alarm still answers an anomaly that has ended
    events: int
    labels: str | None  # where labels came from; None: nothing was labelled
    begins: dict[str, int] = {}  # first ms that counts, of series that have one
    known: list[Known] = []
    episodes: list[Episode] = []
    bundle: dict[str, Any] = {}  # of the manifest, for people
    data: dict[str, Any] = {}  # what was read, for people
    history: dict[str, dict[str, list[float]]] = {}
    """By scale: `train` and `validation` loss of each pass; empty where it was not kept."""
    every: int = 0  # ms between two steps where samples are resampled; else a sample is a step

    def late(self, interval: float) -> int:
        """`grace` in ms, of a series with this sampling interval, ms."""
        return round(self.grace * (self.every or interval))

    def late_samples(self, interval: float) -> int:
        """`grace` in samples of such a series."""
        return math.ceil(self.late(interval) / interval) if self.every and interval else self.grace


@dataclass(frozen=True, slots=True)
class Scored:
    """n samples, series after series as in `about.series`, in time order; F features."""

    about: About
    code: NDArray[np.int64]  # [n] place in about.series
    timestamp: NDArray[np.int64]  # [n] ms UTC
    level: NDArray[np.float32]  # [n] NaN before the first window
    score: NDArray[np.float32]  # [n] likewise
    threshold: NDArray[np.float64]  # [n] level that raises an alarm
    anomalous: NDArray[np.bool_]  # [n] within an open episode
    label: NDArray[np.bool_]  # [n] all false where nothing was labelled
    counts: NDArray[np.bool_]  # [n] has a level, and lies where labels are meant to be used
    observed: NDArray[np.float64] = field(repr=False)  # [n, F]
    expected: NDArray[np.floating] = field(repr=False)  # [n, F] NaN where there is none
    contribution: NDArray[np.float32] = field(repr=False)  # [n, F]

    @property
    def labelled(self) -> bool:
        return self.about.labels is not None

    @property
    def above(self) -> NDArray[np.bool_]:
        """[n] the level is at or above its series' threshold: the sample by itself is an alarm."""
        return np.nan_to_num(self.level, nan=-np.inf) >= self.threshold

    def parts(self) -> Iterator[tuple[str, slice]]:
        """Name and rows of each series."""
        ends = np.searchsorted(self.code, np.arange(len(self.about.series) + 1))
        for place, name in enumerate(self.about.series):
            yield name, slice(int(ends[place]), int(ends[place + 1]))

    def save(self, path: Path) -> None:
        """As .parquet or .npz, by the ending. Raises DataError for another."""
        columns: dict[str, Any] = {
            "series": np.asarray(self.about.series)[self.code],
            "timestamp": self.timestamp,
            "level": self.level,
            "score": self.score,
            "threshold": self.threshold,
            "anomalous": self.anomalous,
            "label": self.label,
            "counts": self.counts,
        }
        for kind in PER_FEATURE:
            values = getattr(self, kind)
            for place, name in enumerate(self.about.features):
                columns[f"{kind}.{name}"] = np.ascontiguousarray(values[:, place])
        about = {"format": FORMAT, "about": msgspec.json.encode(self.about).decode()}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            write_columns(path, columns, about)
        elif path.suffix == ".npz":
            texts: dict[str, Any] = {key: np.asarray(text) for key, text in about.items()}
            np.savez_compressed(path, **(texts | columns))
        else:
            raise DataError(f"{path}: scores are written as .parquet or .npz; change the ending")


def read_scored(path: Path) -> Scored:
    """A file that `save` wrote. Raises DataError for any other."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                columns = {name: file[name] for name in file.files}
            about = {name: str(columns.pop(name)) for name in ("format", "about")}
        else:
            columns, about = read_columns(path)
        if about["format"] != FORMAT:
            raise DataError(f"{path}: scores of another version ({about['format']}); evaluate anew")
        head = msgspec.json.decode(about["about"], type=About)
        place = {name: i for i, name in enumerate(head.series)}
        names, inverse = np.unique(columns["series"].astype(str), return_inverse=True)
        code = np.array([place[str(name)] for name in names], np.int64)[inverse]
        wide = {
            kind: np.column_stack([columns[f"{kind}.{name}"] for name in head.features])
            for kind in PER_FEATURE
        }
        narrow = ("timestamp", "level", "score", "threshold", "anomalous", "label", "counts")
        return Scored(head, code, *(columns[name] for name in narrow), **wide)
    except (KeyError, ValueError, EOFError, TableError, msgspec.DecodeError) as error:
        raise DataError(
            f"{path}: not scores saved by stream-trainer evaluate --scores ({error})"
        ) from error
