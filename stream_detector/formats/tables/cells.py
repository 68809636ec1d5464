"""One cell or one column of text -> numbers and times. Pure; no file, no column names."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stream_detector.formats.tables.errors import BadCellError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
"""Cells that hold no value, in any case."""

Unit = Literal["s", "ms", "us", "ns"]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  naive times are UTC here, see Times
_MILLISECOND = timedelta(milliseconds=1)
_PER_MS: dict[Unit, int] = {"ms": 1, "us": 1000, "ns": 1_000_000}
_LIMIT_MS = 253_402_300_800_000  # the year 10000


def number(text: str) -> float | None:
    """A finite number, or None where the value is missing. Raises ValueError for anything else."""
    try:
        value = float(text)
    except ValueError:
        if text.strip().lower() in MISSING:
            return None
        raise ValueError(f"{_short(text)} is not a number") from None
    if "_" in text:  # float() reads 1_2, the name of something, as 12
        raise ValueError(f"{_short(text)} is not a number")
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return None
    raise ValueError(f"{_short(text)} is not a finite number")


def is_number(text: str) -> bool:
    try:
        return number(text) is not None
    except ValueError:
        return False


def is_missing(text: str) -> bool:
    return text.strip().lower() in MISSING


def is_infinite(text: str) -> bool:
    try:
        return math.isinf(float(text))
    except ValueError:
        return False


def floats(cells: Sequence[str]) -> NDArray[np.float64]:
    """[n] text -> [n] numbers, NaN where missing. Raises BadCellError."""
    if "_" not in "".join(cells):
        try:
            fast = np.fromiter(map(float, cells), np.float64, len(cells))
        except ValueError:
            pass  # a cell that is missing, most of the time
        else:
            if not np.isinf(fast).any():
                return fast
    out = np.empty(len(cells))
    for index, cell in enumerate(cells):
        try:
            value = number(cell)
        except ValueError as error:
            raise BadCellError(index, str(error)) from None
        out[index] = math.nan if value is None else value
    return out


class Times:
    """Cells of one time column -> ms since the epoch, UTC.

    Text is ISO 8601 / RFC 3339, with a space or a T, naive = UTC; or a date. Numbers are times
    since the epoch; where no unit is given, the size of the column's first one tells it for all:
    below 1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds.
    """

    def __init__(self, unit: Unit | None = None) -> None:
        self.unit = unit

    def one(self, cell: object) -> int:
        """Raises ValueError for a cell that is no time."""
        if isinstance(cell, str):
            text = cell.strip()
            if text[4:5] in {"-", "/"}:
                return _iso(text)
            try:
                return self._number(int(text))
            except ValueError:
                pass
            try:
                return self._number(float(text))
            except ValueError:
                raise ValueError(f"{_short(cell)} is not a time") from None
        if isinstance(cell, int | float) and not isinstance(cell, bool):
            return self._number(cell)
        raise ValueError(f"{_short(cell)} is not a time")

    def column(self, cells: Sequence[object]) -> NDArray[np.int64]:
        """[n] cells -> [n] ms. Raises BadCellError."""
        out = np.empty(len(cells), np.int64)
        for index, cell in enumerate(cells):
            try:
                out[index] = self.one(cell)
            except ValueError as error:
                raise BadCellError(index, str(error)) from None
        return out

    def integers(self, cells: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """[n] counts of the unit -> [n] ms. Raises BadCellError."""
        if self.unit is None:
            self.unit = _guess(abs(int(cells[0])))
        scale = 1000 if self.unit == "s" else 1
        per_ms = 1 if self.unit == "s" else _PER_MS[self.unit]
        limit = _LIMIT_MS // scale * per_ms
        bad = (cells >= limit) | (cells <= -limit)
        if bad.any():
            index = int(np.argmax(bad))
            raise BadCellError(index, f"{cells[index]} is not a time in {self.unit} since 1970")
        return cells.astype(np.int64) // per_ms * scale

    def _number(self, value: float) -> int:
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a time")
        if self.unit is None:
            self.unit = _guess(abs(value))
        if self.unit == "s":
            result = round(value * 1000)
        elif isinstance(value, int):
            result = value // _PER_MS[self.unit]
        else:
            result = round(value / _PER_MS[self.unit])
        if abs(result) >= _LIMIT_MS:
            raise ValueError(f"{value} is not a time in {self.unit} since 1970")
        return result


def _guess(size: float) -> Unit:
    if size < 1e11:
        return "s"
    if size < 1e14:
        return "ms"
    return "us" if size < 1e17 else "ns"


def _iso(text: str) -> int:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = _lenient(text)
    offset = when.utcoffset()
    if offset is not None:
        when = when.replace(tzinfo=None) - offset
    return (when - _EPOCH) // _MILLISECOND


def _lenient(text: str) -> datetime:
    """Spellings beside ISO 8601 that mean one thing only: 2014/04/01, lower-case z, a last UTC."""
    plain = text.upper().removesuffix("UTC").strip()
    if text[4:5] == "/":
        plain = plain.replace("/", "-")
    head, space, zone = plain.rpartition(" ")
    if space and zone[:1] in {"+", "-"}:
        plain = head + zone
    try:
        return datetime.fromisoformat(plain)
    except ValueError:
        raise ValueError(f"{_short(text)} is not a time") from None


def _short(cell: object) -> str:
    text = repr(cell)
    return text if len(text) <= 40 else text[:37] + "..."
