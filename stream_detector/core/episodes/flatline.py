"""Features that normally move and repeat one value exactly: a sensor that is stuck.

What is normal for a feature is the longest run of equal values that it shows in its first samples.
Later it grows by one sample for each calm run that was longer, so that a fault that creeps in
cannot make itself normal; a run that was told of and ended by itself may double it, so that what
comes every night is told a few times only. Zero is where counts and switched-off sensors rest: a
feature that was zero at times is not stuck there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.core.episode import Episode, Window
from stream_detector.core.runs import LONGEST
from stream_detector.core.segments import Segments
from stream_detector.records import Kind, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream_detector.core.episode import Now
    from stream_detector.core.episodes.words import Words
    from stream_detector.core.policy import Policy
    from stream_detector.core.runs import Runs
    from stream_detector.core.slab import Slab
    from stream_detector.records import AnomalyEvent

LEARN = 120
"""Samples that a row's normal runs are learnt from."""
TIMES = 5
"""A flatline is so many times longer than the longest normal run."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What a piece holds for flatlines; u rows."""

    runs: Runs
    first: NDArray[np.int64]  # [u] samples of the piece that a row still learns from
    due: NDArray[np.bool_]  # [u] something may have to be told or learnt sample by sample


class Flatlines:
    def __init__(self, slab: Slab, policy: Policy, words: Words) -> None:
        self._slab = slab
        self._after = policy.flatline_after
        self._words = words

    def watch(self, segments: Segments, runs: Runs | None) -> Watch | None:
        """Learn from young rows and find those with a run that matters; None where it is off."""
        if runs is None or self._after is None:
            return None
        slab, rows = self._slab, segments.row
        watched = slab.watched[rows].astype(np.int64)
        first = np.minimum(LEARN - watched, segments.count)
        if first.any():
            self._learn(segments, runs, first)
        longest = slab.longest[rows].astype(np.int64)  # [u, F]
        due: NDArray[np.bool_] = np.any(runs.ended[segments.start] > longest, axis=1)
        if not runs.varied.all():
            some = np.flatnonzero(~runs.varied[segments.of])  # [k]
            of = segments.of[some]
            normal = longest[of]
            matters = runs.length[some] >= np.maximum(self._after, TIMES * normal)
            matters &= ~(slab.rests[rows][of] & (runs.values[some] == 0))
            matters |= runs.ended[some] > normal
            due[of[matters.any(axis=1)]] = True
        due &= first < segments.count
        return Watch(runs, first, due)

    def _learn(self, segments: Segments, runs: Runs, first: NDArray[np.int64]) -> None:
        slab = self._slab
        some = np.flatnonzero(segments.nth < first[segments.of])
        mine = Segments(segments.row[segments.of[some]])
        rows = mine.row
        longest = np.maximum.reduceat(runs.length[some], mine.start, axis=0)
        moves = np.add.reduceat(runs.moved[some].astype(np.int64), mine.start, axis=0)
        longest = np.maximum(slab.longest[rows], longest)
        moves = slab.moves[rows] + moves
        watched = slab.watched[rows] + mine.count
        still = (watched == LEARN)[:, None] & (2 * moves < LEARN)
        # Mostly constant: no run of it is too long.
        slab.longest[rows] = np.where(still, LONGEST, longest)
        slab.moves[rows] = moves
        slab.watched[rows] = watched
        slab.rests[rows] |= np.logical_or.reduceat(runs.values[some] == 0, mine.start, axis=0)

    def look(
        self,
        row: int,
        i: int,
        watch: Watch,
        now: Now,
        pause: int,
        *,
        calm: bool,
    ) -> AnomalyEvent | None:
        """One more sample of a row that has learnt; `pause`: ms between repetitions."""
        slab, runs = self._slab, watch.runs
        assert self._after is not None
        normal = slab.longest[row].astype(np.int64)
        limit = np.maximum(self._after, TIMES * normal)
        episode = slab.find(row, Kind.FLATLINE)
        if calm:
            ended = runs.ended[i]
            grown = normal + ((ended > normal) & (ended < limit))
            if episode is not None:
                told = np.array(list(episode.window.contribution.values())) > 0
                doubled = np.minimum(ended, np.maximum(2 * normal, self._after))
                grown = np.where(told & (ended >= limit), doubled, grown)
            slab.longest[row] = grown
        flat = (runs.length[i] >= limit) & ~(slab.rests[row] & (runs.values[i] == 0))
        if episode is None and not flat.any():
            return None
        seen = now._replace(observed=self._words.named(runs.values[i]))
        if episode is None:
            start = seen.time - round((int(runs.length[i].max()) - 1) * float(slab.interval[row]))
            window = Window(slab.scales[0], start, seen.time, {}, self._shares(flat))
            episode = Episode(Kind.FLATLINE, seen.time, window, seen, repeated_at=seen.time)
            slab.begin(row, episode)
            return self._words.event(row, episode, Status.OPENED, seen.time)
        episode.now = seen
        if not flat.any():
            slab.end(row, Kind.FLATLINE)
            return self._words.event(row, episode, Status.CLOSED, seen.time, "recovered")
        shares = self._shares(flat)
        window = episode.window
        if window.contribution != shares or seen.time - episode.repeated_at >= pause:
            episode.repeated_at = seen.time
            episode.window = window._replace(end=seen.time, contribution=shares)
            return self._words.event(row, episode, Status.UPDATED, seen.time)
        return None

    def _shares(self, flat: NDArray[np.bool_]) -> dict[str, float]:
        """Every flat feature has the same share."""
        return self._words.named(flat / flat.sum())
