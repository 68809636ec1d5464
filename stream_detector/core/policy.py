"""What the engine is told once: times are ms, lengths are samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SECOND = 1000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
CENSUS = 5 * 60 * SECOND
"""How often the series are counted that share `alarm_budget_total`, by a partition's clock."""

Direction = Literal["both", "above", "below"]


@dataclass(frozen=True, slots=True)
class Policy:
    """At most one of alarm_budget, level, quantile, sigma, error; none: the bundle's threshold."""

    alarm_budget: float | None = None  # false episodes per series and day
    alarm_budget_total: float | None = None  # a day over all series; a series' share at most
    shares: int = 1  # equal parts of it, one for each group in each partition
    level: float | None = None
    quantile: float | None = None  # of the held-out scores
    sigma: float | None = None  # standard deviations above the held-out mean
    error: float | None = None  # the score itself

    hold_limit: int = 5
    restart_after_late: int = 10
    evict_after: int = 7 * DAY
    max_clock_step: int = HOUR // 2
    max_jump: int = 3653 * DAY

    min_length: int = 1
    quiet_period: int = 60
    update_every: int = 300 * SECOND
    silent_after: int = HOUR
    regime_change_after: int = 12 * HOUR
    close_below: float | None = None  # share of an episode's own peak that ends it
    peak_half_life: int = 400
    direction: Direction = "both"  # of the deviation that opens an episode
    min_absolute: tuple[tuple[str, float], ...] = ()  # feature, least deviation as sent
    min_relative: float | None = None  # of the expected value or the series' spread
    flatline_after: int | None = 60
    silence: bool = True

    max_series: int = 1_000_000  # per group and partition

    @property
    def rule(self) -> tuple[str, float] | None:
        """The method that is set, by its name in a bundle's threshold, and its value."""
        for name in ("alarm_budget", "level", "quantile", "sigma", "error"):
            value: float | None = getattr(self, name)
            if value is not None:
                return name, value
        return None
