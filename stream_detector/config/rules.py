"""From samples to events: time, thresholds and episodes."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stream_detector.config.kinds import Count, Duration, Positive, Section, Share, Text


class ThresholdRule(Section, frozen=True, kw_only=True):
    """One of these instead of an alarm budget.

    The first two are levels, which follow what the scores of a series have lately been; the others
    are scores, which nothing moves. Rules that look at held-out scores are the trainer's.
    """

    level: Annotated[Positive | None, Meta(description="-log10 of the tail probability.")] = None
    quantile: Annotated[
        Share | None,
        Meta(description="The level that this quantile of held-out scores has, e.g. 0.999."),
    ] = None
    sigma: Annotated[
        Positive | None,
        Meta(
            description="Standard deviations above the mean of a series' held-out scores; a series "
            "that the bundle doesn't know gets the usual level of those scores."
        ),
    ] = None
    error: Annotated[
        Positive | None,
        Meta(description="The score itself, one for all series, whatever is usual for them."),
    ] = None


class Time(Section, frozen=True, kw_only=True):
    max_ahead: Annotated[
        Duration,
        Meta(
            description="Samples further ahead of their record's Kafka timestamp are dead-lettered "
            "(future)."
        ),
    ] = "1h"
    max_jump: Annotated[
        Duration,
        Meta(
            description="In files, whose rows have no such timestamp: samples further ahead of "
            "their series are dead-lettered."
        ),
    ] = "3653d"
    restart_after_late: Annotated[
        Annotated[int, Meta(ge=1, le=250)],
        Meta(description="A series starts anew after this many late samples in a row (gap event)."),
    ] = 10
    evict_after: Annotated[
        Duration, Meta(description="Series that sent nothing for this long are forgotten.")
    ] = "7d"
    max_clock_step: Annotated[
        Duration,
        Meta(
            description="One series alone advances its partition's clock by at most this at once."
        ),
    ] = "30m"
    tick_every: Annotated[
        Duration | None,
        Meta(
            description="In a partition that is read to its end and brings nothing more, time goes "
            "on by the wall clock, in steps of this, so that silence is told; null: only samples "
            "move it, as in files."
        ),
    ] = "10s"


class MinDeviation(Section, frozen=True, kw_only=True):
    """How far the observed must be from the expected; all that is set must hold of one feature."""

    absolute: Annotated[
        dict[Text, Positive],
        Meta(description="Feature -> least deviation in the input's units; others need none."),
    ] = msgspec.field(default_factory=dict)
    relative: Annotated[
        Positive | None,
        Meta(
            description="Least deviation as a share of the expected value, or of the series' "
            "spread where that is larger."
        ),
    ] = None


class Episodes(Section, frozen=True, kw_only=True):
    min_length: Annotated[
        Count, Meta(description="Consecutive samples above the threshold that open an episode.")
    ] = 1
    quiet_period: Annotated[
        Count,
        Meta(
            description="Samples below the threshold in a row that close an episode; anomalies "
            "that lie closer together are one."
        ),
    ] = 60
    close_below: Annotated[
        Share | None,
        Meta(
            description="An episode also closes when its score falls below this share of its own "
            "peak, and opens anew only above it; null: never."
        ),
    ] = None
    peak_half_life: Annotated[
        Count, Meta(description="Samples after which half of that peak is left.")
    ] = 400
    direction: Annotated[
        Literal["both", "above", "below"],
        Meta(description="Where the observed must lie of the expected to open an episode."),
    ] = "both"
    min_deviation: Annotated[
        MinDeviation,
        Meta(description="How far it must lie, in one feature at least, to open an episode."),
    ] = MinDeviation()
    flatline_after: Annotated[
        Annotated[int, Meta(ge=2, le=65535)] | None,
        Meta(
            description="Samples with the very same value that open a flatline of a feature that "
            "normally moves, if they are 5 times as many as it is used to; null: never."
        ),
    ] = 60
    update_every: Annotated[
        Duration,
        Meta(
            description="An open episode repeats itself at this interval of event time, "
            "at most every 10 samples."
        ),
    ] = "5m"
    silent_after: Annotated[
        Duration,
        Meta(
            description="An open episode closes when its series sends nothing for this long, "
            "and for 10 of its steps."
        ),
    ] = "1h"
    silence: Annotated[
        bool, Meta(description="Whether that silence of a series is an episode of its own.")
    ] = True
    regime_change_after: Annotated[
        Duration,
        Meta(
            description="An episode that lasts longer, and 120 samples, is the new normal: "
            "the series learns anew."
        ),
    ] = "12h"
