"""Levels -> episodes: when one opens, repeats itself and closes; one row at a time.

Only rows with an open episode or a level above the threshold come here, so plain Python is quick
enough. Nothing but the series' own samples and its partition's clock decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.calibration import MATURE
from stream_detector.core.episode import Episode, Now, Window
from stream_detector.core.slab import WINDOW
from stream_detector.records import AnomalyEvent, Kind, Maturity, Partition, Severity, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream_detector.core.policy import Policy
    from stream_detector.core.segments import Segments
    from stream_detector.core.slab import Slab
    from stream_detector.core.steps import Steps
    from stream_detector.core.windows import WindowSet

SILENT_STEPS = 10
UPDATE_STEPS = 10
REGIME_STEPS = 120
"""Least durations, in steps of the series: an hour is long for seconds, not for daily samples."""
REGIME = "regime_change"
SEVERITIES = (Severity.MINOR, Severity.MAJOR, Severity.CRITICAL)


@dataclass(frozen=True, slots=True)
class Who:
    """What all events of a slab share."""

    source: str
    partition: Partition
    features: tuple[str, ...]
    version: str


@dataclass(slots=True)
class Samples:
    """Accepted samples of one piece, sorted by row, with their verdicts; m rows, s steps."""

    at: NDArray[np.int64]  # [m] arrival
    time: NDArray[np.int64]  # [m]
    offset: NDArray[np.int64]  # [m]
    previous: NDArray[np.int64]  # [m] time of the series' sample before
    silence: NDArray[np.int64]  # [m] ms since then
    step: NDArray[np.int64]  # [m] the step that speaks for it; -1: it completed none
    level: NDArray[np.float32]  # [m]
    score: NDArray[np.float32]  # [m]
    threshold: NDArray[np.float32]  # [m] level that raises an alarm
    scored: NDArray[np.int32]  # [m] scores the series had before this sample's
    steps: Steps
    excess: NDArray[np.float32]  # [s, X] weighted, of the windows completed by this very step
    windows: dict[int, tuple[WindowSet, NDArray[np.float32], NDArray[np.float32]]]
    expert_scale: Sequence[int]  # [X]


@dataclass(slots=True)
class Transitions:
    events: list[tuple[int, AnomalyEvent]] = field(default_factory=list)  # arrival, event
    anomalous: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))  # [m]
    relearn: dict[int, int] = field(default_factory=dict)  # row -> sample after which it is new


class Tracker:
    """Runs the episodes of one slab over one piece of input."""

    def __init__(self, slab: Slab, who: Who, policy: Policy) -> None:
        self._slab = slab
        self._who = who
        self._policy = policy

    def run(self, segments: Segments, samples: Samples) -> Transitions:
        """Take in the samples, m in all."""
        slab, rows, of = self._slab, segments.row, segments.of
        start, count = segments.start, segments.count
        result = Transitions(anomalous=np.zeros(len(samples.at), np.bool_))
        above = samples.level >= samples.threshold
        above &= samples.scored >= MATURE
        busy = slab.above[rows] > 0
        busy[of[above]] = True
        if slab.open:
            busy |= np.isin(rows, np.fromiter(slab.open, np.int64, len(slab.open)))
        for segment in np.flatnonzero(busy).tolist():
            part = range(int(start[segment]), int(start[segment] + count[segment]))
            self._row(int(rows[segment]), part, above, samples, result)
        return result

    def _row(
        self,
        row: int,
        part: range,
        above: NDArray[np.bool_],
        samples: Samples,
        result: Transitions,
    ) -> None:
        slab, policy = self._slab, self._policy
        episode = slab.open.get(row)
        run = int(slab.above[row])
        patience = self._patience(row)
        for i in part:
            time, high = int(samples.time[i]), bool(above[i])
            arrival = int(samples.at[i])
            if episode is not None and int(samples.silence[i]) > patience:
                deadline = int(samples.previous[i]) + patience
                event = self._event(row, episode, Status.CLOSED, deadline, "silent")
                result.events.append((arrival, event))
                episode = None
            if samples.step[i] < 0:  # nothing new to judge
                result.anomalous[i] = episode is not None and episode.kind is Kind.ANOMALY
                continue
            run = run + 1 if high else 0
            if episode is None and run < policy.min_length:
                continue
            now = self._now(i, samples)
            window = self._window(row, i, samples)
            if episode is None:
                if window is None:  # the level is held from an earlier window
                    continue
                episode = Episode(Kind.ANOMALY, time, window, now, repeated_at=time)
                episode.threshold = float(samples.threshold[i])
                episode.severity = self._rank(now.level, episode.threshold)
                result.events.append((arrival, self._event(row, episode, Status.OPENED, time)))
                result.anomalous[i] = True
                continue
            episode.now = now
            episode.window = window or episode.window
            change, closed = self._continue(row, episode, time, high=high)
            if change is not None:
                result.events.append((arrival, change))
            result.anomalous[i] = episode.kind is Kind.ANOMALY and not closed
            if closed:
                episode, run = None, 0
                if change is not None and change.close_reason == REGIME:
                    result.relearn[row] = i
                    break
        slab.above[row] = min(run, 65535)
        if episode is None:
            slab.open.pop(row, None)
        else:
            slab.open[row] = episode

    def _continue(
        self, row: int, episode: Episode, time: int, *, high: bool
    ) -> tuple[AnomalyEvent | None, bool]:
        """One more sample of an open episode: an event or none, and whether it is closed."""
        policy = self._policy
        if episode.kind is Kind.GAP:
            if episode.now.scored < MATURE or np.isnan(episode.now.level):
                return None, False
            return self._event(row, episode, Status.CLOSED, time, "recovered"), True
        episode.quiet = 0 if high else episode.quiet + 1
        if episode.quiet >= policy.quiet_period:
            return self._event(row, episode, Status.CLOSED, time, "recovered"), True
        lasting = self._least(row, policy.regime_change_after, REGIME_STEPS)
        if time - episode.started_at >= lasting:
            return self._event(row, episode, Status.CLOSED, time, REGIME), True
        rank = self._rank(episode.now.level, episode.threshold)
        pause = self._least(row, policy.update_every, UPDATE_STEPS)
        if rank > episode.severity or time - episode.repeated_at >= pause:
            episode.severity = max(rank, episode.severity)
            episode.repeated_at = time
            return self._event(row, episode, Status.UPDATED, time), False
        return None, False

    def sweep(self, clock: int) -> list[AnomalyEvent]:
        """Close episodes whose series sent nothing for too long."""
        slab, events = self._slab, []
        for row, episode in list(slab.open.items()):
            patience = self._patience(row)
            if clock - int(slab.heard[row]) > patience:
                deadline = int(slab.last_time[row]) + patience
                events.append(self._event(row, episode, Status.CLOSED, deadline, "silent"))
                del slab.open[row]
        return events

    def _least(self, row: int, duration: int, steps: int) -> int:
        return max(duration, round(steps * float(self._slab.interval[row])))

    def _patience(self, row: int) -> int:
        """Silence, ms, that ends an episode."""
        return self._least(row, self._policy.silent_after, SILENT_STEPS)

    def close(self, row: int, at: int, reason: str) -> list[AnomalyEvent]:
        episode = self._slab.open.pop(row, None)
        if episode is None:
            return []
        return [self._event(row, episode, Status.CLOSED, at, reason)]

    def gap(self, row: int, time: int, offset: int) -> AnomalyEvent:
        """The series starts anew: nothing can be said of it until it is mature again."""
        now = Now(time, offset, float("nan"), float("nan"), 0, {})
        episode = Episode(Kind.GAP, time, Window(self._slab.scales[0], time, time, {}, {}), now)
        self._slab.open[row] = episode
        return self._event(row, episode, Status.OPENED, time)

    def _event(
        self, row: int, episode: Episode, status: Status, at: int, reason: str | None = None
    ) -> AnomalyEvent:
        now, window, who = episode.now, episode.window, self._who
        seq = episode.seq
        episode.seq += 1
        return AnomalyEvent(
            source=who.source,
            series=self._slab.names[row] or "",
            kind=episode.kind,
            status=status,
            at=at,
            seq=seq,
            started_at=episode.started_at,
            window_start=window.start,
            window_end=window.end,
            scale=window.scale,
            severity=SEVERITIES[episode.severity],
            level=now.level,
            threshold=episode.threshold,
            score=now.score,
            model_version=who.version,
            maturity=maturity(now.scored, now.level),
            partition=who.partition,
            offset=now.offset,
            close_reason=reason,
            observed=now.observed,
            expected=window.expected,
            contribution=window.contribution,
        )

    @staticmethod
    def _rank(level: float, threshold: float) -> int:
        return 0 if np.isnan(level) else int(np.clip(np.floor(level - threshold), 0, 2))

    def _named(self, vector: NDArray[np.floating]) -> dict[str, float]:
        return dict(zip(self._who.features, vector.tolist(), strict=True))

    def _now(self, i: int, samples: Samples) -> Now:
        return Now(
            int(samples.time[i]),
            int(samples.offset[i]),
            float(samples.level[i]),
            float(samples.score[i]),
            int(samples.scored[i]),
            self._named(samples.steps.stages[0][samples.step[i]]),
        )

    def _window(self, row: int, i: int, samples: Samples) -> Window | None:
        """The window that this sample completed, of the scale that is most to blame."""
        step, steps = int(samples.step[i]), samples.steps
        excess = np.where(np.isnan(samples.excess[step]), -np.inf, samples.excess[step])
        most = int(np.argmax(excess))
        if excess[most] == -np.inf:
            return None
        scale = samples.expert_scale[most]
        windows, contribution, expected = samples.windows[scale]
        w = int(np.searchsorted(windows.step, step))
        end = int(steps.time[step])
        count = WINDOW * scale - (not steps.resampled)  # a bucket has a width, a sample none
        length = count * float(self._slab.interval[row])
        return Window(
            scale,
            end - round(length),
            end,
            self._named(
                self._slab.transforms.expected(
                    [stage[step] for stage in steps.stages],
                    float(steps.since[step]),
                    self._slab.anchor[row] + expected[w],
                )
            ),
            self._named(contribution[w]),
        )


def maturity(scored: int, level: float) -> Maturity:
    if scored >= MATURE:
        return Maturity.MATURE
    return Maturity.LEARNING if np.isnan(level) else Maturity.WARMING
