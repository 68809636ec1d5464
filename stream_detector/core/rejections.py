"""What cannot be used: which samples, how many letters a record gets, when it is nearly everything.

Pure; the loop decides what is sent.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.records import Outcome, Reason, Rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream_detector.core.engine import Result
    from stream_detector.records import Record, Sample

_DEAD = {
    Outcome.FUTURE: (
        Reason.FUTURE_TIMESTAMP,
        "timestamp {time} is further ahead than `time` allows",
    ),
    Outcome.UNHELD: (Reason.MISSING_FIELD, "a feature is missing for longer than `hold_limit`"),
}


class MisconfiguredError(Exception):
    """Nearly nothing of the input can be used: the configuration must be wrong."""


class Breaker:
    """Share of unusable records among the newest; for wrong configuration, not for bad senders.

    While the first `window` records are still coming in and most of them are unusable, what was
    read is `suspicious`: the loop then keeps its dead letters and offsets to itself, so that a
    wrong configuration leaves no trace.
    """

    def __init__(self, share: float, window: int) -> None:
        self._share = share
        self._bad = np.zeros(window, np.bool_)
        self._seen = 0
        self._reasons: Counter[str] = Counter()

    def note(self, unusable: NDArray[np.bool_], rejected: Sequence[Rejected]) -> None:
        """[n] of the newest records, in order: whether each gave no usable sample at all."""
        window = len(self._bad)
        newest = unusable[-window:]
        first = self._seen + len(unusable) - len(newest)
        self._bad[np.arange(first, first + len(newest)) % window] = newest
        self._seen += len(unusable)
        self._reasons.update(reject.reason.value for reject in rejected)

    @property
    def _rate(self) -> float:
        return float(self._bad.sum()) / max(1, min(self._seen, len(self._bad)))

    @property
    def suspicious(self) -> bool:
        return self._seen < len(self._bad) and self._rate > self._share

    def check(self) -> None:
        """Raises MisconfiguredError."""
        if self._seen >= len(self._bad) and self._rate > self._share:
            most = ", ".join(f"{reason} ({n})" for reason, n in self._reasons.most_common(3))
            raise MisconfiguredError(
                f"{self._rate:.0%} of the last {len(self._bad)} records cannot be used: {most}; "
                "`input` or `models` of the configuration does not fit these topics. "
                "Correct it, or raise `limits.rejected_share`"
            )


def judged_unusable(result: Result, samples: Sequence[Sample]) -> list[Rejected]:
    """Samples that only the state of their series could judge."""
    rejected = []
    for verdicts in result.verdicts:
        for outcome, (reason, detail) in _DEAD.items():
            for at in np.flatnonzero(verdicts.outcome == outcome).tolist():
                sample = samples[int(verdicts.batch.origin[at])]
                text = detail.format(time=sample.timestamp)
                rejected.append(Rejected(reason, text, sample.record, sample.item))
    return rejected


def unusable(
    records: Sequence[Record],
    rejected: Sequence[Rejected],
    result: Result,
    samples: Sequence[Sample],
) -> NDArray[np.bool_]:
    """[n] records that were rejected and gave no usable sample either."""
    if not rejected:
        return np.zeros(len(records), np.bool_)
    lost = {id(reject.record) for reject in rejected}
    for verdicts in result.verdicts:
        good = verdicts.batch.origin[~np.isin(verdicts.outcome, list(_DEAD))]
        lost -= {id(samples[at].record) for at in good.tolist()}
    return np.fromiter((id(record) in lost for record in records), np.bool_, len(records))


def bounded(rejected: Sequence[Rejected], most: int) -> list[Rejected]:
    """At most so many of each record; the last of them counts those left out.

    Every letter carries its whole record, so an array of 10,000 samples that no model knows would
    come back 10,000 times as large.
    """
    if len(rejected) <= most:
        return list(rejected)
    count = Counter(id(reject.record) for reject in rejected)
    if max(count.values()) <= most:
        return list(rejected)
    kept: list[Rejected] = []
    seen: Counter[int] = Counter()
    for reject in rejected:
        record = id(reject.record)
        seen[record] += 1
        rest = count[record] - most
        if seen[record] > most:
            continue
        if seen[record] == most and rest > 0:
            detail = f"and {rest} more bad samples; {reject.detail}"
            kept.append(reject._replace(detail=detail))
        else:
            kept.append(reject)
    return kept
