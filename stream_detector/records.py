"""The types along the data's way: Record -> Samples -> Batch -> Verdicts and AnomalyEvent.

Only plain values live here; nothing that reads, writes, waits or logs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

UNKNOWN_TIME = -1
"""A record's timestamp where its carrier has none (files)."""
NO_OFFSET = -1
"""An event's offset where no record caused it (a deadline that passed)."""


class Partition(NamedTuple):
    topic: str
    number: int


class Record(NamedTuple):
    """One message of the input log, undecoded."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # ms since the epoch, from the carrier; UNKNOWN_TIME where it has none
    key: bytes | None
    value: bytes | None


class Reason(StrEnum):
    """Why a record or a sample was sent to the dead-letter topic (`dlq_reason`)."""

    EMPTY = "empty"  # no value at all (a tombstone)
    OVERSIZE = "oversize"  # more bytes, or more samples in one record, than configured
    MALFORMED = "malformed"  # not the wire format: bad UTF-8, bad JSON, truncated
    MISSING_FIELD = "missing_field"  # no series, timestamp, value, or feature
    WRONG_TYPE = "wrong_type"  # a field of another type than expected
    BAD_SERIES = "bad_series"  # empty or longer than configured
    BAD_TIMESTAMP = "bad_timestamp"  # not a time, or before 1970
    FUTURE_TIMESTAMP = "future_timestamp"  # further ahead than configured
    NON_FINITE = "non_finite"  # NaN or infinity where a number is needed
    FEATURE_COUNT = "feature_count"  # another number of values than the model has features
    NO_MODEL = "no_model"  # no group matches the series


class Rejected(NamedTuple):
    """A record, or one sample of it, that cannot be used: a value, never an exception."""

    reason: Reason
    detail: str  # for people; names the field and the offending value, shortened
    record: Record
    item: int | None = None  # which sample of an array or of NDJSON lines; None: the record


class Sample(NamedTuple):
    """One decoded sample before it is matched to a group.

    `values` as the wire had them: by feature name, in feature order, or one number. Numbers are
    finite floats; None marks a value that the sender left out or sent as null.
    """

    series: str
    timestamp: int  # ms since the epoch, UTC
    values: Mapping[str, float | None] | tuple[float | None, ...] | float
    record: Record
    item: int | None  # which sample of an array or of NDJSON lines; None: the record is one


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one group and one partition, in arrival order, as columns of n rows."""

    group: str
    partition: Partition
    series: list[str]
    timestamp: NDArray[np.int64]  # [n] ms UTC
    values: NDArray[np.float64]  # [n, F] in the bundle's feature order; NaN = hold the last value
    latest: NDArray[
        np.int64
    ]  # [n] latest timestamp the carrier makes plausible; int64 max: unknown
    offset: NDArray[np.int64]  # [n] of the record in the partition
    origin: NDArray[np.int64]  # [n] the caller's own number for the sample (to name a dead letter)

    def __len__(self) -> int:
        return len(self.series)


class Outcome(IntEnum):
    """What became of a sample; its lower-case name is the label of `samples_total`."""

    ACCEPTED = 0
    LATE = 1  # older than the newest of its series: dropped
    DUPLICATE = 2  # same timestamp as the newest of its series: dropped
    FUTURE = 3  # too far ahead: dead-lettered
    UNHELD = 4  # a feature missing for longer than values may be held: dead-lettered
    REFUSED = 5  # a new series while the slab is full: dropped and counted


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the engine says of each sample of one Batch; columns of n rows, in the batch's order."""

    batch: Batch
    outcome: NDArray[np.uint8]  # [n] Outcome
    level: NDArray[np.float32]  # [n]; NaN before the first scored window
    anomalous: NDArray[np.bool_]  # [n] within an open anomaly episode
    model_version: str


@dataclass(frozen=True, slots=True)
class ScaleScores:
    """Scores of the windows of one scale in one call of the engine, for the histograms."""

    group: str
    scale: int
    error: NDArray[np.float32]  # [m] the autoencoder's reconstruction error
    ratio: NDArray[np.float32]  # [m] score / the score at this series' threshold
    faults: int  # windows whose scores were not finite: a model fault, not an anomaly


class Kind(StrEnum):
    ANOMALY = "anomaly"
    FLATLINE = "flatline"
    SILENCE = "silence"
    GAP = "gap"
    REGIME = "regime"


class Status(StrEnum):
    OPENED = "opened"
    UPDATED = "updated"
    CLOSED = "closed"


class Severity(StrEnum):
    """How far the level is above its threshold: under one decade, under two, or more."""

    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"


class Maturity(StrEnum):
    """How much is known about a series."""

    LEARNING = "learning"  # fewer samples than its centre and scale need
    WARMING = "warming"  # windows are scored, but its usual scores are not yet known
    MATURE = "mature"
    RECOVERING = "recovering"  # restored in part only, and its windows are not its own yet


def digest(*parts: object) -> str:
    """32 hex digits that depend on the parts alone, on every machine and after every restart."""
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def episode_digest(source: str, series: str, kind: Kind, started_at: int) -> str:
    return digest("episode", source, series, kind.value, started_at)


@dataclass(frozen=True, slots=True)
class AnomalyEvent:
    """One transition of an episode. Times are ms UTC of the input, never of a clock.

    `at` is the causing time: the sample's, or the deadline that passed.
    """

    source: str
    series: str
    kind: Kind
    status: Status
    at: int
    seq: int  # 0, 1, ... within the episode
    started_at: int
    window_start: int
    window_end: int
    scale: int
    severity: Severity
    level: float
    threshold: float
    score: float
    model_version: str
    maturity: Maturity
    partition: Partition
    offset: int
    close_reason: str | None = None
    observed: Mapping[str, float] = field(default_factory=dict)
    expected: Mapping[str, float] = field(default_factory=dict)
    contribution: Mapping[str, float] = field(default_factory=dict)
    contaminated: bool = False  # its first window may still hold an anomaly before it

    @property
    def episode_id(self) -> str:
        return episode_digest(self.source, self.series, self.kind, self.started_at)

    @property
    def id(self) -> str:
        """Equal for equal causes: the same on Kafka, in a file replay and after a restart."""
        return digest(
            self.source, self.series, self.kind.value, self.status.value, self.at, self.started_at
        )

    def body(self) -> dict[str, Any]:
        """The JSON body of the event, in the contract's order; schema_version 1."""
        return {
            "schema_version": 1,
            "episode_id": self.episode_id,
            "seq": self.seq,
            "kind": self.kind.value,
            "status": self.status.value,
            "close_reason": self.close_reason,
            "series": self.series,
            "severity": self.severity.value,
            "level": self.level,
            "threshold": self.threshold,
            "score": self.score,
            "started_at": self.started_at,
            "window_start": self.window_start,
            "window_end": self.window_end,
            "scale": self.scale,
            "observed": dict(self.observed),
            "expected": dict(self.expected),
            "contribution": dict(self.contribution),
            "contaminated": self.contaminated,
            "model_version": self.model_version,
            "maturity": self.maturity.value,
            "source": {
                "topic": self.partition.topic,
                "partition": self.partition.number,
                "offset": self.offset,
            },
        }


class Unusable(NamedTuple):
    """Saved state that cannot be taken up: a value, never an exception."""

    reason: Literal["missing", "unreadable", "corrupt", "foreign"]
    detail: str  # for people


class Message(NamedTuple):
    """One message for an output topic."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int | None = None  # ms; None: the carrier's own
