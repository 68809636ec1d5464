"""The service itself, on the broker in memory, for a real Prometheus to scrape during a test."""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.adapters.memory import MemoryBroker
from stream_detector.bundle import Registry
from stream_detector.commands.run import Ends, serve
from stream_detector.config import DetectorConfig, parse_yaml
from tests.unit.trainer_cases import MINUTE, START, fleet, quick, wave
from trainer.train import publish, train

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = """
kafka: {{bootstrap_servers: ["none:0"], group_id: ops}}
input: {{topics: [sensors], start: earliest}}
output: {{topic: anomalies, dead_letter_topic: dead-letters}}
model: {{registry: "{registry}", name: all}}
store: {{url: "{store}"}}
http: {{port: {port}}}
episodes: {{quiet_period: 5, update_every: 1m}}
reload_every: 200ms
threads: 1
"""
SERIES = 12  # the first three are known to the bundle
MINUTES = 20_000


@contextlib.contextmanager
def running_detector() -> Iterator[str]:
    """host:port of a detector at work: samples, faults, dead letters and reloads keep coming."""
    with tempfile.TemporaryDirectory(prefix="stream-detector-ops-") as folder:
        registry = Registry(Path(folder) / "registry")
        versions = [
            publish(train(fleet(1500), quick(epochs=2, seed=seed), quiet=True), registry)
            for seed in (1, 2)
        ]
        port = _free_port()
        text = CONFIG.format(registry=registry.path, store=Path(folder) / "store", port=port)
        config = parse_yaml(text, DetectorConfig, environment={})
        broker = MemoryBroker(4)
        for topic in ("sensors", "anomalies", "dead-letters"):
            broker.create_topic(topic, 4)
        stop = threading.Event()
        source, sink = broker.source(["sensors"], "ops", start="earliest"), broker.sink()
        ends = Ends(source, sink, {"sensors": 4})
        service = threading.Thread(
            target=serve, args=(config, stop.is_set, lambda *_: ends), name="service"
        )
        world = threading.Thread(target=_world, args=(broker, registry, versions, stop))
        service.start()
        world.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            stop.set()
            world.join()
            service.join()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _world(
    broker: MemoryBroker, registry: Registry, versions: list[str], stop: threading.Event
) -> None:
    """Ten minutes of every series at once, with spikes, letters, and a new model now and then."""
    random = np.random.default_rng(3)
    courses = [wave(MINUTES, i, 10.0 ** (2 * (i % 3)), 48.0) for i in range(SERIES)]
    minute = turn = 0
    while not stop.wait(0.05) and minute + 10 < MINUTES:
        turn += 1
        for series, course in enumerate(courses):
            if random.random() < 0.1:
                course[minute + 5] *= 3
            for at in range(minute, minute + 10):
                _send(broker, f"s{series}", START + at * MINUTE, float(course[at]))
        _send(broker, f"new-{turn}", START + minute * MINUTE, 1.0)
        broker.append("sensors", b'{"series": "s0"', b"s0", timestamp=_now())
        minute += 10
        if turn % 40 == 0:
            registry.promote(versions[turn // 40 % 2])


def _send(broker: MemoryBroker, series: str, timestamp: int, value: float) -> None:
    sample = {"series": series, "timestamp": timestamp, "value": value}
    broker.append("sensors", json.dumps(sample).encode(), series.encode(), timestamp=_now())


def _now() -> int:
    return int(time.time() * 1000)
