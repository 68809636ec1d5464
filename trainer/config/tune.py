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

    def problem(self) -> str | None:
        """Why nothing can be drawn from it, if so."""
        if self.values is None:
            return self._problem_of_range()
        if (self.low, self.high, self.step, self.log) != (None, None, None, False):
            return "give either `values` or `low` and `high`"
        twice = any(one in self.values[:place] for place, one in enumerate(self.values))
        return "`values` holds one of them twice" if twice else None

    def _problem_of_range(self) -> str | None:
        low, high, step = self.low, self.high, self.step
        if low is None or high is None:
            return "give `values`, or both `low` and `high`"
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            return "`low` must be less than `high`"
        if self.log and (low <= 0 or step is not None):
            return "`log` needs `low` above 0, and no `step`"
        if step is None:
            return None
        if not (math.isfinite(step) and step > 0):
            return "`step` must be above 0"
        first, last, distance = (Decimal(str(part)) for part in (low, high, step))
        return "`step` must lead from `low` to `high`" if (last - first) % distance else None

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

    def __post_init__(self) -> None:
        for path, dimension in self.space.items():
            problem = dimension.problem()
            if problem is not None:
                raise ValueError(f"space: {path}: {problem}")
