"""Stand-ins that are quick and exact: a numpy scorer and bundles around it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stream_detector.bundle import (
    FORMAT_VERSION,
    Bundle,
    Expert,
    Levels,
    Manifest,
    Normalisation,
    SeriesTable,
    Smoothing,
    Threshold,
    TrainingData,
    Transform,
)
from stream_detector.core.calibration import prior
from stream_detector.ports import Model, Scores
from stream_detector.records import (
    AnomalyEvent,
    Batch,
    Kind,
    Maturity,
    Partition,
    Severity,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


PARTITION = Partition("t", 0)


class NumpyScorer:
    """Score 0: mean square of the window; score 1: square of the newest step."""

    rungs: tuple[int, ...] = (4, 16)

    def __init__(self) -> None:
        self.calls = 0

    def score(
        self,
        scale: int,
        windows: NDArray[np.float32],
        center: NDArray[np.float32],
        spread: NDArray[np.float32],
    ) -> Scores:
        assert scale >= 1
        assert len(windows) in self.rungs
        self.calls += 1
        z = np.clip((windows - center[:, None]) / spread[:, None], -100, 100)
        squares = np.ascontiguousarray((z * z).reshape(len(z), -1))
        newest = z[:, -1] * z[:, -1]
        scores = np.stack([squares.mean(axis=1), newest.mean(axis=1)], axis=1)
        return Scores(
            scores.astype(np.float32), newest.astype(np.float32), center.astype(np.float32)
        )


class Shares(NumpyScorer):
    """A feature's contribution is its share of the newest step's square."""

    def score(
        self,
        scale: int,
        windows: NDArray[np.float32],
        center: NDArray[np.float32],
        spread: NDArray[np.float32],
    ) -> Scores:
        found = super().score(scale, windows, center, spread)
        whole = found.contribution.sum(axis=1, keepdims=True)
        return found._replace(contribution=found.contribution / np.maximum(whole, 1e-30))


def model(
    features: Sequence[str] = ("value",),
    scales: Sequence[int] = (1,),
    *,
    version: str = "v1",
    known: Mapping[str, tuple[float, float]] | None = None,  # series -> center, scale
    level: float = 3.0,
    threshold: Threshold | None = None,  # instead of the level
    score_threshold: Sequence[float] | None = None,  # of each known series
    smoothing: int = 1,
    of: Literal["mean", "max", "median"] = "mean",
    location: float = 0.0,
    spread: float = 0.3,
    scorer: NumpyScorer | None = None,
    transforms: Sequence[Transform] = (),
) -> Model:
    known = known or {}
    n, f = len(known), len(features)
    table = SeriesTable(
        row={name: row for row, name in enumerate(known)},
        center=np.array([[c] * f for c, _ in known.values()]).reshape(n, f),
        scale=np.array([[s] * f for _, s in known.values()]).reshape(n, f),
        score_location=np.full(n, location),
        score_spread=np.full(n, spread),
        score_count=np.full(n, 1000),
        memory=np.repeat(prior(2.0, 0.3, 0.01, location, spread), n),
        score_mean=np.full(n, np.exp(location)),
        score_std=np.full(n, spread),
        interval=np.full(n, 60_000.0),
        score_threshold=None if score_threshold is None else np.array(score_threshold),
    )
    experts = []
    for scale in scales:
        experts += [
            Expert(name="reconstruction", scale=scale, smoothing=Smoothing(kind=of, n=smoothing)),
            Expert(name="newest", scale=scale, output=1, weight=0.2),
        ]
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        version=version,
        created="2026-01-01T00:00:00Z",
        features=list(features),
        window=60,
        scales=list(scales),
        normalisation=Normalisation(kind="robust"),
        experts=experts,
        levels=Levels(
            location=location,
            spread=spread,
            anchor=2.0,
            excess=0.3,
            rate=0.01,
        ),
        threshold=threshold or Threshold(method="level", value=level),
        transforms=list(transforms),
        model="numpy",
        training=TrainingData(start="", end="", rows=0, series=n),
        torch="none",
    )
    return Model(Bundle(Path("memory"), manifest, table, {}), scorer or NumpyScorer())


def event(**changes: Any) -> AnomalyEvent:
    """An anomaly that opens, but for what is changed."""
    usual: dict[str, Any] = {
        "source": "test",
        "series": "pump-7",
        "kind": Kind.ANOMALY,
        "status": Status.OPENED,
        "at": 1_000,
        "seq": 0,
        "started_at": 1_000,
        "window_start": 0,
        "window_end": 1_000,
        "scale": 1,
        "severity": Severity.MINOR,
        "level": 5.0,
        "threshold": 4.0,
        "score": 2.0,
        "model_version": "v1",
        "maturity": Maturity.MATURE,
        "partition": PARTITION,
        "offset": 7,
    }
    return AnomalyEvent(**(usual | changes))


def batch(
    series: Sequence[str],
    timestamp: Sequence[int] | NDArray[np.int64],
    values: NDArray[np.float64] | Sequence[float],
    *,
    group: str = "g",
    partition: Partition = PARTITION,
    latest: int = 2**63 - 1,
    first_offset: int = 0,
) -> Batch:
    n = len(series)
    return Batch(
        group=group,
        partition=partition,
        series=list(series),
        timestamp=np.asarray(timestamp, np.int64),
        values=np.asarray(values, np.float64).reshape(n, -1),
        latest=np.full(n, latest, np.int64),
        offset=np.arange(first_offset, first_offset + n),
        origin=np.arange(n),
    )


def cut(whole: Batch, at: Sequence[int]) -> list[Batch]:
    """The batch in pieces that begin at 0 and at each of `at`."""
    edges = [0, *sorted(set(at)), len(whole)]
    return [
        Batch(
            whole.group,
            whole.partition,
            whole.series[a:b],
            whole.timestamp[a:b],
            whole.values[a:b],
            whole.latest[a:b],
            whole.offset[a:b],
            whole.origin[a:b],
        )
        for a, b in pairwise(edges)
        if a < b
    ]
