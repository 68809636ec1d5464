"""What every reader of files hands out: Table, and how blocks become chunks.

No file is opened here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK_ROWS = 4096
"""Rows that are converted at once: cells as Python objects never exist for more than these."""

PEEK_ROWS = 1000
"""Rows that are looked at to tell numbers from text, whatever the chunks are."""

CHUNK_VALUES = 1 << 22
"""Values in a chunk at most, so that wide tables need no more memory than narrow ones."""


@dataclass(frozen=True, slots=True)
class Table:
    """Consecutive samples of one file, as columns of n rows."""

    source: Path  # a member of an archive lies below it, as in a folder
    first_row: int  # number of the first sample in the file, from 0; a header is not counted
    series: list[str]
    timestamp: NDArray[np.int64]  # [n] ms UTC
    values: NDArray[np.float64]  # [n, F] finite, or NaN = missing
    features: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.series)


def regroup(blocks: Iterable[Table], rows: int) -> Iterator[Table]:
    """The same samples in tables of exactly `rows` samples, fewer where they are wide.

    The last one is shorter.
    """
    held: list[Table] = []
    count = 0
    for block in blocks:
        rows = min(rows, max(CHUNK_VALUES // max(len(block.features), 1), 1))
        start = 0
        while count + len(block) - start >= rows:
            stop = start + rows - count
            yield _join([*held, _cut(block, start, stop)])
            held, count, start = [], 0, stop
        if start < len(block):
            held.append(_cut(block, start, len(block)))
            count += len(block) - start
    if held:
        yield _join(held)


def _cut(table: Table, start: int, stop: int) -> Table:
    if start == 0 and stop == len(table):
        return table
    return Table(
        table.source,
        table.first_row + start,
        table.series[start:stop],
        table.timestamp[start:stop],
        table.values[start:stop],
        table.features,
    )


def _join(parts: list[Table]) -> Table:
    if len(parts) == 1:
        return parts[0]
    return Table(
        parts[0].source,
        parts[0].first_row,
        [name for part in parts for name in part.series],
        np.concatenate([part.timestamp for part in parts]),
        np.concatenate([part.values for part in parts]),
        parts[0].features,
    )
