"""Records of JSON, and what a decoder makes of them."""

from __future__ import annotations

import json
from typing import Any

from stream_detector.config import Fields
from stream_detector.formats.json import JsonDecoder
from stream_detector.records import UNKNOWN_TIME, Record, Rejected, Sample

NOW = 1_764_201_600_000
GOOD = {"series": "plant-3/pump-7", "timestamp": NOW, "values": {"temp": 81.2, "vib": 0.03}}


def decoder(**fields: Any) -> JsonDecoder:
    return JsonDecoder(
        Fields(**fields), max_record_bytes=100_000, max_samples=200, max_series_length=20
    )


def record(value: Any, key: bytes | None = None, timestamp: int = UNKNOWN_TIME) -> Record:
    raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return Record("samples", 2, 17, timestamp, key, raw)


def samples(value: Any, **fields: Any) -> list[Sample]:
    found, rejected = decoder(**fields).decode([record(value)])
    assert rejected == []
    return found


def refusal(value: Any, **fields: Any) -> Rejected:
    found, rejected = decoder(**fields).decode([record(value)])
    assert found == []
    assert len(rejected) == 1
    return rejected[0]


def changed(**parts: Any) -> dict[str, Any]:
    return {name: part for name, part in {**GOOD, **parts}.items() if part is not ...}
