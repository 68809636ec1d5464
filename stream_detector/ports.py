"""Protocols at the seams: what the loop asks of the world outside.

An adapter implements one of these and knows no other; the two `cli.py` choose which to use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from stream_detector.bundle import Bundle
    from stream_detector.records import (
        AnomalyEvent,
        Message,
        Partition,
        Record,
        Rejected,
        ScaleScores,
        Unusable,
        Verdicts,
    )


class SourceError(Exception):
    """The input cannot be read or committed any more; the message says what to do."""


class SinkError(Exception):
    """A message was not delivered within the configured time; nothing above it may be committed."""


@dataclass(frozen=True, slots=True)
class Polled:
    """One answer of a source. Changes of assignment come before the records of the same answer."""

    records: Sequence[Record] = ()
    assigned: frozenset[Partition] = frozenset()
    revoked: frozenset[Partition] = frozenset()  # drop their state; no commit is possible any more
    finished: bool = False  # the input ended: files, never a topic


class Position(NamedTuple):
    offset: int  # the next offset to read
    metadata: str = ""


class Source(Protocol):
    """Where records come from. Called from one thread only."""

    def poll(self, timeout: float, max_records: int) -> Polled:
        """Wait up to `timeout` seconds for records.

        Whoever calls has already acknowledged (see `acknowledge`) all that earlier polls returned,
        so that a partition may be handed over inside this call.
        """

    def acknowledge(self, positions: Mapping[Partition, Position]) -> None:
        """Everything below these positions is dealt with and may be committed.

        All that it had to say was given to the sink, so that both may be committed as one. The
        source commits at its configured interval, when a partition is revoked, and on close.
        """

    def partitions(self) -> Mapping[str, int]:
        """Topic -> how many partitions it has, as last heard, without waiting; empty for files."""

    def drained(self, partitions: Collection[Partition]) -> frozenset[Partition]:
        """Those of them that are held here and read to their end, as the carrier says just now.

        May wait for its answer, briefly; empty where there is none, and always for files.
        """

    def unassigned(self) -> frozenset[Partition]:
        """Partitions that no member of the group has had for a while, without waiting."""

    def lag(self) -> Mapping[Partition, int]:
        """Records between the position and the end of each assigned partition, without waiting."""

    def close(self) -> None:
        """Commit what was acknowledged and leave."""


BEGUN = "begun"
"""Metadata of a position at which a group begins, committed before anything was read."""


class Start(NamedTuple):
    """Where an assigned partition goes on."""

    offset: int
    metadata: str | None  # of the group's commit; None: the group begins here


class Rewindable(Source, Protocol):
    """A source that can be read again: a log with commits."""

    def start(self, partition: Partition) -> Start | None:
        """Where the group goes on in a partition just assigned; None: ask again after a poll."""

    def rewind(self, partition: Partition, offset: int) -> int | None:
        """Read on at this offset, or at the oldest record after it: which; None as above."""

    def at(self, partition: Partition) -> int:
        """Everything below this offset has been polled, or is no more."""

    def committed(self) -> Mapping[Partition, Position]:
        """What this member knows to be committed of its partitions, without waiting."""


class Ended(NamedTuple):
    """A transaction came to its end."""

    outcome: str  # committed, aborted
    seconds: float  # since its first message, or its first offset


class Sink(Protocol):
    """Where messages go. Called from one thread only.

    One that belongs to a transaction commits its messages together with the positions that its
    source is told: both or none. Where that fails, both are as at the last commit: messages that
    are sent until then are dropped, and the source's next polls tell all partitions as revoked,
    and as assigned when it can go on, so that their state is restored and all is said again.
    """

    @property
    def unseen(self) -> bool:
        """Whether flushed messages wait for the commit of their transaction to become visible."""

    def ended(self) -> Sequence[Ended]:
        """Transactions that ended since the last call, in order; never any without transactions.

        One that may have been aborted, or may not, is told as aborted.
        """

    def send(self, message: Message) -> None:
        """Queue a message; blocks while more than the configured number is in flight."""

    def flush(self) -> None:
        """Wait until every queued message is acknowledged. Raises SinkError where one was not.

        In a transaction the commit waits instead.
        """

    def close(self) -> None: ...


class Scores(NamedTuple):
    scores: NDArray[np.float32]  # [B, E]
    contribution: NDArray[np.float32]  # [B, F]
    expected: NDArray[np.float32]  # [B, F], relative to the anchor like the windows


class Scorer(Protocol):
    """The loaded modules of one bundle, verified and warm. Tiles have one of `rungs` rows."""

    @property
    def rungs(self) -> tuple[int, ...]:
        """Tile sizes, ascending, that give bit-identical rows on this machine."""

    def score(
        self,
        scale: int,
        windows: NDArray[np.float32],  # [B, 60, F] relative to the anchor
        center: NDArray[np.float32],  # [B, F] relative to the anchor
        spread: NDArray[np.float32],  # [B, F]
    ) -> Scores: ...


@dataclass(frozen=True, slots=True)
class Model:
    """What serves a group: a verified bundle and its warm scorer."""

    bundle: Bundle
    scorer: Scorer


class ModelFeed(Protocol):
    """New models for groups, loaded, verified and warmed off the loop's thread."""

    def take(self) -> Mapping[str, Model]:
        """Group -> model that became ready since the last call; empty most of the time."""

    def close(self) -> None: ...


class ModelLibrary(Protocol):
    """Models that served before."""

    def load(self, group: str, version: str) -> Model | None:
        """Verified and warm; None where there is none any more. Takes its time."""


class SnapshotError(Exception):
    """A snapshot was not written, listed or deleted; the message names the place."""


class SnapshotStore(Protocol):
    """Immutable files of each partition. Called from several threads."""

    def write(self, partition: Partition, name: str, parts: Sequence[bytes | memoryview]) -> None:
        """The file, all parts one after another, appears whole, and is durable on return.

        Raises SnapshotError.
        """

    def read(self, partition: Partition, name: str) -> bytes | bytearray | Unusable:
        """The file as it was written, or `missing` or `unreadable`; nothing is checked.

        A bytearray is the caller's own.
        """

    def names(self, partition: Partition) -> list[str]:
        """Files of a partition, in order of their names. Raises SnapshotError."""

    def delete(self, partition: Partition, name: str) -> None:
        """Raises SnapshotError; none where there is no such file."""


class NormalStore(Protocol):
    """Keeps what the detector saw, beside its verdict, for the trainer; off the hot path."""

    def record(self, verdicts: Verdicts) -> None: ...

    def close(self) -> None:
        """Write what is buffered."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a normal store holds of one group; n rows by series and time, each (series, time) once.

    `series` names all series in order, `code` is each row's place among them; a row that was
    written again is there as it was written last.
    """

    features: tuple[str, ...]
    series: tuple[str, ...]
    code: NDArray[np.int64]  # [n]
    timestamp: NDArray[np.int64]  # [n] ms UTC
    values: NDArray[np.float64]  # [n, F]; NaN where the last value was held
    level: NDArray[np.float64]  # [n]; NaN before the first scored window
    anomalous: NDArray[np.bool_]  # [n]
    skipped: tuple[str, ...] = ()  # files that could not be used, and why


class StoreReader(Protocol):
    """The trainer's view of a normal store."""

    def groups(self) -> Sequence[str]: ...

    def newest(self, group: str) -> int | None:
        """End of the newest day that holds samples, ms UTC; None where there are none."""

    def read(self, group: str, since: int | None = None) -> Stored:
        """Samples of a group from `since` (ms UTC) on; no rows where there are none."""


class Odd(NamedTuple):
    """What is wrong with the keys of the records that were read, and with their topics."""

    unkeyed: Mapping[str, int]  # topic -> records without a key
    misplaced: Mapping[str, int]  # topic -> records in another partition than their key gives
    repartitioned: Mapping[str, int]  # topic -> partitions it has now, where that has changed


class Restored(NamedTuple):
    """A partition's state is in place."""

    outcome: str  # new, exact, older, partial, bounded
    records: int  # that were replayed
    seconds: float


class Saved(NamedTuple):
    """A snapshot was taken, or was not."""

    outcome: str  # written, failed
    seconds: float  # from the copy to the durable file
    size: int  # bytes


@dataclass(slots=True)
class Progress:
    """What the loop did in one turn; telemetry turns it into metrics, endpoints into health."""

    polled: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)  # Outcome name, lower case -> samples
    scores: list[ScaleScores] = field(default_factory=list)
    events: list[AnomalyEvent] = field(default_factory=list)  # that readers can see since the last
    transactions: Sequence[Ended] = ()  # that ended since the last turn
    suppressed: dict[str, int] = field(default_factory=dict)  # reason -> anomalies held back
    event_latencies: list[float] = field(default_factory=list)  # s, record time -> acknowledgement
    rejected: list[Rejected] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)  # decode, windows, score, ... -> s
    series: dict[str, int] = field(default_factory=dict)  # state -> series held
    odd: Odd = field(default_factory=lambda: Odd({}, {}, {}))
    unassigned: int = 0  # partitions that no member of the group has had for a while
    restoring: int = 0  # partitions whose state is not in place yet
    replayed: int = 0  # records below the committed offset
    restored: list[Restored] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)
    event_time_lag: float | None = None  # s between the newest sample and the clock


class Telemetry(Protocol):
    def turn(self, progress: Progress) -> None:
        """One turn of the loop ended."""

    def lag(self, lag: Mapping[Partition, int]) -> None: ...

    def model(self, group: str, version: str) -> None:
        """This version now serves the group."""

    def reload(self, outcome: str) -> None:
        """A reload ended: `swapped`, `refused` or `incompatible`."""


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
