"""Files -> what is learnt from: clean series without known anomalies, however many samples.

    files --parts--> Intake --in time order--> cleaned --known anomalies cut--> series

What fits into `data.memory` is a Dataset as everywhere; else the series lie in temporary files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.formats.tables import TableError, read_tables
from trainer.data import DataError, SeriesData, by_series, clean, clean_pieces, not_empty
from trainer.reading.intake import Intake
from trainer.reading.known import Known, breaks
from trainer.reading.rows import PIECE_VALUES, joined, read
from trainer.reading.spool import SampleFiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from trainer.config.data import Data
    from trainer.reading.known import KeptRows
    from trainer.reading.rows import Rows, Series
    from trainer.reading.spool import Piece

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredSeries:
    """A Series in temporary files."""

    name: str
    timestamp: Rows  # [n]
    values: Rows  # [n, F]
    breaks: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.timestamp)

    @property
    def interval(self) -> float:
        """Median ms between samples, of the latest ones where there are very many."""
        latest = read(self.timestamp[-PIECE_VALUES:])
        return float(np.median(np.diff(latest))) if len(latest) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class TrainingSet:
    features: list[str]
    series: Sequence[Series]  # by name
    left_out: int | None  # samples in or near known anomalies; None: none are known

    @property
    def rows(self) -> int:
        return sum(len(one) for one in self.series)


def training_set(path: Path, config: Data) -> TrainingSet:
    """Read a file or a folder. Raises DataError where that gives no series.

    Temporary files are gone with the last of the series that lie in them.
    """
    column = config.labels.column if config.labels else None
    tables = read_tables(
        path,
        series_column=config.series_column,
        timestamp_column=config.timestamp_column,
        features=config.features,
        label=column,
        array=config.array,
    )
    try:
        features, parts = by_series(tables, str(path), config.features, column)
        intake = Intake(config.memory * MEBIBYTE, len(features) + (column is not None))
        for part in parts:
            intake.add(part)
    except TableError as error:
        raise DataError(str(error)) from error
    known = Known(config, intake.names)
    files = SampleFiles.of(len(features)) if intake.spilled else None
    series: list[Series] = []
    left_out = 0
    for name in intake.names:
        rows = known.of(name)
        one: Series | None
        if files is None:
            one = _in_memory(name, *intake.take(name), len(features), rows, config)
        else:
            one = _in_files(files, name, intake.sorted_pieces(name), rows, config)
        left_out += rows.left_out
        if one is not None:
            series.append(one)
    return TrainingSet(features, not_empty(series, str(path)), left_out if config.labels else None)


def _in_memory(
    name: str,
    timestamp: NDArray[np.int64],
    values: NDArray[np.float64],  # [n, F], or [n, F + 1] with a label
    features: int,
    rows: KeptRows,
    config: Data,
) -> SeriesData | None:
    one = clean(name, timestamp, values[:, :features], config)
    label = None
    if values.shape[1] > features:
        times, first = np.unique(timestamp, return_index=True)
        label = values[first[np.searchsorted(times, one.timestamp)], features] > 0
    rows.add(one.timestamp, label)
    kept = rows.kept()
    if not kept:
        return None
    return SeriesData(
        name,
        read(joined([one.timestamp[start:stop] for start, stop in kept])),
        read(joined([one.values[start:stop] for start, stop in kept])),
        breaks(kept),
    )


def _in_files(
    files: SampleFiles,  # written: all series go there, one after another
    name: str,
    sorted_pieces: Iterable[Piece],  # [m, F], or [m, F + 1] with a label
    rows: KeptRows,
    config: Data,
) -> StoredSeries | None:
    before, features = len(files.times), files.values.width
    for timestamp, values in clean_pieces(sorted_pieces, features, config):
        labelled = values.shape[1] > features
        rows.add(timestamp, values[:, features] > 0 if labelled else None)
        files.append(timestamp, values[:, :features])
    kept = [(before + start, before + stop) for start, stop in rows.kept()]
    if not kept:
        return None
    return StoredSeries(
        name,
        joined([files.times.rows(*span) for span in kept]),
        joined([files.values.rows(*span) for span in kept]),
        breaks(kept),
    )
