"""Known anomalies in training data: which rows of a series are left, so that none is learnt from.

What is left out makes a break in its series; no window crosses one.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.data import DataError
from trainer.metrics.events import merge, stretches
from trainer.reading import marks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trainer.config.data import Data
    from trainer.metrics.events import Interval


class Known:
    """What `data.labels` tells of these series."""

    def __init__(self, config: Data, series: Sequence[str]) -> None:
        """Raises DataError for a line of the file that is no label."""
        rule = config.labels
        self._margin = config.margin
        self._by_name = rule is not None and rule.names is not None
        self._marks: dict[str, list[marks.Mark]] = {}
        if rule is not None and rule.file is not None:
            self._marks = marks.from_file(Path(rule.file), series).marks

    def of(self, name: str) -> KeptRows:
        """Of one series. Raises DataError where its name should tell and does not."""
        end = None
        if self._by_name:
            named = marks.UCR.search(name)
            if named is None:
                raise DataError(
                    f"series {name}: its name does not end in _TRAINEND_START_END, as "
                    "data.labels.names: ucr says; rename its file, or give the labels otherwise"
                )
            end = int(named[1])
        return KeptRows(self._marks.get(name, ()), self._margin, end)


class KeptRows:
    """Rows of one series that are learnt from; given piece by piece, in order."""

    def __init__(self, known: Sequence[marks.Mark], margin: int, end: int | None) -> None:
        self._known = known
        self._margin = margin
        self._end = end
        self._anomalous: list[Interval] = []  # first and last row
        self._count = 0

    def add(self, timestamp: NDArray[np.int64], label: NDArray[np.bool_] | None) -> None:
        """The next rows, and whether each is labelled as an anomaly."""
        flags = marks.within(timestamp, self._known)
        if label is not None:
            flags |= label
        self._anomalous += [
            (first + self._count, last + self._count) for first, last in stretches(flags)
        ]
        self._count += len(timestamp)

    def kept(self) -> list[tuple[int, int]]:
        """First row and the one behind the last, of every stretch that is left, in order."""
        end = self._count if self._end is None else min(self._end, self._count)
        cuts = merge(self._anomalous, 2 * self._margin + 1)
        edges = [0]
        for first, last in cuts:
            edges += [max(first - self._margin, 0), last + self._margin + 1]
        edges.append(end)
        spans = [(start, min(stop, end)) for start, stop in list(pairwise(edges))[::2]]
        return [(start, stop) for start, stop in spans if start < stop]

    @property
    def left_out(self) -> int:
        return self._count - sum(stop - start for start, stop in self.kept())


def breaks(kept: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Where the stretches begin once they lie one after another, but for the first."""
    return np.cumsum([stop - start for start, stop in kept], dtype=np.int64)[:-1]
