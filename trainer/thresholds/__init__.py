"""Scores that no model was fitted to -> the threshold of a bundle, by the rule of trainer.yaml.

A rule looks at the scores of normal samples, of each series or of all together (`scope`), and
chooses a score; the engine raises an alarm when the score of a window reaches it. Rules that speak
of exceeding a value therefore choose the next larger score, so that scores which never change raise
nothing. Only `level` and the alarm budget are no scores: the detector converts them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_detector.bundle import Threshold
from stream_detector.core.levels import just_above
from trainer.data import DataError
from trainer.thresholds.extremes import tail_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from trainer.config import Calibration
    from trainer.config.threshold import ScoreRule, ThresholdChoice
    from trainer.scored import Scored

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class SeriesScores:
    """Fused scores of one series at successive samples, all finite."""

    score: NDArray[np.float32]  # [n]
    truth: NDArray[np.bool_]  # [n] anomalous by its label

    @property
    def normal(self) -> NDArray[np.float32]:
        return self.score[~self.truth]


class Chosen(NamedTuple):
    threshold: Threshold
    each: NDArray[np.float64] | None  # [n] score of each series; NaN where it had none to look at


class Found(NamedTuple):
    """What one rule makes of some scores."""

    score: float  # NaN where there was nothing to look at
    how: str = ""  # for people, where a rule has more than one way


def settled(scored: Scored) -> dict[str, SeriesScores]:
    """Scores of the samples that count, by series; nothing of one that has none.

    A window holds an anomaly for a while after it has ended: normal samples within `grace` of one
    tell nothing and are left out, as evaluation blames no alarm for them.
    """
    result = {}
    for (name, rows), interval in zip(scored.parts(), scored.about.intervals, strict=True):
        truth = scored.label[rows]
        reach = scored.about.late_samples(interval)
        last = np.maximum.accumulate(np.where(truth, np.arange(len(truth)), -(2**62)))
        after = ~truth & (np.arange(len(truth)) - last <= reach)
        kept = scored.counts[rows] & np.isfinite(scored.score[rows]) & ~after
        if kept.any():
            result[name] = SeriesScores(scored.score[rows][kept], truth[kept])
    return result


def threshold_of(
    config: Calibration, scores: Mapping[str, SeriesScores], series: Sequence[str], source: str
) -> Chosen:
    """The alarm budget, or what `choose` makes of the rule that stands in its place."""
    if config.threshold is not None:
        return choose(config.threshold, scores, series, source)
    told = f"{config.alarm_budget:g} false episodes per series and day, {source}"
    value = config.alarm_budget
    return Chosen(Threshold(method="alarm_budget", value=value, provenance=told), None)


def choose(
    rule: ThresholdChoice,
    scores: Mapping[str, SeriesScores],
    series: Sequence[str],  # of the bundle, in the order of its table
    source: str,
) -> Chosen:
    """The threshold that a rule chooses. `source` says where the scores are from.

    Raises DataError where the rule has nothing to look at: `f_beta` without samples of both labels,
    others without a score of a normal sample.
    """
    if rule.level is not None:
        told = f"set directly; levels {source}"
        return Chosen(Threshold(method="level", value=rule.level, provenance=told), None)
    pooled = list(scores.values())
    best_of_all = cache(lambda beta: best_f_beta(pooled, beta))
    if rule.scope == "global" or rule.error is not None:
        found = _chosen(rule, pooled, best_of_all)
        _refuse_nothing(rule, [found], source)
        return Chosen(_threshold(rule, [found], source, scores, {}, found.score), None)
    each = [_chosen(rule, [scores[name]] if name in scores else [], best_of_all) for name in series]
    _refuse_nothing(rule, each, source)
    own = {name: found.score for name, found in zip(series, each, strict=True)}
    column = np.array(list(own.values()))
    return Chosen(_threshold(rule, each, source, scores, own, None), column)


def vote(scores: Sequence[float], least: int) -> float:
    """The score at which `least` of several rules agree: the least-th smallest of theirs.

    All rules hold one and the same score against their own, so it has reached m of them exactly if
    it has reached the m-th smallest. NaN where any of them has none.
    """
    return NAN if np.isnan(scores).any() else float(np.sort(scores)[least - 1])


def best_f_beta(parts: Sequence[SeriesScores], beta: float) -> float:
    """The score with the best F-beta over all samples, the highest of equals.

    NaN unless normal and anomalous samples are among them.
    """
    from trainer.metrics import best_threshold  # noqa: PLC0415  # scikit-learn takes seconds

    truth = np.concatenate([part.truth for part in parts]) if parts else np.empty(0, np.bool_)
    if not truth.any() or truth.all():
        return NAN
    return best_threshold(truth, np.concatenate([part.score for part in parts]), beta)[0]


def _chosen(
    rule: ScoreRule | ThresholdChoice,
    parts: Sequence[SeriesScores],
    best_of_all: Callable[[float], float],  # beta -> the best score over all series
) -> Found:
    """What a rule chooses for the series of `parts`."""
    votes = getattr(rule, "vote", None)
    if votes is not None:
        found = [_chosen(one, parts, best_of_all) for one in votes.of]
        how = ", ".join(sorted({one.how for one in found if one.how}))
        return Found(vote([one.score for one in found], votes.least), how)
    if rule.error is not None:
        return Found(rule.error)
    if rule.f_beta is not None:
        own = best_f_beta(parts, rule.f_beta)
        if not parts or not np.isnan(own):
            return Found(own)
        return Found(best_of_all(rule.f_beta), "of all, where it has not both labels")
    runs = [part.normal for part in parts if len(part.normal)]
    if not runs:
        return Found(NAN)
    return _of_normal(rule, runs)


def _of_normal(rule: ScoreRule, runs: Sequence[NDArray[np.float32]]) -> Found:
    """What a rule that looks at normal samples chooses; each run is one series, in time order."""
    together = np.concatenate(runs).astype(np.float64)
    how = ""
    if rule.sigma is not None:
        score = together.mean() + rule.sigma * together.std()
    elif rule.quantile is not None:
        score = _times(rule.times, np.quantile(together, rule.quantile))
    elif rule.maximum is not None:
        score = _times(rule.maximum, together.max())
    else:
        assert rule.pot is not None
        tail = tail_of(runs)
        score = tail.exceeded_with(rule.pot)
        how = "exponential tail" if tail.shape == 0.0 else "generalised Pareto tail"
    return Found(float(just_above(score)), how)


def _times(factor: float, score: float) -> float:
    """A score below zero, where all scores are below their experts' tails, grows as well."""
    return score + (factor - 1) * abs(score)


def _refuse_nothing(rule: ThresholdChoice, found: Sequence[Found], source: str) -> None:
    if not all(np.isnan(one.score) for one in found):
        return
    lacks = "normal and anomalous labelled samples" if rule.needs_labels else "normal samples"
    raise DataError(f"threshold {rule.method}: needs scores of {lacks}, and found none {source}")


def _threshold(
    rule: ThresholdChoice,
    found: Sequence[Found],
    source: str,
    scores: Mapping[str, SeriesScores],
    own: Mapping[str, float],  # score of each series; empty: the one of `found` is all series'
    score: float | None,
) -> Threshold:
    values = [one.score for one in found if not np.isnan(one.score)]
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    whose = "for all series" if score is not None else "of each series by its own scores"
    told = f"{_words(rule)}, {whose}: {low if low == high else f'{low} to {high}'}"
    ways = Counter(one.how for one in found if one.how)
    if ways:
        told += f" ({', '.join(f'{way} {count}' for way, count in ways.items())})"
    if rule.needs_labels:
        told += f"; {_quality(scores, own, score)}"
    return Threshold(
        method=rule.method,
        value=rule.value,
        scope="series" if score is None else "global",
        score=score,
        provenance=f"{told}; {source}",
    )


def _words(rule: ScoreRule | ThresholdChoice) -> str:
    votes = getattr(rule, "vote", None)
    if votes is not None:
        return f"{votes.least} of {len(votes.of)} agree ({'; '.join(map(_words, votes.of))})"
    return {
        "error": "set directly",
        "sigma": f"mean and {rule.value:g} standard deviations",
        "quantile": f"{'' if rule.times == 1 else f'{rule.times:g} times '}quantile {rule.value:g}",
        "maximum": f"{rule.value:g} times the largest",
        "pot": f"{rule.value:g} excursions a window by peaks over threshold",
        "f_beta": f"best F-beta, beta {rule.value:g}",
    }[rule.method]


def _quality(
    scores: Mapping[str, SeriesScores], own: Mapping[str, float], score: float | None
) -> str:
    """Precision and recall over all labelled samples, at the very scores that were chosen."""
    right = false = missed = 0
    for name, part in scores.items():
        limit = own.get(name, NAN) if score is None else score
        if np.isnan(limit):
            continue
        above = part.score >= np.float32(limit)
        right += int((above & part.truth).sum())
        false += int((above & ~part.truth).sum())
        missed += int((~above & part.truth).sum())
    precision = right / (right + false) if right + false else NAN
    recall = right / (right + missed) if right + missed else NAN
    return f"precision {precision:.3f} and recall {recall:.3f} of these samples"
