"""The episodes of one slab, over one piece of input at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.calibration import MATURE
from stream_detector.core.clock import NEVER
from stream_detector.core.episode import Episode, Now, Window
from stream_detector.core.episodes.flatline import Flatlines
from stream_detector.core.episodes.gates import Filters, Peaks
from stream_detector.core.episodes.samples import Samples, Transitions
from stream_detector.core.episodes.silence import Silences
from stream_detector.core.episodes.words import Words
from stream_detector.core.slab import WINDOW
from stream_detector.records import AnomalyEvent, Kind, Status

if TYPE_CHECKING:
    from stream_detector.core.admission import Admitted
    from stream_detector.core.episodes.flatline import Watch
    from stream_detector.core.episodes.samples import Who
    from stream_detector.core.policy import Policy
    from stream_detector.core.slab import Slab

UPDATE_STEPS = 10
REGIME_STEPS = 120
"""Least durations, in steps of the series: an hour is long for seconds, not for daily samples."""
REGIME = "regime_change"


class Tracker:
    """Runs the episodes of one slab.

    Of anomaly, gap and regime a series has one open at most: while it learns nothing is an anomaly.
    """

    def __init__(self, slab: Slab, who: Who, policy: Policy, *, logarithmic: bool = False) -> None:
        self._slab = slab
        self._policy = policy
        self._words = Words(slab, who)
        self._filters = Filters(slab, who.features, policy)
        self._peaks = Peaks(slab, policy, logarithmic=logarithmic)
        self._silences = Silences(slab, policy, self._words)
        self._flatlines = Flatlines(slab, policy, self._words)

    def run(self, admitted: Admitted, samples: Samples) -> Transitions:
        """Take in the samples, m in all."""
        slab, segments = self._slab, admitted.segments
        rows, of, start, count = segments.row, segments.of, segments.start, segments.count
        result = Transitions(anomalous=np.zeros(len(samples.at), np.bool_))
        above = samples.level >= samples.threshold
        above &= samples.scored >= MATURE
        busy = slab.busy[rows] | (slab.above[rows] > 0)
        busy[of[above]] = True
        patience = self._silences.patience(rows)
        busy[of[admitted.idle > patience[of]]] = True
        slab.silent[rows] = False
        watch = self._flatlines.watch(segments, admitted.runs)
        if watch is not None:
            busy |= watch.due
        for segment in np.flatnonzero(busy).tolist():
            row, begin = int(rows[segment]), int(start[segment])
            flat_from = None
            if watch is not None and (watch.due[segment] or slab.find(row, Kind.FLATLINE)):
                flat_from = begin + int(watch.first[segment])
            for i in range(begin, begin + int(count[segment])):
                events = self._silent(row, i, int(patience[segment]), admitted, samples)
                if samples.step[i] >= 0:
                    events += self._judge(row, i, samples, result, high=bool(above[i]))
                anomaly = slab.find(row, Kind.ANOMALY) is not None
                result.anomalous[i] = anomaly
                relearns = row in result.relearn
                if watch is not None and flat_from is not None and i >= flat_from and not relearns:
                    calm = not (anomaly or above[i])
                    events += self._flat(row, i, watch, samples, calm=calm)
                result.events += [(int(samples.at[i]), event) for event in events]
                if relearns:
                    break
        return result

    def sweep(self, clock: int) -> list[AnomalyEvent]:
        """What deadlines say that the partition's clock has passed."""
        return self._silences.sweep(clock)

    def overdue(self, row: int, clock: int) -> list[AnomalyEvent]:
        """The same of one series that is about to start anew."""
        slab = self._slab
        patience = int(self._silences.patience(np.array([row]))[0])
        if slab.last_time[row] == NEVER or clock - int(slab.heard[row]) <= patience:
            return []
        deadline = int(slab.last_time[row]) + patience
        return self._silences.fall(row, deadline, deadline - patience, int(slab.scored[row]))

    def close(self, row: int, at: int, reason: str) -> list[AnomalyEvent]:
        """End all that is open of a series, at the time of its last sample or of a deadline."""
        return [
            self._end(row, episode, max(at, episode.started_at), reason)
            for episode in self._slab.episodes(row)
        ]

    def gap(self, row: int, time: int, offset: int) -> AnomalyEvent:
        """The series starts anew: nothing can be said of it until it is mature again."""
        now = Now(time, offset, float("nan"), float("nan"), 0, {})
        episode = Episode(Kind.GAP, time, Window(self._slab.scales[0], time, time, {}, {}), now)
        return self._begin(row, episode)

    def _begin(self, row: int, episode: Episode) -> AnomalyEvent:
        self._slab.begin(row, episode)
        return self._words.event(row, episode, Status.OPENED, episode.started_at)

    def _end(self, row: int, episode: Episode, at: int, reason: str) -> AnomalyEvent:
        self._slab.end(row, episode.kind)
        return self._words.event(row, episode, Status.CLOSED, at, reason)

    def _silent(
        self, row: int, i: int, patience: int, admitted: Admitted, samples: Samples
    ) -> list[AnomalyEvent]:
        """What this sample's coming says of the time before it."""
        if not self._slab.busy[row] and admitted.idle[i] <= patience:
            return []
        events = []
        previous = int(samples.previous[i])
        if admitted.idle[i] > patience:
            deadline, scored = previous + patience, int(samples.scored[i])
            events = self._silences.fall(row, deadline, previous, scored)
        elif samples.silence[i] > patience:
            events = self._silences.fall(row, previous + patience, previous, 0)
        return events + self._silences.wake(row, self._words.plain(i, samples))

    def _judge(
        self, row: int, i: int, samples: Samples, result: Transitions, *, high: bool
    ) -> list[AnomalyEvent]:
        """One more step: an anomaly opens, goes on or ends; so does what waits for maturity."""
        slab, time = self._slab, int(samples.time[i])
        nth, score = int(samples.steps.nth[samples.step[i]]), float(samples.score[i])
        episode = slab.find(row, Kind.ANOMALY)
        waiting = slab.find(row, Kind.GAP) or slab.find(row, Kind.REGIME)
        counts = high and (episode is not None or self._peaks.admits(row, score, nth))
        run = min(int(slab.above[row]) + 1, 65535) if counts else 0
        slab.above[row] = run
        if waiting is not None:
            waiting.now = self._words.now(i, samples)
            waiting.window = self._words.window(row, i, samples) or waiting.window
            if waiting.now.scored < MATURE or np.isnan(waiting.now.level):
                return []
            slab.above[row] = 0
            return [self._end(row, waiting, time, "recovered")]
        if episode is None:
            if run == 0:
                slab.withheld[row] = False
            return (
                self._open(row, i, nth, samples, result) if run >= self._policy.min_length else []
            )
        episode.now = self._words.now(i, samples)
        window = self._words.window(row, i, samples)
        episode.window = window or episode.window
        events = self._continue(row, episode, time, score, nth, high=high)
        if slab.find(row, Kind.ANOMALY) is None:
            slab.above[row] = 0
            if events[0].close_reason == REGIME:
                result.relearn[row] = i
        return events

    def _open(
        self, row: int, i: int, nth: int, samples: Samples, result: Transitions
    ) -> list[AnomalyEvent]:
        slab, words = self._slab, self._words
        window = words.window(row, i, samples)
        if window is None:  # the level is held from an earlier window
            return []
        now = words.now(i, samples)
        objection = self._filters.objection(row, now, window)
        if objection is not None:
            if not slab.withheld[row]:
                result.suppressed[objection] += 1
            slab.withheld[row] = True
            return []
        slab.withheld[row] = False
        time = now.time
        episode = Episode(Kind.ANOMALY, time, window, now, repeated_at=time)
        episode.threshold = float(samples.threshold[i])
        episode.severity = self._rank(now.level, episode.threshold)
        episode.contaminated = nth <= int(slab.tainted[row])
        self._note(row, episode, nth)
        self._peaks.fell(row, episode, now.score, nth)
        return [self._begin(row, episode)]

    def _note(self, row: int, episode: Episode, nth: int) -> None:
        """A step above the threshold: windows of the scales to blame hold it from now on."""
        slab = self._slab
        episode.coarsest = max(episode.coarsest, episode.window.scale)
        reach = nth + WINDOW * episode.coarsest - 1
        slab.tainted[row] = max(int(slab.tainted[row]), reach)

    def _continue(
        self, row: int, episode: Episode, time: int, score: float, nth: int, *, high: bool
    ) -> list[AnomalyEvent]:
        """One more step of an open anomaly."""
        policy = self._policy
        if high:
            self._note(row, episode, nth)
        episode.quiet = 0 if high else episode.quiet + 1
        fell = self._peaks.fell(row, episode, score, nth)
        if fell or episode.quiet >= policy.quiet_period:
            return [self._end(row, episode, time, "recovered")]
        lasting = self._least(row, policy.regime_change_after, REGIME_STEPS)
        if time - episode.started_at >= lasting:
            events = [self._end(row, episode, time, REGIME)]
            events += self.close(row, time, REGIME)
            regime = Episode(Kind.REGIME, time, episode.window, episode.now)
            return [*events, self._begin(row, regime)]
        rank = self._rank(episode.now.level, episode.threshold)
        pause = self._least(row, policy.update_every, UPDATE_STEPS)
        if rank > episode.severity or time - episode.repeated_at >= pause:
            episode.severity = max(rank, episode.severity)
            episode.repeated_at = time
            return [self._words.event(row, episode, Status.UPDATED, time)]
        return []

    def _flat(
        self, row: int, i: int, watch: Watch, samples: Samples, *, calm: bool
    ) -> list[AnomalyEvent]:
        pause = self._least(row, self._policy.update_every, UPDATE_STEPS)
        now = self._words.plain(i, samples)
        event = self._flatlines.look(row, i, watch, now, pause, calm=calm)
        return [] if event is None else [event]

    def _least(self, row: int, duration: int, steps: int) -> int:
        return max(duration, round(steps * float(self._slab.interval[row])))

    @staticmethod
    def _rank(level: float, threshold: float) -> int:
        return 0 if np.isnan(level) else int(np.clip(np.floor(level - threshold), 0, 2))
