"""`stream-detector run` before its loop turns."""

from __future__ import annotations

from stream_detector.commands.run import serve
from stream_detector.config import DetectorConfig, parse_yaml

CONFIG = """
kafka: {bootstrap_servers: ["none:0"], group_id: g}
input: {topics: [sensors]}
output: {topic: anomalies, dead_letter_topic: dead-letters}
model: {registry: /nowhere}
http: {port: 0}
"""


def test_a_service_that_is_asked_to_end_while_it_starts_ends_without_connecting() -> None:
    def connect(_: DetectorConfig, __: object) -> None:
        raise AssertionError("connected")

    serve(parse_yaml(CONFIG, DetectorConfig, environment={}), lambda: True, connect)  # type: ignore[arg-type]  # never called
