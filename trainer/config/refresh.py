"""The `refresh` section of trainer.yaml: where to read, what to compare, when to promote."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from stream_detector.config import Count, Duration, ModelRoute, Positive, Section, Text

Share = Annotated[float, Meta(gt=0, lt=1)]


class Gate(Section, frozen=True, kw_only=True):
    """When a challenger may take the champion's place."""

    held_out: Annotated[
        Share, Meta(description="Share of the samples, the latest, that both are compared on.")
    ] = 0.2
    min_samples: Annotated[
        Count, Meta(description="Fewer normal samples to learn from than this: no promotion.")
    ] = 5000
    min_held_out_samples: Annotated[
        Count, Meta(description="Fewer judged samples in the comparison than this: no promotion.")
    ] = 1000
    min_held_out_days: Annotated[
        Positive, Meta(description="Fewer series-days in the comparison than this: no promotion.")
    ] = 0.1
    alarm_tolerance: Annotated[
        Positive,
        Meta(description="Realised alarms may exceed the alarm budget by this factor, and chance."),
    ] = 1.25
    recall_margin: Annotated[
        float,
        Meta(description="Recall may be lower than the champion's by this much.", ge=0, lt=1),
    ] = 0.05
    min_recall: Annotated[
        float,
        Meta(description="Recall that is asked where there is no champion.", ge=0, le=1),
    ] = 0.5
    injections: Annotated[
        Count, Meta(description="Injected anomalies of each kind that recall is measured on.")
    ] = 40
    seed: Annotated[
        int, Meta(ge=0, description="Draws the injected anomalies; the same for both.")
    ] = 0


class Refresh(Section, frozen=True, kw_only=True):
    store: Annotated[
        Text | None, Meta(description="Folder of the normal store that the detector writes.")
    ] = None
    model: Annotated[
        ModelRoute | None, Meta(description="The registry, where one model serves all series.")
    ] = None
    models: Annotated[
        list[ModelRoute], Meta(description="Registries by group, as in the detector's file.")
    ] = field(default_factory=list)
    history: Annotated[
        Duration, Meta(description="Stored samples that are older than this are not read.")
    ] = "30d"
    margin: Annotated[
        int,
        Meta(
            description="Steps of the largest scale left out before and after an anomaly; "
            "60 is one window.",
            ge=0,
        ),
    ] = 60
    hole: Annotated[
        Positive,
        Meta(description="A pause of more than this many sampling intervals breaks a series."),
    ] = 5.0
    gate: Annotated[Gate, Meta(description="When to promote.")] = Gate()

    def __post_init__(self) -> None:
        if self.model is not None and self.models:
            raise ValueError("give either `model` or `models`")

    @property
    def routes(self) -> list[ModelRoute]:
        return [self.model] if self.model is not None else self.models
