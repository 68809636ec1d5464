"""Samples a second of JSON decoding, by the form of the records.

python -m tests.bench.bench_json_format
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from stream_detector.config import Fields
from stream_detector.formats.json import JsonDecoder
from stream_detector.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLES = 10_000
PER_RECORD = 100
NOW = 1_764_201_600_000
CONFIGURED = {
    "template": "{tags.host}/{name}",
    "timestamp": "time",
    "time_unit": "s",
    "features": {"user": "fields.user", "system": "fields.system"},
}


def default_rows() -> list[dict[str, Any]]:
    return [
        {
            "series": f"plant-3/pump-{i % 50}",
            "timestamp": NOW + 1000 * i,
            "values": {"temp": 81.2 + i, "vib": 0.03},
        }
        for i in range(SAMPLES)
    ]


def configured_rows() -> list[dict[str, Any]]:
    return [
        {
            "name": "cpu",
            "tags": {"host": f"web-{i % 50}", "zone": "eu"},
            "time": NOW // 1000 + i,
            "fields": {"user": 12.5 + i, "system": 3, "idle": 84.5},
        }
        for i in range(SAMPLES)
    ]


def singles(rows: Sequence[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows]


def arrays(rows: Sequence[dict[str, Any]]) -> list[bytes]:
    return [
        json.dumps(rows[start : start + PER_RECORD]).encode()
        for start in range(0, len(rows), PER_RECORD)
    ]


def lines(rows: Sequence[dict[str, Any]]) -> list[bytes]:
    texts = singles(rows)
    return [
        b"\n".join(texts[start : start + PER_RECORD]) for start in range(0, len(texts), PER_RECORD)
    ]


def spoilt_arrays(rows: Sequence[dict[str, Any]]) -> list[bytes]:
    """One sample of every array is bad, so that all go the slow path."""
    return arrays(
        [{**row, "values": "none"} if i % PER_RECORD == 7 else row for i, row in enumerate(rows)]
    )


def measure(payloads: Sequence[bytes], fields: dict[str, Any], bad: int = 0) -> float:
    """Samples a second of CPU time, the best of five. Asserts that what went in comes out."""
    decoder = JsonDecoder(
        Fields(**fields), max_record_bytes=1_048_576, max_samples=10_000, max_series_length=512
    )
    records = [Record("samples", 0, i, NOW, None, value) for i, value in enumerate(payloads)]
    samples, rejected = decoder.decode(records)
    assert len(samples) == SAMPLES - bad
    assert len(rejected) == bad
    last = samples[-1]
    i = SAMPLES - 1
    if fields:
        assert last.series == f"web-{i % 50}/cpu"
        assert last.values == {"user": 12.5 + i, "system": 3.0}
    else:
        assert last.series == f"plant-3/pump-{i % 50}"
        assert last.values == {"temp": 81.2 + i, "vib": 0.03}
    assert last.timestamp == NOW + 1000 * i
    seconds = []
    for _ in range(5):
        start = time.process_time()
        decoder.decode(records)
        seconds.append(time.process_time() - start)
    return SAMPLES / min(seconds)


def bench_json_format() -> dict[str, float]:
    rows, configured = default_rows(), configured_rows()
    return {
        "single": measure(singles(rows), {}),
        "array": measure(arrays(rows), {}),
        "ndjson": measure(lines(rows), {}),
        "configured, single": measure(singles(configured), CONFIGURED),
        "configured, array": measure(arrays(configured), CONFIGURED),
        "array with a bad sample": measure(spoilt_arrays(rows), {}, bad=SAMPLES // PER_RECORD),
    }


if __name__ == "__main__":
    for form, rate in bench_json_format().items():
        print(f"{form:24} {rate:12,.0f} samples/s {1e6 / rate:8.2f} us a sample")
