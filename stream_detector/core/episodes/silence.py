"""Series that stop sending: their episodes end, and the silence is one of its own.

Judged by the partition's clock and stamped with the deadline that passed, so that it does not
matter which record of another series moved the clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.calibration import MATURE
from stream_detector.core.clock import FOREVER
from stream_detector.core.episode import Episode, Now, Window
from stream_detector.records import NO_OFFSET, Kind, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.episodes.words import Words
    from stream_detector.core.policy import Policy
    from stream_detector.core.slab import Slab
    from stream_detector.records import AnomalyEvent

STEPS = 10
"""Least duration, in steps of the series: an hour is long for seconds, not for daily samples."""


class Silences:
    def __init__(self, slab: Slab, policy: Policy, words: Words) -> None:
        self._slab = slab
        self._after = policy.silent_after
        # A series that is forgotten no later than it is missed is only forgotten.
        self._told = policy.silence and policy.silent_after < policy.evict_after
        self._words = words

    def patience(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """[u] ms that each may send nothing for."""
        steps = np.rint(STEPS * self._slab.interval[rows].astype(np.float64))
        return np.maximum(self._after, steps.astype(np.int64))

    def sweep(self, clock: int) -> list[AnomalyEvent]:
        """What the deadlines have to say that passed by now.

        Rows are looked through only when the earliest deadline of all has passed; those heard of
        since the last look have theirs `silent_after` later at least.
        """
        slab = self._slab
        events: list[AnomalyEvent] = []
        if clock <= slab.next_silence:
            return events
        rows = slab.rows_in_use()
        rows = rows[~slab.silent[rows]]
        patience = self.patience(rows)
        due = slab.heard[rows] + patience
        past = due < clock
        slab.next_silence = min(int(due[~past].min(initial=FOREVER)), clock + self._after)
        rows, patience = rows[past], patience[past]
        slab.silent[rows] = True
        told = slab.busy[rows] | (slab.scored[rows] >= MATURE)
        for row, wait in zip(rows[told].tolist(), patience[told].tolist(), strict=True):
            last = int(slab.last_time[row])
            events += self.fall(row, last + wait, last, int(slab.scored[row]))
        return events

    def fall(self, row: int, deadline: int, last: int, scored: int) -> list[AnomalyEvent]:
        """A series sent nothing from `last` to its deadline: its episodes end, silence begins.

        `scored`: scores that it has had; young series raise none.
        """
        slab, words = self._slab, self._words
        if slab.find(row, Kind.SILENCE) is not None:
            return []
        events = [
            words.event(row, slab.end(row, episode.kind), Status.CLOSED, deadline, "silent")
            for episode in slab.episodes(row)
        ]
        if self._told and scored >= MATURE:
            now = Now(deadline, NO_OFFSET, float("nan"), float("nan"), scored, {})
            window = Window(slab.scales[0], last, deadline, {}, {})
            silence = Episode(Kind.SILENCE, deadline, window, now)
            slab.begin(row, silence)
            events.append(words.event(row, silence, Status.OPENED, deadline))
        return events

    def wake(self, row: int, now: Now) -> list[AnomalyEvent]:
        """The series sends again."""
        silence = self._slab.find(row, Kind.SILENCE)
        if silence is None:
            return []
        self._slab.end(row, Kind.SILENCE)
        silence.now = now
        return [self._words.event(row, silence, Status.CLOSED, now.time, "recovered")]
