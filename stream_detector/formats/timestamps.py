"""Times on the wire -> milliseconds since the epoch, UTC. No clock, no time zone but the text's."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from stream_detector.formats.paths import Unusable, shown
from stream_detector.records import Reason

TimeUnit = Literal["s", "ms", "us", "ns"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST = -62_135_596_800_000
"""The first millisecond of the year 1."""
LATEST = 253_402_300_799_999
"""The last millisecond of the year 9999, the last that RFC 3339 can write."""

PER_SECOND = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}

_MILLISECOND = timedelta(milliseconds=1)
# Narrower than datetime.fromisoformat, whose own leniency differs between versions of Python.
_TEXT = re.compile(
    r"\d{4}-\d\d-\d\d"
    r"(?:[T ](?:[01]\d|2[0-3]):[0-5]\d(?::(?:[0-5]\d|60)(?:[.,]\d+)?)?"
    r"(?:Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?)?",
    re.ASCII,
)


def to_milliseconds(value: Any, unit: TimeUnit, name: str, earliest: int = 0) -> int:
    """A decoded JSON value as ms since the epoch, `earliest` to LATEST.

    Of a stream nothing is before 1970: there such times stand for a clock that was never set.
    Numbers count `unit`s; what is finer than a millisecond is cut off, but fractions of seconds are
    rounded, as they are rarely exact. Text is RFC 3339, without an offset taken as UTC.
    Raises Unusable, naming the field as `name`.
    """
    if value.__class__ is int:
        time = _scaled(value, unit)
    elif value.__class__ is str:
        time = _from_text(value, name)
    elif value.__class__ is float:
        # The bound keeps the product finite and is far above any valid time in any unit.
        if not math.isfinite(value) or abs(value) > 1e30:
            raise Unusable(Reason.BAD_TIMESTAMP, f"{name}: {shown(value)} is not a time")
        time = round(value * 1000) if unit == "s" else _scaled(math.floor(value), unit)
    else:
        raise Unusable(
            Reason.WRONG_TYPE, f"{name} must be a number or RFC 3339 text, not {shown(value)}"
        )
    if earliest <= time <= LATEST:
        return time
    least = "1970" if earliest == 0 else "the year 1"
    bound = f"before {least}" if time < 0 else f"after the year 9999 (time_unit is {unit})"
    raise Unusable(Reason.BAD_TIMESTAMP, f"{name}: {shown(value)} is {bound}")


def to_text(milliseconds: int) -> str:
    """RFC 3339 in UTC with three decimals; beyond the years 1 to 9999 the nearest of them."""
    moment = EPOCH + timedelta(milliseconds=min(max(milliseconds, EARLIEST), LATEST))
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _scaled(count: int, unit: TimeUnit) -> int:
    if unit == "ms":
        return count
    return count * 1000 if unit == "s" else count * 1000 // PER_SECOND[unit]


def _from_text(text: str, name: str) -> int:
    upper = text.upper()
    if _TEXT.fullmatch(upper) is None:
        raise Unusable(Reason.BAD_TIMESTAMP, f"{name}: {shown(text)} is not RFC 3339")
    leap = upper[17:19] == "60"  # datetime knows no leap second: it is the next second's start
    try:
        moment = datetime.fromisoformat(upper[:17] + "59" + upper[19:] if leap else upper)
    except ValueError as error:
        detail = f"{name}: {shown(text)} is not a time: {error}"
        raise Unusable(Reason.BAD_TIMESTAMP, detail) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // _MILLISECOND + 1000 * leap
