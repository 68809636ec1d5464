"""What a bundle's manifest.json says: structs alone, no file is read here."""

from __future__ import annotations

from typing import Literal

import msgspec

FORMAT_VERSION = 3
WINDOW = 60


class _Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Normalisation(_Struct, frozen=True, kw_only=True):
    """How centre and scale of a series came about, and how a new series gets its own.

    A known series has its statistics in series.npz. For a new one the detector takes the median m
    and the robust spread s of its first 120 samples: center = m + offset * s, scale = factor * s.
    Offset and factor are the medians of the same relation over the training series, so both kinds
    of series reach the model alike.
    """

    kind: Literal["minmax", "standard", "robust"]
    offset: float = 0.0
    factor: float = 1.0


class Transform(_Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the core does to values before the window; `n` samples for a trailing mean.

    `resample` comes first: samples of `every` ms become one step, their mean, last, max, min or
    sum; up to `fill` empty buckets in a row repeat the step before, a longer hole breaks the run.
    """

    kind: Literal["trailing_mean", "difference", "log_difference", "rate", "resample"]
    n: int = 1
    every: int = 0
    how: Literal["mean", "last", "max", "min", "sum"] = "mean"
    fill: int = 5


class Smoothing(_Struct, frozen=True, kw_only=True):
    """Causal mean, maximum or median of the last n scores of one expert; n = 1 changes nothing."""

    kind: Literal["mean", "max", "median"] = "mean"
    n: int = 1


class Tail(_Struct, frozen=True, kw_only=True):
    """Score s -> (s - at) / excess above `at`, a `slope` part of that below; `log`: ln(1 + s / at),

    which counts below `at` as well and grows slowly beyond.
    """

    shape: Literal["linear", "log"] = "linear"
    at: float
    excess: float
    slope: float = 0.02


class Expert(_Struct, frozen=True, kw_only=True):
    """One anomaly score: column `output` of the module of one scale."""

    name: str
    scale: int
    output: int = 0
    smoothing: Smoothing = Smoothing()
    tail: Tail | None = None
    weight: float = 1.0


class Levels(_Struct, frozen=True, kw_only=True):
    """Held-out score distribution: what a series' scores are held against before it has its own.

    t is ln(score + epsilon), or the score itself, or, for a sum of tail excesses, ln(1 + score)
    above zero and the score below; m and d are a series' usual t and its mean distance from that,
    and z = (t - m) / d. `location` and `spread`: m and d of all training series. The anchor is the
    z that 3% of the scores exceed, in clusters of which `rate` a score begin, and whose peaks
    exceed it by `excess` on average. series.npz has what each series' own scores have taught.
    """

    transform: Literal["log", "log1p", "identity"] = "log"
    epsilon: float = 1e-9
    location: float
    spread: float
    anchor: float
    excess: float
    rate: float


class Threshold(_Struct, frozen=True, kw_only=True):
    """The threshold that the trainer recommends; the detector's configuration may overrule it.

    `alarm_budget` (false episodes per series and day) and `level` act on levels, which follow what
    the scores of a series have lately been. All other methods chose a score, which nothing that is
    learnt online moves: one for all series is in `score`, each series' own in series.npz. Only
    `sigma` (mean + value standard deviations of the held-out scores) and `quantile` (the level of
    that tail probability) can do without either.
    """

    method: Literal[
        "alarm_budget", "level",
        "error", "sigma", "quantile", "maximum", "pot", "f_beta", "vote",
    ] = "alarm_budget"  # fmt: skip
    value: float = 1.0
    scope: Literal["series", "global"] = "series"  # whose scores a method looked at
    score: float | None = None  # at which every series raises an alarm, known or not
    provenance: str = ""

    @property
    def needs_scores(self) -> bool:
        """Whether it means nothing without the score, or scores, that were chosen."""
        return self.method in {"error", "maximum", "pot", "f_beta", "vote"}


class TrainingData(_Struct, frozen=True, kw_only=True):
    start: str  # RFC 3339; empty where the data has no times
    end: str
    rows: int
    series: int


class Manifest(_Struct, frozen=True, kw_only=True):
    format_version: int
    version: str
    created: str  # RFC 3339
    features: list[str]
    window: int
    scales: list[int]
    scales_reason: str = ""
    normalisation: Normalisation
    experts: list[Expert]
    fusion: Literal["sum", "max", "l2"] = "sum"
    levels: Levels
    threshold: Threshold = Threshold()
    transforms: list[Transform] = []
    model: str  # name of the architecture
    dtype: Literal["float32", "bfloat16"] = "float32"
    tolerance: float = 1e-4  # relative, of the golden scores
    metrics: dict[str, float] = {}
    training: TrainingData
    notes: list[str] = []  # what people should know of how it was made, one line each
    torch: str
    sha256: dict[str, str] = {}
