"""Samples -> batches: which model a series belongs to, and its values in that model's order."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from stream_detector.records import UNKNOWN_TIME, Batch, Partition, Reason, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stream_detector.records import Sample

Vector = tuple[float | None, ...]
Values = Mapping[str, float | None] | Vector | float

ANY_TIME = 2**63 - 1
_CACHED = 2_000_000


class Assembled(NamedTuple):
    batches: list[Batch]  # Batch.origin indexes the samples given
    rejected: list[Rejected]


@dataclass(slots=True)
class _Columns:
    series: list[str] = field(default_factory=list)
    timestamp: list[int] = field(default_factory=list)
    values: list[Sequence[float | None]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)  # the carrier's time, ms UTC
    offset: list[int] = field(default_factory=list)
    origin: list[int] = field(default_factory=list)


class Groups:
    """Routes by glob, first match wins; a series keeps its group."""

    def __init__(
        self,
        routes: Sequence[tuple[str, str]],  # name, glob
        *,
        missing: Literal["hold", "reject"] = "hold",
        max_ahead_ms: int = 3_600_000,
    ) -> None:
        self._routes = [(name, re.compile(fnmatch.translate(glob))) for name, glob in routes]
        self._missing = missing
        self._max_ahead = max_ahead_ms
        self._features: dict[str, tuple[str, ...]] = {}
        self._pick: dict[str, Callable[[Mapping[str, float | None]], Any]] = {}
        self._known: dict[str, str | None] = {}
        # Most have one model for all: nothing to look up, and no names to remember.
        self._all = routes[0][0] if routes and routes[0][1] == "*" else None

    def features(self, group: str, names: Sequence[str]) -> None:
        """The features of a group's model, in its order."""
        self._features[group] = tuple(names)
        self._pick[group] = itemgetter(*names)

    def of(self, series: str) -> str | None:
        if self._all is not None:
            return self._all
        try:
            return self._known[series]
        except KeyError:
            if len(self._known) >= _CACHED:
                self._known.clear()
            found = next((name for name, glob in self._routes if glob.match(series)), None)
            self._known[series] = found
            return found

    def assemble(self, samples: Sequence[Sample]) -> Assembled:
        columns: dict[tuple[str, str, int], _Columns] = {}
        rejected: list[Rejected] = []
        univariate = {group for group, names in self._features.items() if len(names) == 1}
        for origin, sample in enumerate(samples):
            series, timestamp, values, record, item = sample
            group = self.of(series)
            if group is None or group not in self._features:
                detail = f"no entry of `models` matches series {series[:100]!r}"
                rejected.append(Rejected(Reason.NO_MODEL, detail, record, item))
                continue
            vector: Vector | None
            if isinstance(values, float) and group in univariate:
                vector = (values,)  # what most send
            else:
                vector = self._vector(group, values)
            if vector is None:
                rejected.append(Rejected(*self._problem(group, values), record, item))
                continue
            topic, partition, offset, sent, _, _ = record
            key = (group, topic, partition)
            column = columns.get(key)
            if column is None:
                column = columns[key] = _Columns()
            column.series.append(series)
            column.timestamp.append(timestamp)
            column.values.append(vector)
            column.sent.append(sent)
            column.offset.append(offset)
            column.origin.append(origin)
        batches = [
            Batch(
                group=group,
                partition=Partition(topic, number),
                series=column.series,
                timestamp=np.array(column.timestamp, np.int64),
                values=np.array(column.values, np.float64).reshape(len(column.series), -1),
                latest=self._latest(np.array(column.sent, np.int64)),
                offset=np.array(column.offset, np.int64),
                origin=np.array(column.origin, np.int64),
            )
            for (group, topic, number), column in columns.items()
        ]
        return Assembled(batches, rejected)

    def _latest(self, sent: NDArray[np.int64]) -> NDArray[np.int64]:
        """[n] the latest time that is plausible of a sample that came at these times."""
        latest = np.minimum(sent, ANY_TIME - 1 - self._max_ahead) + self._max_ahead
        latest[sent == UNKNOWN_TIME] = ANY_TIME
        return latest

    def _vector(self, group: str, values: Values) -> Vector | None:
        """Values in the model's order; None where they do not fit (see _problem)."""
        names = self._features[group]
        vector: Vector
        if isinstance(values, float):
            vector = (values,)
        elif isinstance(values, tuple):
            vector = values
        else:
            try:
                found = self._pick[group](values)
                vector = (found,) if len(names) == 1 else found
            except KeyError:
                vector = tuple(values.get(name) for name in names)
        if len(vector) != len(names):
            return None
        if None in vector and (self._missing == "reject" or vector.count(None) == len(names)):
            return None
        return vector

    def _problem(self, group: str, values: Values) -> tuple[Reason, str]:
        names = self._features[group]
        if not isinstance(values, Mapping):
            count = 1 if isinstance(values, float) else len(values)
            if count != len(names):
                detail = f"{count} values, the model has {len(names)} features"
                return Reason.FEATURE_COUNT, detail
            values = dict(
                zip(names, [values] if isinstance(values, float) else values, strict=True)
            )
        absent = [name for name in names if values.get(name) is None]
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        return Reason.MISSING_FIELD, f"no value for {', '.join(absent[:5])}{more}"
