"""What the demo leaves behind: events, labels, pictures.

Draws with the trainer's pictures, so only the demo's own function may import this, when it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.bundle import WINDOW
from stream_detector.commands.demo_referee import Ruling
from stream_detector.commands.simulate import write_labels
from stream_detector.core.policy import DAY
from stream_detector.formats.events import event_line
from trainer.report import pictures

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from stream_detector.commands.demo_referee import Referee, Ruled
    from stream_detector.commands.demo_watch import Recorder
    from stream_detector.machines import Label, Series
    from stream_detector.ports import Model
    from stream_detector.simulation import Fleet

HOUR_MS = 3_600_000
EXCERPT = 1000
"""Steps that a strip shows."""
AROUND = 150
"""Steps that a comparison shows before the episode, and half as many after."""
COMPARED = 6


class Report:
    """Writes one folder."""

    def __init__(
        self,
        folder: Path,
        fleet: Fleet,
        models: Mapping[str, Model],
        recorder: Recorder,
        referee: Referee,
        alarm_budget: float,
    ) -> None:
        self._folder = folder
        self._fleet = fleet
        self._models = models
        self._recorder = recorder
        self._referee = referee
        self._courses = recorder.courses()
        # Each series has its own, which moves: the usual one of those that were reached.
        reached = [event.threshold for event in recorder.events if event.threshold > 0]
        nominal = float(np.log10(DAY / fleet.interval_ms / alarm_budget))
        self._threshold = float(np.median(reached)) if reached else nominal
        self._begin = fleet.start_ms + fleet.normal_steps * fleet.interval_ms
        self._ruled: dict[str, list[Ruled]] = {}
        for ruled in referee.episodes.values():
            self._ruled.setdefault(ruled.opened.series, []).append(ruled)

    def write(self) -> list[Path]:
        """All files; returns their paths."""
        folder = self._folder
        events, labels = folder / "events.ndjson", folder / "labels.ndjson"
        events.write_bytes(b"".join(event_line(event) for event in self._recorder.events))
        write_labels(self._fleet, labels)
        written = [events, labels]
        strips = [self._strip(series) for series in self._chosen()]
        if strips:
            written.append(folder / "episodes.png")
            pictures.strips(
                written[-1], "Simulated machines, their true faults, and what was detected", strips
            )
        comparisons = [self._comparison(ruled) for ruled in self._examples()]
        if comparisons:
            written.append(folder / "observed-expected.png")
            pictures.comparisons(
                written[-1], "Observed against expected, where episodes opened", comparisons
            )
        scores = self._scores()
        if scores:
            written.append(folder / "scores.png")
            pictures.histograms(written[-1], "How unusual every scored window was", scores)
        return written

    def _hours(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray((times - self._begin) / HOUR_MS, np.float64)

    def _span(self, label: Label) -> pictures.Span:
        start, end = label.start_time - self._begin, label.end_time - self._begin
        return pictures.Span(start / HOUR_MS, end / HOUR_MS, label.kind.value)

    def _chosen(self) -> list[Series]:
        """Of each machine type the series with the most kinds of fault."""
        chosen = []
        for machine in self._fleet.machines:
            members = self._fleet.members(machine.group)
            kinds = [len({label.kind for label in self._labels(s)}) for s in members]
            chosen.append(members[int(np.argmax(kinds))])
        return [series for series in chosen if series.name in self._courses]

    def _labels(self, series: Series) -> list[Label]:
        return [label for label in self._fleet.labels if label.series == series.index]

    def _strip(self, series: Series) -> pictures.Strip:
        fleet, course = self._fleet, self._courses[series.name]
        first = self._busiest(series)
        last = min(first + EXCERPT, fleet.steps)
        times, values = self._values(series, first, last)
        labels = [
            label for label in self._labels(series) if first <= label.start and label.end < last
        ]
        inside = (course.timestamp >= times[0]) & (course.timestamp <= times[-1])
        level = np.full(len(times), np.nan)
        level[np.searchsorted(times, course.timestamp[inside])] = course.level[inside]
        low, high = self._hours(times[[0, -1]])
        episodes = []
        for ruled in self._ruled.get(series.name, []):
            closed = ruled.closed_at or int(times[-1])
            start, end = self._hours(np.array([ruled.opened.started_at, closed]))
            if end >= low and start <= high:
                good = ruled.ruling is not Ruling.FALSE
                episodes.append(pictures.Span(max(start, low), min(end, high), good=good))
        manifest = self._models[series.machine.group].bundle.manifest
        return pictures.Strip(
            title=f"{series.name}  ({manifest.model.replace('_', ' ')})",
            features=[feature.name for feature in series.machine.features],
            hours=self._hours(times),
            values=values,
            level=level,
            threshold=self._threshold,
            faults=[self._span(label) for label in labels],
            episodes=episodes,
        )

    def _busiest(self, series: Series) -> int:
        """First step of the excerpt that holds the most kinds of fault."""
        fleet = self._fleet
        labels = self._labels(series)
        starts = [max(fleet.normal_steps, label.start - 100) for label in labels]
        starts = [min(s, max(fleet.normal_steps, fleet.steps - EXCERPT)) for s in starts]
        held = [
            len({x.kind for x in labels if s <= x.start and x.end < s + EXCERPT}) for s in starts
        ]
        return starts[int(np.argmax(held))] if starts else fleet.normal_steps

    def _values(
        self, series: Series, first: int, last: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        chunks = self._fleet.samples(first, last)
        chunk = next(c for c in chunks if c.machine.group == series.machine.group)
        mine = chunk.series == series.index
        return chunk.timestamp[mine], chunk.values[mine]

    def _examples(self) -> list[Ruled]:
        """The clearest found episode of each kind, of different machine types where possible."""
        found = [r for r in self._referee.episodes.values() if r.ruling is Ruling.FOUND]
        by_kind: dict[str, list[Ruled]] = {}
        for ruled in found:
            assert ruled.label is not None
            by_kind.setdefault(ruled.label.kind.value, []).append(ruled)
        used: dict[str, int] = {}
        chosen = []
        for kind in sorted(by_kind, key=lambda kind: len(by_kind[kind])):

            def rank(ruled: Ruled) -> tuple[int, float]:
                return used.get(self._group(ruled), 0), -ruled.peak

            best = min(by_kind[kind], key=rank)
            used[self._group(best)] = used.get(self._group(best), 0) + 1
            chosen.append(best)
        return chosen[:COMPARED]

    def _group(self, ruled: Ruled) -> str:
        assert ruled.label is not None
        return self._fleet.series[ruled.label.series].machine.group

    def _comparison(self, ruled: Ruled) -> pictures.Comparison:
        label, event = ruled.label, ruled.opened
        assert label is not None
        series = self._fleet.series[label.series]
        opened = label.start + self._referee.delay(ruled)
        first = max(0, min(label.start, opened) - AROUND // 2)
        last = min(self._fleet.steps, max(label.end, opened) + AROUND // 2)
        feature = max(event.contribution, key=lambda name: event.contribution[name])
        column = [f.name for f in series.machine.features].index(feature)
        times, values = self._values(series, first - WINDOW + 1, last)
        expected = self._expected(series, values)
        short = len(times) - len(expected)
        return pictures.Comparison(
            title=f"{series.name}: {label.kind.value.replace('_', ' ')}, "
            f"opened {self._referee.delay(ruled)} steps after its start",
            feature=feature,
            hours=self._hours(times[short:]),
            observed=values[short:, column],
            expected=expected[:, column],
            fault=self._span(label),
            opened=float(self._hours(np.array([event.started_at]))[0]),
        )

    def _expected(self, series: Series, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The model's value for the newest step of every window in `values`, [n - 59, F]."""
        model = self._models[series.machine.group]
        table, rungs = model.bundle.series, model.scorer.rungs
        row = table.row[series.name]
        relative = (values - table.center[row]).astype(np.float32)
        view = np.lib.stride_tricks.sliding_window_view(relative, WINDOW, axis=0)
        windows = view.transpose(0, 2, 1)  # [m, 60, F]
        size, count = rungs[-1], len(windows)
        expected = np.empty((count, values.shape[1]))
        for first in range(0, count, size):
            tile = windows[np.minimum(np.arange(first, first + size), count - 1)]
            center = np.zeros((size, values.shape[1]), np.float32)
            spread = np.broadcast_to(table.scale[row].astype(np.float32), center.shape)
            answer = model.scorer.score(1, tile, center, np.ascontiguousarray(spread))
            expected[first : first + size] = answer.expected[: count - first]
        result: NDArray[np.float64] = expected + table.center[row]
        return result

    def _scores(self) -> list[pictures.Scores]:
        parts = []
        for machine in self._fleet.machines:
            ratios = self._recorder.ratios.get(machine.group)
            if not ratios:
                continue
            normal, faulty = self._levels(machine.group)
            parts.append(
                pictures.Scores(
                    title=machine.group,
                    ratio=np.concatenate(ratios).astype(np.float64),
                    normal=normal,
                    faulty=faulty,
                    threshold=self._threshold,
                )
            )
        return parts

    def _levels(self, group: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Levels of windows that hold no part of a fault, and of those that do."""
        reach = WINDOW * self._fleet.interval_ms
        normal, faulty = [], []
        for series in self._fleet.members(group):
            course = self._courses.get(series.name)
            if course is None:
                continue
            holds = np.zeros(len(course.level), np.bool_)
            for label in self._labels(series):
                holds |= (course.timestamp >= label.start_time) & (
                    course.timestamp < label.end_time + reach
                )
            known = ~np.isnan(course.level)
            normal.append(course.level[known & ~holds])
            faulty.append(course.level[known & holds])
        joined = [np.concatenate(part).astype(np.float64) for part in (normal, faulty)]
        return joined[0], joined[1]
