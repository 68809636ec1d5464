"""The numpy files of a bundle: what is known of each series, and golden windows with scores."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_detector.core.calibration import MEMORY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

SERIES = "series.npz"
GOLDEN = "golden.npz"
OPTIONAL = "score_threshold"


class BundleError(Exception):
    """A bundle or registry that cannot be used; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class SeriesTable:
    """What the trainer learnt of each series; columns of n rows."""

    row: Mapping[str, int]
    center: NDArray[np.float64]  # [n, F] in the input's units
    scale: NDArray[np.float64]  # [n, F]
    score_location: NDArray[np.float64]  # [n] of the transformed score (see Levels)
    score_spread: NDArray[np.float64]  # [n]
    score_count: NDArray[np.int64]  # [n] held-out scores
    memory: NDArray[np.void]  # [n] what they have taught (see core.calibration)
    score_mean: NDArray[np.float64]  # [n] of the held-out scores themselves
    score_std: NDArray[np.float64]  # [n]
    interval: NDArray[np.float64]  # [n] ms between samples, median
    score_threshold: NDArray[np.float64] | None = None
    """[n] score at which each series raises an alarm, NaN where that is not known; None: no rule
    chose a score for each series (see Threshold)."""

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Names of the columns that every table has."""
        return tuple(part.name for part in fields(cls) if part.name not in {"row", OPTIONAL})

    def to_bytes(self) -> bytes:
        names = np.array(list(self.row), dtype=np.str_)
        columns = {name: getattr(self, name) for name in (*self.columns(), OPTIONAL)}
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, series=names, **{k: v for k, v in columns.items() if v is not None}
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> SeriesTable:
        arrays = read_npz(data, SERIES, ("series", *cls.columns()), (OPTIONAL,))
        names = arrays.pop("series").tolist()
        lengths = {len(array) for array in arrays.values()} | {len(names)}
        if len(lengths) != 1 or len(set(names)) != len(names):
            raise BundleError(f"{SERIES}: columns of different lengths, or a series twice")
        if arrays["memory"].dtype != MEMORY:
            raise BundleError(f"{SERIES}: what scores have taught is of another version; fit anew")
        return cls(row={name: row for row, name in enumerate(names)}, **arrays)


@dataclass(frozen=True, slots=True)
class Golden:
    """Windows of one scale and the scores that the module gave them at export."""

    windows: NDArray[np.float32]  # [B, 60, F]
    center: NDArray[np.float32]  # [B, F]
    scale: NDArray[np.float32]  # [B, F]
    scores: NDArray[np.float32]  # [B, E]


def golden_to_bytes(golden: Mapping[int, Golden]) -> bytes:
    buffer = io.BytesIO()
    arrays = {
        f"{name}_{scale}": getattr(part, name)
        for scale, part in golden.items()
        for name in ("windows", "center", "scale", "scores")
    }
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read_npz(
    data: bytes, name: str, columns: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, Any]:
    """The named arrays of an archive; those that are optional only where it has them.

    Raises BundleError with the `name` of the file where it is none or lacks a column.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            wanted = [*columns, *(column for column in optional if column in archive)]
            return {column: archive[column] for column in wanted}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"{name}: {error}") from error
