"""Known anomalies of series: from files of labels, label columns and names of files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from stream_detector.formats.tables import TableError, read_tables
from trainer.data import DataError
from trainer.metrics.events import stretches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from trainer.data import Dataset

ANOMALOUS = frozenset({"anomaly", "confirmed"})
"""Labels that an alarm should have answered."""
UCR = re.compile(r"_(\d+)_(\d+)_(\d+)$")
"""Ending of a name of the UCR Anomaly Archive: where training ends, the anomaly starts, ends."""


class Label(msgspec.Struct, frozen=True):
    """What evaluation reads of a label; other keys are for others."""

    series: str
    start: int | str = msgspec.field(name="from")
    end: int | str = msgspec.field(name="to")
    label: str = "anomaly"
    magnitude: float | None = None


class Mark(NamedTuple):
    """One anomaly: first and last ms, and how large it is where that is known."""

    start: int
    end: int
    magnitude: float | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of some series; one without marks is normal throughout."""

    source: str  # where it came from, for people
    marks: dict[str, list[Mark]]
    begins: dict[str, int] = field(default_factory=dict)
    """First ms that counts, where earlier samples were meant for training."""


def from_file(path: Path, series: Sequence[str]) -> Truth:
    """Labels of anomalies of these series. Raises DataError for a line that is none."""
    known = set(series)
    found: dict[str, list[Mark]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            label = msgspec.json.decode(line, type=Label)
            mark = Mark(_ms(label.start), _ms(label.end), label.magnitude)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        if label.label in ANOMALOUS and label.series in known:
            found.setdefault(label.series, []).append(mark)
    return Truth(str(path), found)


def _ms(time: int | str) -> int:
    if isinstance(time, int):
        return time
    moment = datetime.fromisoformat(time)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def from_column(path: Path, column: str, array: str | None = None) -> Truth:
    """Stretches of samples of which a column is above zero, by series.

    `array` is the one to read of npz files that hold several.
    """
    times: dict[str, list[NDArray[np.int64]]] = {}
    flags: dict[str, list[NDArray[np.bool_]]] = {}
    try:
        for table in read_tables(path, features=[], label=column, array=array):
            names = np.asarray(table.series, dtype=object)
            for name in dict.fromkeys(table.series):
                rows = names == name
                times.setdefault(name, []).append(table.timestamp[rows])
                flags.setdefault(name, []).append(table.values[rows, 0] > 0)
    except TableError as error:
        raise DataError(str(error)) from error
    marks = {}
    for name, parts in times.items():
        time, flag = np.concatenate(parts), np.concatenate(flags[name])
        order = np.argsort(time, kind="stable")
        marks[name] = [Mark(*pair) for pair in stretches(flag[order], time[order])]
    return Truth(f"column {column}", marks)


def within(timestamp: NDArray[np.int64], known: Iterable[Mark]) -> NDArray[np.bool_]:
    """Which of these times, ascending, lie in one of the anomalies."""
    inside = np.zeros(len(timestamp), np.bool_)
    for mark in known:
        first = np.searchsorted(timestamp, mark.start)
        inside[first : np.searchsorted(timestamp, mark.end, side="right")] = True
    return inside


def from_names(data: Dataset) -> Truth | None:
    """The one anomaly that each series' name tells as ..._TRAINEND_START_END, in samples.

    Samples [START, END) are anomalous and those before TRAINEND do not count. None unless every
    name ends like that and fits the length of its series.
    """
    marks, begins = {}, {}
    for one in data.series:
        named = UCR.search(one.name)
        if named is None:
            return None
        train, first, last = map(int, named.groups())
        if not 0 <= train <= first <= last <= len(one) or first >= len(one):
            return None
        begins[one.name] = int(one.timestamp[train])
        final = min(max(last - 1, first), len(one) - 1)
        marks[one.name] = [Mark(int(one.timestamp[first]), int(one.timestamp[final]))]
    return Truth("names of the files (training end, anomaly start, anomaly end)", marks, begins)
