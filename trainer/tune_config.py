"""The `tune` section of trainer.yaml: what is searched, for what, how long and how."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from stream_detector.config import Count, Duration, Positive, Section, Text

Number = int | float
Objective = Literal["validation_error", "average_precision", "recall"]


class Dimension(Section, frozen=True, kw_only=True):
    """What one key may be: one of some values, or a number of a range, ends included."""

    values: Annotated[
        Annotated[list[Any], Meta(min_length=1)] | None, Meta(description="Values to choose from.")
    ] = None
    low: Annotated[Number | None, Meta(description="Least number of a range.")] = None
    high: Annotated[Number | None, Meta(description="Largest number of a range.")] = None
    log: Annotated[bool, Meta(description="Draw evenly by the logarithm.")] = False
    step: Annotated[Number | None, Meta(description="Distance between neighbouring numbers.")] = (
        None
    )

    def __post_init__(self) -> None:
        if self.values is not None:
            if (self.low, self.high, self.step, self.log) != (None, None, None, False):
                raise ValueError("give either `values` or `low` and `high`")
            if any(one in self.values[:place] for place, one in enumerate(self.values)):
                raise ValueError("`values` holds one of them twice")
            return
        if self.low is None or self.high is None:
            raise ValueError("give `values`, or both `low` and `high`")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError("`low` must be less than `high`")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("`log` needs `low` above 0, and no `step`")
        if self.step is None:
            return
        if not (math.isfinite(self.step) and self.step > 0):
            raise ValueError("`step` must be above 0")
        low, high, step = (Decimal(str(part)) for part in (self.low, self.high, self.step))
        if (high - low) % step:
            raise ValueError("`step` must lead from `low` to `high`")

    @property
    def whole(self) -> bool:
        """A range of whole numbers, since its ends and its step are written as such."""
        return all(isinstance(part, int) for part in (self.low, self.high, self.step or 1))

    def candidates(self) -> list[Any] | None:
        """Every value, in order; None for a range without end between two of its numbers."""
        if self.values is not None:
            return self.values
        assert self.low is not None
        assert self.high is not None
        if self.step is None and not self.whole:
            return None
        kind = int if self.whole else float
        low, high, step = (Decimal(str(part)) for part in (self.low, self.high, self.step or 1))
        return [kind(low + place * step) for place in range(int((high - low) / step) + 1)]


class Tune(Section, frozen=True, kw_only=True):
    space: Annotated[
        dict[Text, Dimension],
        Meta(
            description="Dotted keys of this file, each with `values`, or `low` and `high` with "
            "`log` or `step`."
        ),
    ] = field(default_factory=dict)
    objective: Annotated[
        Objective,
        Meta(
            description="What is best on the validation part: validation_error, which compares "
            "like models only; or, of anomalies injected there, average_precision, or recall at "
            "the alarm budget."
        ),
    ] = "validation_error"
    trials: Annotated[
        Count, Meta(description="Recipes to try in all; those in the study file count.")
    ] = 30
    timeout: Annotated[
        Duration | None, Meta(description="No trial begins after this long; null has no limit.")
    ] = None
    sampler: Annotated[
        Literal["tpe", "random", "grid"],
        Meta(description="How recipes are chosen; grid takes all there are, one after another."),
    ] = "tpe"
    pruner: Annotated[
        Literal["median", "none"],
        Meta(
            description="median: a fit ends early where its validation error is above the median "
            "of like models after as many passes."
        ),
    ] = "median"
    injections: Annotated[
        Count, Meta(description="Injected anomalies of each kind; the same in every trial.")
    ] = 40
    strength: Annotated[
        Positive,
        Meta(
            description="Size of injected anomalies beside those of `refresh`; small ones tell "
            "recipes apart."
        ),
    ] = 0.2
    seed: Annotated[
        int, Meta(ge=0, description="Equal seeds choose equal recipes and inject equal anomalies.")
    ] = 0
