"""Files through the engine with one bundle: how often it alarms, and how well where labels exist.

Scores and verdicts of every sample are kept, so that reports can be made from them alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from stream_detector.bundle import WINDOW
from stream_detector.core.policy import Policy
from stream_detector.core.transforms import Transforms
from stream_detector.records import Kind, Status
from trainer import engine_run
from trainer.data import DataError
from trainer.reading import marks
from trainer.scored import About, Episode, Known, Scored

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stream_detector.bundle import Bundle
    from stream_detector.ports import Model
    from stream_detector.records import AnomalyEvent
    from trainer.data import Dataset, SeriesData

HISTORY = "history.json"
Span = tuple[int, int]
"""First and last ms of an anomaly or of an episode."""


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
    """Every series from its first sample on, under the bundle's own threshold."""
    truth = None
    if labels is not None:
        found = {name: [marks.Mark(*span) for span in spans] for name, spans in labels.items()}
        truth = marks.Truth("the caller", found)
    return summary(scored(model, data, truth))


def scored(
    model: Model, data: Dataset, truth: marks.Truth | None, policy: Policy | None = None
) -> Scored:
    """The engine's score, level and verdict of every sample, under the bundle's own threshold.

    Another threshold in the policy overrules it.
    """
    ran = engine_run.run(model, data.series, policy or Policy(), detailed=True)
    known = truth.marks if truth is not None else {}
    begins = truth.begins if truth is not None else {}
    episodes = [
        episode
        for one, events in zip(data.series, ran.events, strict=True)
        for episode in _episodes(events, one)
    ]
    about = About(
        version=model.bundle.version,
        features=data.features,
        series=[one.name for one in data.series],
        intervals=[one.interval for one in data.series],
        days=ran.days,
        grace=WINDOW * max(model.bundle.manifest.scales),
        events=sum(len(events) for events in ran.events),
        labels=None if truth is None else truth.source,
        begins=begins,
        known=[Known(name, *mark) for name, some in known.items() for mark in some],
        episodes=episodes,
        bundle=describe(model.bundle),
        history=history(model.bundle.path),
        every=Transforms(model.bundle.manifest.transforms).every,
    )
    level = _all(ran.seen, "level")
    starts = [begins.get(one.name, int(one.timestamp[0])) for one in data.series]
    counts = [one.timestamp >= start for one, start in zip(data.series, starts, strict=True)]
    return Scored(
        about,
        np.repeat(np.arange(len(data.series)), [len(one) for one in data.series]),
        np.concatenate([one.timestamp for one in data.series]),
        level,
        _all(ran.seen, "score"),
        _all(ran.seen, "threshold"),
        _all(ran.seen, "anomalous"),
        np.concatenate(
            [marks.within(one.timestamp, known.get(one.name, ())) for one in data.series]
        ),
        np.concatenate(counts) & np.isfinite(level),
        _all(ran.seen, "observed"),
        _all(ran.seen, "expected"),
        _all(ran.seen, "contribution"),
    )


def describe(bundle: Bundle) -> dict[str, Any]:
    """What people want to know of a bundle, from its manifest."""
    manifest = bundle.manifest
    facts: dict[str, Any] = msgspec.to_builtins(manifest)
    for name in ("levels", "format_version", "window", "tolerance", "files", "sha256"):
        facts.pop(name, None)
    return facts


def history(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Losses by scale, from `history.json` in a bundle's folder; empty where there is none.

    Raises DataError where the file is not {SCALE: {"train": [...], "validation": [...]}}.
    """
    path = folder / HISTORY
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, list[float]]])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise DataError(f"{path}: {error}") from error


def _all(seen: Sequence[engine_run.Seen], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(one, name) for one in seen])


def _episodes(events: Iterable[AnomalyEvent], one: SeriesData) -> list[Episode]:
    said = {
        event.started_at: event
        for event in events
        if event.kind is Kind.ANOMALY and event.status is Status.OPENED
    }
    return [
        Episode(one.name, start, end, said[start].level, said[start].severity.value)
        for start, end in spans(events, one)
    ]


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


def summary(scores: Scored) -> Evaluation:
    """Counts of episodes and labels.

    An episode answers a label when they overlap, or when it begins within one window of the
    largest scale after it: a window holds the anomaly that long.
    """
    about = scores.about
    found = right = 0
    for name, interval in zip(about.series, about.intervals, strict=True):
        late = about.late(interval)
        wanted = [(one.start, one.end + late) for one in about.known if one.series == name]
        said = [(one.start, one.end) for one in about.episodes if one.series == name]
        found += sum(any(_overlap(label, episode) for episode in said) for label in wanted)
        right += sum(any(_overlap(label, episode) for label in wanted) for episode in said)
    return Evaluation(
        version=about.version,
        series=len(about.series),
        samples=len(scores.code),
        judged=int(np.isfinite(scores.level).sum()),
        days=about.days,
        episodes=len(about.episodes),
        events=about.events,
        labelled=len(about.known) if scores.labelled else None,
        found=found,
        right=right,
    )


def _overlap(a: Span, b: Span) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def read_labels(path: Path, series: Sequence[str]) -> dict[str, list[Span]]:
    """Labels of anomalies of these series. Raises DataError for a line that is none."""
    return _spans(marks.from_file(path, series))


def label_column(path: Path, column: str) -> dict[str, list[Span]]:
    """Stretches of samples of which a column is above zero, by series."""
    return _spans(marks.from_column(path, column))


def _spans(truth: marks.Truth) -> dict[str, list[Span]]:
    return {name: [(m.start, m.end) for m in some] for name, some in truth.marks.items()}
