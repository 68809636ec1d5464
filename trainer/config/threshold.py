"""The `calibration.threshold` section of trainer.yaml: one rule, and whose scores it looks at."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from msgspec import Meta

from stream_detector.config import Count, Positive, Section, Share

Method = Literal["level", "error", "sigma", "quantile", "maximum", "pot", "f_beta", "vote"]
RULES: tuple[Method, ...] = get_args(Method)

Rare = Annotated[float, Meta(gt=0, lt=0.02)]
"""Below the share of scores that peaks over threshold begins with."""


class ScoreRule(Section, frozen=True, kw_only=True):
    """One of these; each chooses a score from scores that no model was fitted to."""

    error: Annotated[
        Positive | None,
        Meta(description="The score itself, one for all series, whatever is usual for them."),
    ] = None
    sigma: Annotated[
        Positive | None, Meta(description="Standard deviations above the mean held-out score.")
    ] = None
    quantile: Annotated[
        Share | None, Meta(description="Quantile of the held-out scores, e.g. 0.999.")
    ] = None
    times: Annotated[
        Positive,
        Meta(
            description="Factor on the quantile; a low quantile and a high factor mind anomalies "
            "among the held-out samples least."
        ),
    ] = 1.0
    maximum: Annotated[
        Positive | None, Meta(description="Times the largest held-out score, e.g. 1.0.")
    ] = None
    pot: Annotated[
        Rare | None,
        Meta(
            description="Excursions above the threshold accepted per window, e.g. 0.0001; "
            "extrapolated from the peaks over the 98% quantile."
        ),
    ] = None
    f_beta: Annotated[
        Positive | None,
        Meta(
            description="The score with the best F-beta on labelled samples; 1.0 weighs precision "
            "and recall alike, 2.0 recall more."
        ),
    ] = None

    def __post_init__(self) -> None:
        names = [name for name in RULES if name in self.__struct_fields__]
        if sum(getattr(self, name) is not None for name in names) != 1:
            raise ValueError(f"a threshold needs one of {', '.join(names)}")
        if self.times != 1.0 and self.quantile is None:
            raise ValueError("`times` is a factor on a `quantile`")

    @property
    def method(self) -> Method:
        """Name of the rule that is set."""
        return next(name for name in RULES if getattr(self, name, None) is not None)

    @property
    def value(self) -> float:
        """Its number; of a vote, how many must agree."""
        rule = getattr(self, self.method)
        return float(rule.least if isinstance(rule, Vote) else rule)

    @property
    def needs_labels(self) -> bool:
        return self.f_beta is not None


class Vote(Section, frozen=True, kw_only=True):
    least: Annotated[Count, Meta(description="Rules that must agree.")]
    of: Annotated[list[ScoreRule], Meta(min_length=2, description="The rules.")]

    def __post_init__(self) -> None:
        if self.least > len(self.of):
            raise ValueError(f"`least` asks for {self.least} of {len(self.of)} rules")


class ThresholdChoice(ScoreRule, frozen=True, kw_only=True):
    """One rule instead of an alarm budget.

    `level` follows what the scores of a series have lately been, as the budget does. Every other
    rule chooses a score when the bundle is made, and nothing that is learnt later moves it.
    """

    level: Annotated[Positive | None, Meta(description="-log10 of the tail probability.")] = None
    vote: Annotated[
        Vote | None,
        Meta(
            description="An alarm needs at least so many of several rules. All look at one score, "
            "so this is the least-th smallest of their scores."
        ),
    ] = None
    scope: Annotated[
        Literal["series", "global"],
        Meta(
            description="Whose held-out scores a rule looks at: each series' own, or those of all, "
            "for one score."
        ),
    ] = "series"

    def __post_init__(self) -> None:
        ScoreRule.__post_init__(self)
        if self.level is not None and self.scope == "global":
            raise ValueError("a `level` is each series' own; leave out `scope: global`")

    @property
    def needs_labels(self) -> bool:
        inner = self.vote.of if self.vote is not None else ()
        return self.f_beta is not None or any(rule.needs_labels for rule in inner)
