"""Brokers that do not answer: one clear line from every way in, no broker needed to see it."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own: a client that never got through leaves its sockets to the exit.
PROGRAM = """
import sys
from stream_detector import config
from stream_detector.adapters import kafka
from stream_detector.adapters.kafka import client
client.BOOTSTRAP_MS = 300
nowhere = config.Kafka(bootstrap_servers=["127.0.0.1:1"], group_id="g")
output = config.Output(topic="t", dead_letter_topic="d")
try:
    {call}
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("kafka.KafkaSource(nowhere, ['t'])", "SourceError"),
        ("kafka.KafkaSink(nowhere, output)", "SinkError"),
        ("kafka.topics(nowhere, ['t'])", "SourceError"),
    ],
)
def test_brokers_that_do_not_answer_are_named_with_the_keys_to_check(call: str, kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(call=call)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith(f"{kind} Kafka at 127.0.0.1:1: ")
    assert "check kafka.bootstrap_servers" in done.stdout
    assert len(done.stdout.splitlines()) == 1
