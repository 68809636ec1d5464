"""From opened episodes to what was promised and realised, and to what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from scipy.stats import chi2

from trainer.metrics import NAN, wilson
from trainer.promise.cases import STEPS_A_DAY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from trainer.promise.anomalies import Injected

REACH = 60
"""An episode answers an anomaly that it overlaps, or that a window still holds when it opens:

steps behind the anomaly's end."""
FORGIVEN_WITHIN = STEPS_A_DAY
"""Steps behind a change of level in which an episode of each kind may open on its account."""


class Episode(NamedTuple):
    """Steps count from day 0; between the first and the last it was raised, then it grew quiet."""

    series: int
    first: int
    last: int
    kind: str


class Budget(NamedTuple):
    name: str
    daily: float  # episodes accepted per series and day
    start: int  # day from which on the promise holds; what is before it is warm-up
    band: tuple[float, float]  # realised / promised that is accepted


E = TypeVar("E", Episode, "Injected")

BUDGETS = (
    Budget("1 a day", 1.0, 7, (0.8, 1.25)),
    Budget("1 a week", 1 / 7, 30, (0.8, 1.25)),
    Budget("1 in 30 days", 1 / 30, 30, (0.6, 1.6)),
)


def forgiven(
    episodes: Sequence[Episode],
    changed_at: NDArray[np.int64],  # [S]
) -> list[Episode]:
    """Without the first episode of each kind that a series opens behind its change of level."""
    excused: set[tuple[int, str]] = set()
    left = []
    for one in sorted(episodes, key=lambda each: each.first):
        late = one.first - int(changed_at[one.series])
        if 0 <= late < FORGIVEN_WITHIN and (one.series, one.kind) not in excused:
            excused.add((one.series, one.kind))
            continue
        left.append(one)
    return left


def cell(episodes: Sequence[Episode], budget: Budget, series: int, days: int) -> dict[str, Any]:
    """One line of the table: episodes promised and realised from the budget's first day on."""
    at = budget.start * STEPS_A_DAY
    counted = [one for one in episodes if one.first >= at]
    per_series = np.bincount([one.series for one in counted], minlength=series)
    promised = budget.daily * series * (days - budget.start)
    spread = dispersion(per_series)
    low, high = poisson(len(counted), spread)
    ratio = len(counted) / promised
    return {
        "budget": budget.daily,
        "name": budget.name,
        "from_day": budget.start,
        "promised": promised,
        "realised": len(counted),
        "ratio": ratio,
        "interval": [low / promised, high / promised],
        "dispersion": spread,
        "band": list(budget.band),
        "kept": budget.band[0] <= ratio <= budget.band[1],
        "warm_up": {
            "promised": budget.daily * series * budget.start,
            "realised": len(episodes) - len(counted),
        },
    }


def dispersion(counts: NDArray[np.integer]) -> float:  # [S]
    """Pearson's chi-square of equal rates over its degrees of freedom; 1 where it is below."""
    mean = counts.mean() if len(counts) else 0.0
    if len(counts) < 2 or not mean:
        return 1.0
    return max(1.0, float(((counts - mean) ** 2 / mean).sum() / (len(counts) - 1)))


def poisson(count: int, spread: float = 1.0, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a Poisson mean (Garwood 1936).

    Where series differ by more than chance, the count is worth 1 / dispersion of as many
    independent ones: the interval is that of the effective count, scaled back (quasi-Poisson).
    """
    alpha = 1 - confidence
    effective = count / spread
    low = chi2.ppf(alpha / 2, 2 * effective) / 2 if count else 0.0
    high = chi2.ppf(1 - alpha / 2, 2 * effective + 2) / 2
    return float(low * spread), float(high * spread)


def found(episodes: Iterable[Episode], injected: Sequence[Injected]) -> dict[str, Any]:
    """Anomalies that an episode answers; one that was raised already answers without delay."""
    by_series = _by_series(episodes)
    delays = []
    for anomaly in injected:
        answers = [one for one in by_series.get(anomaly.series, ()) if _answers(one, anomaly)]
        if answers:
            delays.append(max(min(one.first for one in answers) - anomaly.first, 0))
    of = len(injected)
    return {
        "found": len(delays),
        "share": len(delays) / of if of else NAN,
        "interval": list(wilson(len(delays), of)),
        "delay_steps": {
            "median": float(np.median(delays)) if delays else NAN,
            "p90": float(np.quantile(delays, 0.9)) if delays else NAN,
        },
    }


def beside(
    episodes: Iterable[Episode],
    injected: Sequence[Injected],
    budget: Budget,
    series: int,
    days: int,
) -> dict[str, Any]:
    """Episodes that answer no anomaly, from the budget's first day on, and how many may be."""
    at = budget.start * STEPS_A_DAY
    taken = sum(one.last + REACH + 1 - one.first for one in injected)
    of_series = _by_series(injected)
    false = sum(
        one.first >= at
        and not any(_answers(one, anomaly) for anomaly in of_series.get(one.series, ()))
        for one in episodes
    )
    promised = budget.daily * (series * (days - budget.start) - taken / STEPS_A_DAY)
    return {"promised": promised, "realised": false, "ratio": false / promised}


def _answers(one: Episode, anomaly: Injected) -> bool:
    return one.last >= anomaly.first and one.first <= anomaly.last + REACH


def _by_series(some: Iterable[E]) -> dict[int, list[E]]:
    result: dict[int, list[E]] = {}
    for one in some:
        result.setdefault(one.series, []).append(one)
    return result
