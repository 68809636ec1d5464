"""Files through the engine with one bundle: how often it alarms, and how well where labels exist.

Labels are stretches of time of a series; they come from a 0/1 column of the files or from a file of
labels, one JSON object a line: {"series", "from", "to", "label"}.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from stream_detector.bundle import WINDOW
from stream_detector.core.policy import Policy
from stream_detector.formats.tables import TableError, read_tables
from stream_detector.records import Kind, Status
from trainer import engine_run
from trainer.data import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from stream_detector.ports import Model
    from stream_detector.records import AnomalyEvent
    from trainer.data import Dataset, SeriesData

Span = tuple[int, int]
"""First and last ms of an anomaly or of an episode."""

ANOMALOUS = frozenset({"anomaly", "confirmed"})
"""Labels that an alarm should have answered."""


class Label(msgspec.Struct, frozen=True):
    """What evaluation reads of a label; other keys are for others."""

    series: str
    start: int | str = msgspec.field(name="from")
    end: int | str = msgspec.field(name="to")
    label: str = "anomaly"


@dataclass(frozen=True, slots=True)
class Evaluation:
    version: str
    series: int
    samples: int
    judged: int
    days: float
    episodes: int
    events: int
    labelled: int | None  # None: nothing was labelled
    found: int
    right: int  # episodes that answer a label

    def body(self) -> dict[str, Any]:
        labelled = self.labelled is not None
        return {
            "version": self.version,
            "series": self.series,
            "samples": self.samples,
            "judged": self.judged,
            "series_days": self.days,
            "episodes": self.episodes,
            "episodes_per_series_day": self.episodes / self.days if self.days else None,
            "events": self.events,
            "events_per_series_day": self.events / self.days if self.days else None,
            "labelled": self.labelled,
            "recall": self.found / self.labelled if self.labelled else None,
            "precision": self.right / self.episodes if labelled and self.episodes else None,
        }


def evaluate(model: Model, data: Dataset, labels: dict[str, list[Span]] | None) -> Evaluation:
    """Every series from its first sample on, under the bundle's own threshold.

    An episode answers a label when they overlap, or when it begins within one window of the
    largest scale after it: a window holds the anomaly that long.
    """
    ran = engine_run.run(model, data.series, Policy())
    grace = WINDOW * max(model.bundle.manifest.scales)
    found = right = 0
    for one, events in zip(data.series, ran.events, strict=True):
        wanted = (labels or {}).get(one.name, [])
        later = [(a, b + round(grace * one.interval)) for a, b in wanted]
        episodes = spans(events, one)
        found += sum(any(_overlap(label, episode) for episode in episodes) for label in later)
        right += sum(any(_overlap(label, episode) for label in later) for episode in episodes)
    return Evaluation(
        version=model.bundle.version,
        series=len(data.series),
        samples=data.rows,
        judged=sum(ran.judged),
        days=ran.days,
        episodes=ran.episodes,
        events=sum(len(events) for events in ran.events),
        labelled=None if labels is None else sum(len(one) for one in labels.values()),
        found=found,
        right=right,
    )


def spans(events: Iterable[AnomalyEvent], one: SeriesData) -> list[Span]:
    """First and last ms of each anomaly episode; one still open ends with its series."""
    ends = {
        event.started_at: event.at
        for event in events
        if event.kind is Kind.ANOMALY and event.status is Status.CLOSED
    }
    return [
        (event.started_at, ends.get(event.started_at, int(one.timestamp[-1])))
        for event in events
        if event.kind is Kind.ANOMALY and event.status is Status.OPENED
    ]


def _overlap(a: Span, b: Span) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def read_labels(path: Path, series: Sequence[str]) -> dict[str, list[Span]]:
    """Labels of anomalies of these series. Raises DataError for a line that is none."""
    known = set(series)
    found: dict[str, list[Span]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            label = msgspec.json.decode(line, type=Label)
            span = (_ms(label.start), _ms(label.end))
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        if label.label in ANOMALOUS and label.series in known:
            found.setdefault(label.series, []).append(span)
    return found


def _ms(time: int | str) -> int:
    if isinstance(time, int):
        return time
    moment = datetime.fromisoformat(time)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def label_column(path: Path, column: str) -> dict[str, list[Span]]:
    """Stretches of samples of which a column is above zero, by series."""
    times: dict[str, list[tuple[int, bool]]] = {}
    try:
        for table in read_tables(path, features=[column]):
            flags = (table.values[:, 0] > 0).tolist()
            for name, time, flag in zip(table.series, table.timestamp.tolist(), flags, strict=True):
                times.setdefault(name, []).append((time, flag))
    except TableError as error:
        raise DataError(str(error)) from error
    return {name: _stretches(sorted(rows)) for name, rows in times.items()}


def _stretches(rows: list[tuple[int, bool]]) -> list[Span]:
    found: list[Span] = []
    before = False
    for time, flag in rows:
        if flag:
            found[-1:] = [(found[-1][0], time)] if before else [*found[-1:], (time, time)]
        before = flag
    return found
