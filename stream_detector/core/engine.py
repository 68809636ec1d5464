"""Batches -> verdicts and events: the order of things, for all slabs together.

A function of the input so far, the policy and the models alone: cutting the stream into batches
differently changes no event.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from stream_detector.core import alarms, blame
from stream_detector.core import levels as lv
from stream_detector.core.clock import FOREVER, NEVER
from stream_detector.core.detail import Detail, detail_of
from stream_detector.core.episodes import Samples, Tracker, Who
from stream_detector.core.episodes.gates import is_logarithmic
from stream_detector.core.episodes.words import maturities
from stream_detector.core.intake import Intake
from stream_detector.core.packing import Copy, Spare, copies, layout, size, unpack
from stream_detector.core.scoring import Scored, excesses, score
from stream_detector.core.segments import Segments
from stream_detector.core.serving import RECONSTRUCTION, Serving
from stream_detector.records import Maturity, Partition, ScaleScores, Verdicts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from stream_detector.core.intake import Job, Piece
    from stream_detector.core.policy import Policy
    from stream_detector.core.slab import Slab
    from stream_detector.core.windows import WindowSet
    from stream_detector.ports import Model
    from stream_detector.records import AnomalyEvent, Batch

Key = tuple[str, Partition]


@dataclass(slots=True)
class Result:
    verdicts: list[Verdicts] = field(default_factory=list)  # one for each batch, in their order
    events: list[AnomalyEvent] = field(default_factory=list)
    scores: list[ScaleScores] = field(default_factory=list)
    details: list[Detail] = field(default_factory=list)  # none unless the engine is `detailed`
    suppressed: Counter[str] = field(default_factory=Counter)  # reason -> anomalies held back


class Engine:
    """Holds all state: one slab per group and partition."""

    def __init__(self, source: str, policy: Policy, *, detailed: bool = False) -> None:
        self._detailed = detailed
        self._source = source
        self._policy = policy
        self._intake = Intake(policy)
        self._serving: dict[str, Serving] = {}
        self._slabs: dict[Key, Slab] = {}

    def serve(self, group: str, model: Model) -> Literal["swapped", "incompatible"]:
        """From the next batch on this model serves the group.

        A model of other features, scales, smoothing or transforms would make the state
        meaningless and is refused: `incompatible`.
        """
        return self._swap(group, Serving(model, self._policy))

    def serve_as(self, group: str, other: Engine) -> Literal["swapped", "incompatible"]:
        """From the next batch on the model that serves the group there serves it here as well."""
        return self._swap(group, other._serving[group])

    def _swap(self, group: str, serving: Serving) -> Literal["swapped", "incompatible"]:
        old = self._serving.get(group)
        if old is not None and not serving.fits(old):
            return "incompatible"
        self._serving[group] = serving
        for (name, _), slab in self._slabs.items():
            if name == group:
                self._take_over(serving, slab)
        return "swapped"

    def groups(self) -> list[str]:
        return list(self._serving)

    def version(self, group: str) -> str:
        return self._serving[group].version

    def drop(self, partition: Partition) -> None:
        """Forget the state of a partition that somebody else owns now."""
        for key in [key for key in self._slabs if key[1] == partition]:
            del self._slabs[key]

    def copy(self, partition: Partition, spare: Spare | None = None) -> dict[str, Copy]:
        """Group -> all state of one partition, as it is now; copies made in `spare` are lost."""
        return copies({g: s for (g, p), s in self._slabs.items() if p == partition}, spare)

    def size(self, partition: Partition) -> int:
        """Bytes of room that a copy takes."""
        return sum(size(slab) for (_, p), slab in self._slabs.items() if p == partition)

    def layout(self, group: str) -> str:
        """What the group's state means, whichever model of its kind serves."""
        serving = self._serving[group]
        return layout(serving.slab(), serving.features)

    def blank(self) -> Engine:
        """An engine with the same models and no state."""
        other = Engine(self._source, self._policy)
        other._serving = dict(self._serving)
        return other

    def restore(
        self, group: str, partition: Partition, version: str, arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Take up state of the same layout that was packed while `version` served.

        Where another model serves now, what scores meant is forgotten as by a reload. Raises
        KeyError or ValueError where the arrays are damaged.
        """
        serving = self._serving[group]
        slab = serving.slab()
        unpack(slab, arrays)
        if version != serving.version:
            self._take_over(serving, slab)
        self._slabs[group, partition] = slab

    def adopt(self, other: Engine, partition: Partition) -> None:
        """Take over what another engine, that lets go of it, holds of a partition.

        Where another model served it there, what scores meant is forgotten as by a reload.
        """
        for group, key in [(key[0], key) for key in other._slabs if key[1] == partition]:
            slab = self._slabs[key] = other._slabs.pop(key)
            if self.version(group) != other.version(group):
                self._take_over(self._serving[group], slab)

    def doubt(self, partition: Partition) -> None:
        """The state of a partition could be had again in part only: its series are `recovering`.

        So are those that come anew while nobody knows yet whether they are new.
        """
        for group, serving in self._serving.items():
            slab = self._slabs.setdefault((group, partition), serving.slab())
            slab.doubt(slab.rows_in_use())
            slab.suspect_until = slab.clock.elapsed + self._policy.silent_after

    @staticmethod
    def _take_over(serving: Serving, slab: Slab) -> None:
        serving.take_over(slab)
        slab.next_silence = NEVER  # intervals may have become shorter

    def series(self) -> dict[str, int]:
        """Maturity -> series held."""
        counts = dict.fromkeys((m.value for m in Maturity), 0)
        for slab in self._slabs.values():
            for state, count in maturities(slab).items():
                counts[state.value] += count
        return counts

    def digest(self, partition: Partition) -> dict[str, str]:
        """Group -> hash of the state of one partition."""
        return {g: slab.digest() for (g, p), slab in self._slabs.items() if p == partition}

    def process(self, batches: Sequence[Batch]) -> Result:
        """Take in batches, at most one for each group and partition."""
        result = Result()
        jobs = [self._job(batch) for batch in batches]
        waiting = [job for job in jobs if len(job.usable)]
        while waiting:
            pieces = [self._intake.next_piece(job, result.events) for job in waiting]
            while pieces:
                pieces = self._run(pieces, result)
            waiting = [job for job in waiting if job.done < len(job.usable)]
        for job in jobs:
            result.events += job.tracker.sweep(job.slab.clock.elapsed)
            result.verdicts.append(
                Verdicts(job.batch, job.outcome, job.level, job.anomalous, job.serving.version)
            )
        return result

    def reached(self, partition: Partition) -> int | None:
        """The time that a partition's samples and ticks have come to, ms UTC."""
        times = [s.clock.reached for (_, p), s in self._slabs.items() if p == partition]
        return max((time for time in times if time != NEVER), default=None)

    def tick(self, partition: Partition, time: int) -> list[AnomalyEvent]:
        """Nothing came in a partition up to `time`, ms UTC: what its deadlines have to say.

        An input like a sample, and as exact: of two ticks in a row only the later one matters, and
        one that is not later than what the partition has reached changes nothing.
        """
        events: list[AnomalyEvent] = []
        for (group, place), slab in sorted(self._slabs.items(), key=lambda item: item[0]):
            clock = slab.clock.until(time)
            if place != partition or clock is slab.clock:
                continue
            slab.clock = clock
            tracker = self._tracker(self._serving[group], slab, partition)
            if clock.elapsed >= slab.next_eviction:
                self._intake.evict(slab, tracker, clock.elapsed, events)
            events += tracker.sweep(clock.elapsed)
        return events

    def _tracker(self, serving: Serving, slab: Slab, partition: Partition) -> Tracker:
        who = Who(self._source, partition, serving.features, serving.version)
        logarithmic = is_logarithmic(serving.experts)
        return Tracker(slab, who, self._policy, logarithmic=logarithmic)

    def _job(self, batch: Batch) -> Job:
        serving = self._serving[batch.group]
        key = (batch.group, batch.partition)
        slab = self._slabs.get(key)
        if slab is None:
            slab = self._slabs[key] = serving.slab()
        tracker = self._tracker(serving, slab, batch.partition)
        return self._intake.job(batch, slab, serving, tracker)

    def _run(self, pieces: list[Piece], result: Result) -> list[Piece]:
        """Score and judge pieces; returns those whose series must start anew on the way."""
        scored: list[dict[int, tuple[WindowSet, Scored]]] = [{} for _ in pieces]
        for serving in {id(piece.job.serving): piece.job.serving for piece in pieces}.values():
            mine = [i for i, piece in enumerate(pieces) if piece.job.serving is serving]
            for scale in serving.scales:
                sets = [(pieces[i].job.slab, pieces[i].windows[scale]) for i in mine]
                for i, (_, part), answer in zip(
                    mine, sets, score(serving, scale, sets), strict=True
                ):
                    scored[i][scale] = (part, answer)
        again = []
        for piece, answers in zip(pieces, scored, strict=True):
            rest = self._judge(piece, answers, result)
            if rest is not None:
                again.append(rest)
        return again

    def _judge(
        self, piece: Piece, scored: dict[int, tuple[WindowSet, Scored]], result: Result
    ) -> Piece | None:
        job, admitted, steps = piece.job, piece.admitted, piece.admitted.steps
        slab, serving, segments = job.slab, job.serving, steps.segments
        s = len(steps.sample)
        new = excesses(slab, serving, scored, s)
        filled = new.copy()
        for expert in range(new.shape[1]):
            filled[:, expert] = steps.hold(new[:, expert], slab.excess[segments.row, expert])
        slab.excess[segments.row] = filled[segments.last]
        some = np.flatnonzero(~np.isnan(new).all(axis=1))  # [k] steps with a new score
        fused = lv.fuse(np.nan_to_num(filled[some]), serving.rule, serving.weights)
        row_of = segments.row[segments.of[some]]
        of_some = Segments(row_of)
        before = alarms.remembered(slab, of_some.row)
        judged = alarms.judged(slab, serving, of_some, fused)

        level = np.full(s, np.nan, np.float32)
        score_now = np.full(s, np.nan, np.float32)
        threshold = np.full(s, np.nan, np.float32)
        level[some] = judged.level
        score_now[some] = fused
        threshold[some] = judged.threshold
        level = steps.hold(level, slab.level[segments.row])
        score_now = steps.hold(score_now, slab.score[segments.row])
        threshold = segments.forward_fill(threshold, slab.threshold[segments.row])
        seen = np.full(s, np.nan)
        seen[some] = judged.seen + 1
        seen = segments.forward_fill(seen, _seen_before(slab, segments, of_some, judged.seen))
        seen[some] = judged.seen

        told = steps.told(admitted.segments, level - np.where(np.isfinite(threshold), threshold, 0))
        rows = admitted.segments.row
        samples = Samples(
            at=admitted.at,
            time=piece.arrivals.time[admitted.at],
            offset=job.batch.offset[piece.place[admitted.at]],
            previous=admitted.previous,
            silence=admitted.silence,
            step=told.step,
            level=told.each(level, slab.level[rows]),
            score=told.each(score_now, slab.score[rows]),
            threshold=told.each(threshold, slab.threshold[rows]),
            scored=told.each(seen, slab.scored[rows]).astype(np.int32),
            steps=steps,
            excess=new * serving.weights,
            windows=blame.told(slab, scored, score_now, level < threshold),
            expert_scale=[expert.scale for expert in serving.experts],
        )
        slab.level[segments.row] = level[segments.last]
        slab.score[segments.row] = score_now[segments.last]
        slab.threshold[segments.row] = threshold[segments.last]
        if self._detailed:
            result.details.append(detail_of(piece, samples))
        moves = job.tracker.run(admitted, samples)
        for row, sample in moves.relearn.items():
            counted = fused[(row_of == row) & (steps.sample[some] <= sample)]
            alarms.learn_again(
                slab, serving, before.take(np.flatnonzero(of_some.row == row)), row, counted
            )
        result.suppressed += moves.suppressed
        job.outcome[piece.place] = admitted.outcome
        job.level[piece.place] = np.nan  # a series that starts anew may judge a sample again
        job.anomalous[piece.place] = False
        job.level[piece.place[admitted.at]] = samples.level
        job.anomalous[piece.place[admitted.at]] = moves.anomalous

        stop = self._stops(piece, moves.relearn)
        ratio = np.full(s, np.nan, np.float32)
        ratio[some] = judged.ratio
        self._histograms(piece, scored, ratio, stop, result)
        events = [(at, event) for at, event in moves.events]
        rest = self._restart(piece, moves.relearn, stop, events)
        result.events += [event for _, event in sorted(events, key=lambda pair: pair[0])]
        return rest

    @staticmethod
    def _stops(piece: Piece, relearn: dict[int, int]) -> NDArray[np.int64]:
        """[n] the arrival with which the row of each starts anew; beyond all if it doesn't."""
        stop = np.full(len(piece.place), FOREVER)
        for row, at in piece.admitted.restarts.items():
            stop[piece.arrivals.row == row] = at
        for row, sample in relearn.items():
            mine = piece.arrivals.row == row
            stop[mine] = np.minimum(stop[mine], int(piece.admitted.at[sample]) + 1)
        return stop

    @staticmethod
    def _histograms(
        piece: Piece,
        scored: dict[int, tuple[WindowSet, Scored]],
        ratio: NDArray[np.float32],
        stop: NDArray[np.int64],
        result: Result,
    ) -> None:
        serving = piece.job.serving
        at = piece.admitted.at[piece.admitted.steps.sample]  # [s]
        valid = at < stop[at]
        for scale, (windows, answer) in scored.items():
            if not len(windows):
                continue
            counted = valid[windows.step]
            good = answer.finite & counted
            experts = [serving.experts[i] for i in serving.by_scale[scale]]
            column = next((e.output for e in experts if e.name == RECONSTRUCTION), 0)
            result.scores.append(
                ScaleScores(
                    piece.job.batch.group,
                    scale,
                    answer.scores[good, column],
                    ratio[windows.step[good]],
                    int((~answer.finite & counted).sum()),
                )
            )

    def _restart(
        self,
        piece: Piece,
        relearn: dict[int, int],
        stop: NDArray[np.int64],
        events: list[tuple[int, AnomalyEvent]],
    ) -> Piece | None:
        """Fresh rows for series that start anew; the rest of their samples as another piece."""
        rows = {*piece.admitted.restarts, *relearn}
        if not rows:
            return None
        job, slab = piece.job, piece.job.slab
        for row in rows:
            mine = piece.arrivals.row == row
            at = int(stop[mine][0])
            if row in relearn:
                last = int(piece.arrivals.time[at - 1])
                heard = int(piece.arrivals.clock[at - 1])
                job.serving.renew(slab, row)
                slab.last_time[row], slab.heard[row] = last, heard
                continue
            last, clock = int(slab.last_time[row]), int(piece.arrivals.clock[at])
            ended = job.tracker.overdue(row, clock) + job.tracker.close(row, last, "gap")
            events += [(at, event) for event in ended]
            slab.clear(row)
            slab.heard[row] = clock
            job.serving.welcome(slab, row)
            time, offset = int(piece.arrivals.time[at]), int(job.batch.offset[piece.place[at]])
            events.append((at, job.tracker.gap(row, time, offset)))
        left = np.flatnonzero(np.arange(len(stop)) >= stop)
        if not len(left):
            return None
        return self._intake.take_in(job, piece.place[left], piece.arrivals.take(left))


def _seen_before(
    slab: Slab, segments: Segments, of_some: Segments, seen: NDArray[np.int32]
) -> NDArray[np.float64]:
    """[u] how many scores each row had before the piece."""
    result = slab.scored[segments.row].astype(np.float64)
    place = np.searchsorted(segments.row, of_some.row)
    result[place] = seen[of_some.start]
    return result
