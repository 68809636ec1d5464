"""Files -> clean arrays, one SeriesData per series. Reading is left to formats.tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from stream_detector.core.admission import LIMIT
from stream_detector.formats.tables import TableError, read_tables
from trainer.config.data import Data

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stream_detector.formats.tables import Table


class DataError(Exception):
    """Data that cannot be learnt from; one line that names the place and the remedy."""


S = TypeVar("S")


def _no_breaks() -> NDArray[np.int64]:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class SeriesData:
    """One series in time order, complete: every value is finite and no time comes twice."""

    name: str
    timestamp: NDArray[np.int64]  # [n] ms UTC, ascending
    values: NDArray[np.float64]  # [n, F]
    breaks: NDArray[np.int64] = field(default_factory=_no_breaks)
    """Rows that begin a new run, after something was cut out; no window crosses them."""

    def __len__(self) -> int:
        return len(self.timestamp)

    @property
    def interval(self) -> float:
        """Median ms between samples; 0 where there is only one."""
        return float(np.median(np.diff(self.timestamp))) if len(self) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Dataset:
    features: list[str]
    series: list[SeriesData]  # by name

    @property
    def rows(self) -> int:
        return sum(len(one) for one in self.series)


def load(path: Path, config: Data | None = None) -> Dataset:
    """Read a file or a folder and clean it. Raises DataError where that gives no series."""
    config = config or Data()
    tables = read_tables(
        path,
        series_column=config.series_column,
        timestamp_column=config.timestamp_column,
        features=config.features,
        array=config.array,
    )
    try:
        return assemble(tables, str(path), config)
    except TableError as error:
        raise DataError(str(error)) from error


class Part(NamedTuple):
    """Samples of one series as they were read, in any order."""

    name: str
    timestamp: NDArray[np.int64]  # [n] ms
    values: NDArray[np.float64]  # [n, F], missing ones not finite


def assemble(tables: Iterable[Table], place: str, config: Data) -> Dataset:
    """Chunks of any number of series -> one clean Dataset. `place` names the data in errors."""
    features, parts = by_series(tables, place, config.features)
    found: dict[str, list[Part]] = {}
    for part in parts:
        found.setdefault(part.name, []).append(part)
    cleaned = (clean(name, *together(found[name]), config) for name in sorted(found))
    return Dataset(features, not_empty([one for one in cleaned if len(one)], place))


def by_series(
    tables: Iterable[Table], place: str, wanted: Sequence[str] | None, label: str | None = None
) -> tuple[list[str], Iterator[Part]]:
    """The features, and the samples by series and chunk; of a label as one more column, the last.

    The parts raise DataError for a table that lacks one of the features.
    """
    tables = iter(tables)
    first = list(islice(tables, 1))
    features = list(wanted or [])
    if first and not features:
        features = [name for name in first[0].features if name != label]
    columns = features if label is None else [*features, label]

    def parts() -> Iterator[Part]:
        for table in chain(first, tables):
            chosen = _columns(table.features, columns, place)
            for name, rows in _rows_by_series(table.series):
                yield Part(name, table.timestamp[rows], table.values[rows][:, chosen])

    return features, parts()


def together(parts: Sequence[Part]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Times [n] and values [n, F] of all parts of one series."""
    return (
        np.concatenate([part.timestamp for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def not_empty(series: list[S], place: str) -> list[S]:
    """Raises DataError where there is no series."""
    if not series:
        raise DataError(f"{place}: no complete samples; name the columns under `data` in --config")
    return series


def _columns(found: Sequence[str], wanted: Sequence[str], place: str) -> list[int]:
    if missing := [name for name in wanted if name not in found]:
        raise DataError(
            f"{place}: a file has the features {', '.join(found)} and lacks {', '.join(missing)}; "
            "all files of one model need the same features, see data.features"
        )
    return [list(found).index(name) for name in wanted]


def _rows_by_series(
    series: Sequence[str],
) -> Iterable[tuple[str, slice | NDArray[np.int64]]]:
    if len(set(series)) == 1:
        return [(series[0], slice(None))]
    names, inverse = np.unique(np.asarray(series, dtype=object), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse, minlength=len(names)))
    return [
        (str(name), order[start:end])
        for name, start, end in zip(names, [0, *ends[:-1]], ends, strict=True)
    ]


def clean(
    name: str,
    timestamp: NDArray[np.int64],  # [n] in any order
    values: NDArray[np.float64],  # [n, F], missing ones not finite
    config: Data,
) -> SeriesData:
    """Sort by time, keep the first of samples with the same time, deal with missing values."""
    if (timestamp[1:] < timestamp[:-1]).any():
        order = np.argsort(timestamp, kind="stable")
        timestamp, values = timestamp[order], values[order]
    first = np.ones(len(timestamp), dtype=np.bool_)
    first[1:] = timestamp[1:] != timestamp[:-1]
    timestamp, values = timestamp[first], values[first]  # copies
    _blank(values)
    if config.missing != "drop":
        for column in values.T:
            _fill(column, timestamp, config)
    complete = ~np.isnan(values).any(axis=1)
    return SeriesData(name, timestamp[complete], values[complete])


def clean_pieces(
    pieces: Iterable[tuple[NDArray[np.int64], NDArray[np.float64]]],  # [m] ascending, [m, F + ...]
    features: int,  # F; further columns go along untouched
    config: Data,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """What `clean` makes of one series whose times ascend and differ, piece by piece.

    As many samples as may be filled are held back on each side of a piece, so that the cutting
    changes nothing.
    """
    behind = 0 if config.missing == "drop" else config.fill_limit
    ahead = config.fill_limit if config.missing == "interpolate" else 0
    held: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    done = 0  # rows of what is held that have been handed out
    for piece in chain(pieces, [None]):
        held += [] if piece is None else [piece]
        if not held:
            return
        timestamp = np.concatenate([times for times, _ in held])
        raw = np.concatenate([values for _, values in held])
        ready = len(timestamp) if piece is None else max(len(timestamp) - ahead, done)
        values = raw.copy()
        numbers = values[:, :features]
        _blank(numbers)
        if config.missing != "drop":
            for column in numbers.T:
                _fill(column, timestamp, config)
        complete = done + np.flatnonzero(~np.isnan(numbers[done:ready]).any(axis=1))
        yield timestamp[complete], values[complete]
        kept = max(ready - behind, 0)
        held, done = [(timestamp[kept:], raw[kept:])], ready - kept


def _blank(values: NDArray[np.float64]) -> None:
    """What is not finite, or so large that windows would not be, is missing; in place.

    The detector cuts such values, since they are anomalies; of normal data they are no part. Some
    senders write the largest float32 where they have no value.
    """
    values[~(np.abs(values) <= LIMIT)] = np.nan


def _fill(column: NDArray[np.float64], timestamp: NDArray[np.int64], config: Data) -> None:
    """Fill gaps of at most `fill_limit` samples in place; longer ones and the edges stay NaN."""
    present = np.flatnonzero(~np.isnan(column))
    if not len(present) or len(present) == len(column):
        return
    rows = np.arange(len(column))
    before = np.searchsorted(present, rows, side="right") - 1  # the last value at or before
    known = (before >= 0) & (before < len(present) - 1)
    gap = np.zeros(len(column), dtype=np.int64)
    gap[known] = present[before[known] + 1] - present[before[known]] - 1
    if config.missing == "interpolate":
        wanted = np.isnan(column) & known & (gap <= config.fill_limit)
        column[wanted] = np.interp(timestamp[wanted], timestamp[present], column[present])
    else:
        age = rows - present[np.maximum(before, 0)]
        wanted = np.isnan(column) & (before >= 0) & (age <= config.fill_limit)
        column[wanted] = column[present[before[wanted]]]


def samples_in_step(pauses: NDArray[np.int64], every: int) -> int:
    """Samples, this far (ms) from each other, that resampling joins into a step; rounded up.

    1 where `every`, ms between two steps, is 0: samples are steps.
    """
    usual = float(np.median(pauses)) if len(pauses) else 0.0
    return max(1, math.ceil(every / usual)) if usual > 0 else 1
