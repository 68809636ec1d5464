"""The `data` section of trainer.yaml: what is read, and what of it is learnt from."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from stream_detector.config import Count, Section, Text


class LabelRule(Section, frozen=True, kw_only=True):
    """Where known anomalies are told: one of these."""

    column: Annotated[
        Text | None, Meta(description="Column that is above zero, or true, in an anomaly.")
    ] = None
    file: Annotated[
        Text | None, Meta(description="File of labels, one JSON a line: series, from, to, label.")
    ] = None
    names: Annotated[
        Literal["ucr"] | None,
        Meta(description="Names ..._TRAINEND_START_END: only samples before TRAINEND are learnt."),
    ] = None

    def __post_init__(self) -> None:
        if sum(part is not None for part in (self.column, self.file, self.names)) != 1:
            raise ValueError("`labels` needs one of column, file, names")


class Data(Section, frozen=True, kw_only=True):
    path: Annotated[
        str | None, Meta(description="File or folder to learn from; --data overrules it.")
    ] = None
    series_column: Annotated[
        str | None, Meta(description="Column that names the series; null finds it by its name.")
    ] = None
    timestamp_column: Annotated[
        str | None, Meta(description="Column that holds the time; null finds it by its name.")
    ] = None
    features: Annotated[
        list[Text] | None, Meta(description="Columns to learn from, in order; null takes all.")
    ] = None
    array: Annotated[
        Text | None, Meta(description="Array to read of npz files that hold several, e.g. train.")
    ] = None
    labels: Annotated[
        LabelRule | None,
        Meta(description="Known anomalies, which are not learnt from; null knows of none."),
    ] = None
    margin: Annotated[
        int,
        Meta(
            ge=0,
            description="Samples left out before and after a known anomaly; 60 is one window.",
        ),
    ] = 60
    missing: Annotated[
        Literal["drop", "interpolate", "forward_fill"],
        Meta(
            description="Missing values, and those beyond 1e30: drop the sample, draw a line, or "
            "repeat the last value."
        ),
    ] = "forward_fill"
    fill_limit: Annotated[
        Count,
        Meta(description="Missing values in a row that are filled; beyond, samples are dropped."),
    ] = 5
    memory: Annotated[
        Count,
        Meta(
            description="MiB of samples kept in memory; more go to temporary files (TMPDIR) and "
            "are read in pieces."
        ),
    ] = 256
