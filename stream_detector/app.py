"""The loop: poll -> decode -> windows -> score -> level -> episode -> publish -> acknowledge.

Knows the core, the formats and the ports, and no adapter: Kafka, files and the demo run this code.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.config import milliseconds
from stream_detector.core.policy import Policy
from stream_detector.core.rejections import Breaker, bounded, judged_unusable, unusable
from stream_detector.formats.json import LETTERS_PER_RECORD
from stream_detector.inputs import Inputs
from stream_detector.keeper import Keeper, News
from stream_detector.outbox import Outbox
from stream_detector.ports import Model, Position, Progress, Scores
from stream_detector.records import Outcome, Partition
from stream_detector.ticking import Ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stream_detector.config import DetectorConfig
    from stream_detector.core.engine import Engine, Result
    from stream_detector.core.groups import Groups
    from stream_detector.keeper import Keeping
    from stream_detector.outbox import Seen
    from stream_detector.ports import (
        Clock,
        ModelFeed,
        NormalStore,
        Odd,
        Scorer,
        Sink,
        Source,
        Telemetry,
    )
    from stream_detector.records import Record, Rejected
    from stream_detector.restore import Decoder

_log = logging.getLogger(__name__)

SECOND = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    events_topic: str
    dead_letter_topic: str
    max_batch: int = 5000  # records a turn
    rejected_share: float = 0.9
    rejected_window: int = 10_000  # records
    poll_timeout: float = 0.2  # s; how long an idle loop waits before it looks for new models
    tick_every: float | None = None  # s between ticks of an idle partition


def policy_of(config: DetectorConfig, partitions: int = 1) -> Policy:
    """The engine's policy as the configuration has it; `partitions` of all input topics."""
    rule, time, episodes = config.threshold, config.time, config.episodes
    return Policy(
        alarm_budget=config.alarm_budget,
        alarm_budget_total=config.alarm_budget_total,
        shares=partitions * len(config.routes),
        level=rule.level if rule else None,
        quantile=rule.quantile if rule else None,
        sigma=rule.sigma if rule else None,
        error=rule.error if rule else None,
        hold_limit=config.input.hold_limit,
        restart_after_late=time.restart_after_late,
        evict_after=milliseconds(time.evict_after),
        max_clock_step=milliseconds(time.max_clock_step),
        max_jump=milliseconds(time.max_jump),
        min_length=episodes.min_length,
        quiet_period=episodes.quiet_period,
        update_every=milliseconds(episodes.update_every),
        silent_after=milliseconds(episodes.silent_after),
        regime_change_after=milliseconds(episodes.regime_change_after),
        close_below=episodes.close_below,
        peak_half_life=episodes.peak_half_life,
        direction=episodes.direction,
        min_absolute=tuple(episodes.min_deviation.absolute.items()),
        min_relative=episodes.min_deviation.relative,
        flatline_after=episodes.flatline_after,
        silence=episodes.silence,
        max_series=config.limits.max_series,
    )


class TimedScorer:
    """A scorer that adds up the seconds spent in it."""

    def __init__(self, scorer: Scorer, clock: Clock) -> None:
        self._scorer = scorer
        self._clock = clock
        self.seconds = 0.0

    @property
    def rungs(self) -> tuple[int, ...]:
        return self._scorer.rungs

    def score(
        self,
        scale: int,
        windows: NDArray[np.float32],
        center: NDArray[np.float32],
        spread: NDArray[np.float32],
    ) -> Scores:
        start = self._clock.monotonic()
        scores = self._scorer.score(scale, windows, center, spread)
        self.seconds += self._clock.monotonic() - start
        return scores


class Loop:
    """One worker. All calls come from one thread."""

    def __init__(  # every port by name
        self,
        *,
        source: Source,
        sink: Sink,
        decoder: Decoder,
        groups: Groups,
        engine: Engine,
        settings: Settings,
        telemetry: Telemetry,
        clock: Clock,
        feed: ModelFeed | None = None,
        store: NormalStore | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        """Without `keeping` state begins anew with every assignment."""
        self._source = source
        self._outbox = Outbox(sink, settings.events_topic, settings.dead_letter_topic, clock)
        self._decoder = decoder
        self._groups = groups
        self._engine = engine
        self._settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._feed = feed
        self._store = store
        self._timed: dict[str, TimedScorer] = {}
        self._breaker = Breaker(settings.rejected_share, settings.rejected_window)
        self._positions: dict[Partition, int] = {}  # not acknowledged yet
        self.ticks = ticks = Ticks(settings.tick_every)
        self._keeper = Keeper(keeping, engine, decoder, groups, ticks, clock) if keeping else None
        self._next_look = 0.0
        self._inputs = Inputs()

    def serve(self, group: str, model: Model) -> bool:
        """Let a model serve a group from the next batch on; False where it doesn't fit."""
        timed = TimedScorer(model.scorer, self._clock)
        outcome = self._engine.serve(group, Model(model.bundle, timed))
        if outcome == "incompatible":
            _log.error(
                "group %s: bundle %s has other features, scales, smoothing or transforms than the "
                "one that serves; it is not swapped in live, restart the detector to use it",
                group,
                model.bundle.version,
            )
            return False
        self._timed[group] = timed
        self._groups.features(group, model.bundle.manifest.features)
        self._telemetry.model(group, model.bundle.version)
        return True

    def run(self, stop: Callable[[], bool]) -> None:
        """Turn until `stop` or the end of the input; what was read is dealt with before it returns.

        Raises MisconfiguredError, SourceError or SinkError, with nothing acknowledged that was not
        dealt with. The caller closes source, sink and store.
        """
        while not stop():
            if not self.turn():
                break
        self._release()
        if self._keeper is not None:
            self._keeper.leave()
        self._acknowledge(())  # snapshots that have become durable last

    def turn(self) -> bool:
        """One batch; False at the end of the input."""
        self._reload()
        lap = _Laps(self._clock)
        polled = self._source.poll(self._settings.poll_timeout, self._settings.max_batch)
        lap("poll")
        self._outbox.look()
        self._drop(polled.revoked | polled.assigned)
        records = polled.records
        if self._keeper is not None:
            records = self._keeper.take(polled)
            lap("restore")
        if not records:
            self._release()
        samples, rejected = self._decoder.decode(records)
        lap("decode")
        assembled = self._groups.assemble(samples)
        lap("assemble")
        before = self._scoring()
        result = self._engine.process(assembled.batches)
        seconds = self._scoring() - before
        lap("engine")
        lap.move("engine", "score", seconds)
        if self._keeper is not None and records:
            self._keeper.worked(len(records), lap.sum("decode", "assemble", "engine", "score"))
        now = self._clock.monotonic()
        told, ticked = self.ticks.run(records, self._source, self._engine, now)
        result.events += told
        if self._keeper is not None:
            self._keeper.ticked(ticked)
        lap("tick")
        odd = self._inputs.look(records, self._source, now)
        rejected += assembled.rejected
        rejected += judged_unusable(result, samples)
        self._breaker.note(unusable(records, rejected, result, samples), rejected)
        self._breaker.check()
        rejected = bounded(rejected, LETTERS_PER_RECORD)
        hold = self._breaker.suspicious
        self._outbox.publish(records, result.events, rejected, hold=hold)
        seen = self._outbox.seen()
        lap("publish")
        if self._store is not None:
            for verdicts in result.verdicts:
                self._store.record(verdicts)
            lap("store")
        self._acknowledge(records)
        lap("acknowledge")
        if self._keeper is not None:
            self._keeper.save()
            lap("snapshot")
        self._tell(len(records), result, rejected, seen, odd, lap)
        return not polled.finished or (self._keeper is not None and self._keeper.busy)

    def _drop(self, moved: frozenset[Partition]) -> None:
        """Forget partitions that went to others, came anew, or must begin at the last commit."""
        for partition in moved:
            self._engine.drop(partition)
            self.ticks.drop(partition)
            self._positions.pop(partition, None)
        if moved:
            self._outbox.drop(moved)

    def _reload(self) -> None:
        if self._feed is None:
            return
        for group, model in self._feed.take().items():
            if model.bundle.version == self._engine.version(group):
                continue  # rolled back to it from one that did not fit: nothing to forget
            swapped = self.serve(group, model)
            if swapped:
                if self._keeper is not None:
                    self._keeper.swapped(group, model.bundle.version)
                _log.info("group %s: bundle %s serves from now on", group, model.bundle.version)
            self._telemetry.reload("swapped" if swapped else "incompatible")

    def _scoring(self) -> float:
        return sum(timed.seconds for timed in self._timed.values())

    def _acknowledge(self, records: Sequence[Record]) -> None:
        runs = groupby(records, key=itemgetter(0, 1))  # of one partition each
        dealt = {Partition(*place): [*run][-1].offset + 1 for place, run in runs}
        if self._keeper is not None:
            self._positions |= self._keeper.advanced(dealt.items())
        self._positions |= dealt
        if not self._outbox.holding:
            self._commit()

    def _commit(self) -> None:
        """Also where no position is new: what ticks had to say is complete as well."""
        keeper, self._positions, positions = self._keeper, {}, self._positions.items()
        self._source.acknowledge(
            {p: keeper.position(p, at) if keeper else Position(at) for p, at in positions}
        )

    def _release(self) -> None:
        """The input paused while few records had come in: their dead letters go out after all."""
        self._outbox.release()
        self._commit()

    def _tell(
        self,
        polled: int,
        result: Result,
        rejected: list[Rejected],
        seen: Seen,
        odd: Odd,
        lap: _Laps,
    ) -> None:
        news = self._keeper.news() if self._keeper is not None else News()
        progress = Progress(
            polled=polled,
            scores=result.scores,
            events=seen.events,
            transactions=seen.transactions,
            suppressed=dict(result.suppressed),
            event_latencies=seen.latencies,
            odd=odd,
            rejected=rejected,
            stages=lap.seconds if polled or news.replayed or news.saved else {},
            unassigned=len(self._source.unassigned()),
            restoring=self._keeper.restoring if self._keeper is not None else 0,
            replayed=news.replayed,
            restored=news.restored,
            saved=news.saved,
        )
        newest = None
        for verdicts in result.verdicts:
            counts = np.bincount(verdicts.outcome, minlength=len(Outcome))
            for outcome in Outcome:
                name = outcome.name.lower()
                progress.outcomes[name] = progress.outcomes.get(name, 0) + int(counts[outcome])
            times = verdicts.batch.timestamp[verdicts.outcome == Outcome.ACCEPTED]
            if len(times):
                newest = max(newest or 0, int(times.max()))
        if newest is not None:
            progress.event_time_lag = self._clock.now() - newest / 1000
        now = self._clock.monotonic()
        if now >= self._next_look:
            progress.series = self._engine.series()
            self._telemetry.turn(progress)  # first: partitions with a lag may wait for their state
            self._telemetry.lag(self._source.lag())
            self._next_look = now + SECOND
        else:
            self._telemetry.turn(progress)


class _Laps:
    """Seconds of each stage of a turn."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock.monotonic()
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str) -> None:
        now = self._clock.monotonic()
        self.seconds[stage] = now - self._last
        self._last = now

    def sum(self, *stages: str) -> float:
        return sum(self.seconds[stage] for stage in stages)

    def move(self, whole: str, part: str, seconds: float) -> None:
        self.seconds[whole] -= seconds
        self.seconds[part] = seconds
