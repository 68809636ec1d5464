"""Which column is the time, which the series, which the features; columns -> Table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.formats.tables.errors import TableError
from stream_detector.formats.tables.table import Table

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from stream_detector.formats.tables.files import DataFile

TIME_NAMES = ("timestamp", "time", "datetime", "date", "ds")
SERIES_NAME = "series"
LABEL_NAMES = frozenset(
    {
        "anomaly",
        "anomalous",
        "changepoint",
        "is_anomaly",
        "label",
        "level",
        "model_version",
    }
)
"""What is known about a sample rather than measured: features only where asked for."""

INDEX_STEP_MS = 1000
"""Without a time column, sample i of a series is at i * 1000 ms."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user named; None leaves the choice to the usual names."""

    series_column: str | None = None
    timestamp_column: str | None = None
    features: tuple[str, ...] | None = None
    label: str | None = None  # column to read beside the features; it becomes the last of them
    array: str | None = None  # of an npz file that holds several


@dataclass(frozen=True, slots=True)
class Layout:
    series: str | None  # column; None: the file's stem
    timestamp: str | None  # column; None: the sample's index
    features: tuple[str, ...]


def time_name(names: Collection[str]) -> str | None:
    """The first of the usual names that is there, in any case."""
    lower = {name.lower(): name for name in reversed(list(names))}
    return next((lower[usual] for usual in TIME_NAMES if usual in lower), None)


def series_name(names: Collection[str]) -> str | None:
    return next((name for name in names if name.lower() == SERIES_NAME), None)


@lru_cache(maxsize=256)  # rows of JSON ask for every row, and have few shapes
def usual_roles(names: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Names of series and time."""
    return series_name(names), time_name(names)


def may_be_feature(name: str) -> bool:
    """Whether a column of numbers is a feature without being asked for."""
    return bool(name) and name.lower() not in LABEL_NAMES


def choose(
    source: DataFile, names: Sequence[str], numeric: Collection[str], wanted: Wanted
) -> Layout:
    """The roles of a file's columns, `numeric` being those that hold numbers. Raises TableError."""
    named = (wanted.series_column, wanted.timestamp_column, wanted.label)
    for asked in (*named, *(wanted.features or ())):
        if asked is not None and asked not in names:
            shown = ", ".join(repr(name) for name in names[:20])
            raise TableError(source, f"has no column {asked!r}; it has {shown}")
    timestamp = wanted.timestamp_column or time_name(
        [name for name in names if name not in (wanted.features or ())]
    )
    series = wanted.series_column or series_name(names)
    label = () if wanted.label is None else (wanted.label,)
    if wanted.features is not None:
        features = tuple(name for name in wanted.features if name not in label)
        return Layout(series, timestamp, features + label)
    taken = {series, timestamp, *label}
    features = tuple(
        name for name in names if name in numeric and name not in taken and may_be_feature(name)
    )
    if not features:
        shown = ", ".join(repr(name) for name in names[:20])
        raise TableError(
            source,
            f"no column of numbers among {shown}; numbers need a decimal point, "
            "and labels count only where they are named as features",
        )
    return Layout(series, timestamp, features + label)


class Indices:
    """Counts the samples of each series, where no column tells the time."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def next_time(self, series: str) -> int:
        """Time of the next sample of this series, ms."""
        index = self._seen.get(series, 0)
        self._seen[series] = index + 1
        return index * INDEX_STEP_MS


class Builder:
    """Blocks of one file -> tables; fills in the stem and the index where columns are missing."""

    def __init__(self, source: DataFile, features: tuple[str, ...]) -> None:
        self._source = source
        self._features = features
        self._row = 0
        self._indices = Indices()

    @property
    def row(self) -> int:
        """Number of the next sample in the file."""
        return self._row

    def table(
        self,
        series: list[str] | None,
        timestamp: NDArray[np.int64] | None,  # [n]
        values: NDArray[np.float64],  # [n, F]
    ) -> Table:
        rows = len(values)
        if timestamp is None:
            timestamp = self._times(series, rows)
        names = [self._source.stem] * rows if series is None else series
        table = Table(self._source.place, self._row, names, timestamp, values, self._features)
        self._row += rows
        return table

    def _times(self, series: list[str] | None, rows: int) -> NDArray[np.int64]:
        if series is None:
            return np.arange(self._row, self._row + rows, dtype=np.int64) * INDEX_STEP_MS
        return np.fromiter(map(self._indices.next_time, series), np.int64, rows)
