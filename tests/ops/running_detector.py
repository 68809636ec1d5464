"""A detector whose metrics a real Prometheus can scrape while a test runs."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import numpy as np

from stream_detector.adapters.http import HealthState, HttpServer
from stream_detector.adapters.prometheus import PrometheusTelemetry
from stream_detector.adapters.telemetry import Fanout
from stream_detector.config import Http
from stream_detector.ports import Progress
from stream_detector.records import (
    AnomalyEvent,
    Kind,
    Maturity,
    Partition,
    Reason,
    Record,
    Rejected,
    ScaleScores,
    Severity,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream_detector.ports import Telemetry


@contextlib.contextmanager
def running_detector() -> Iterator[str]:
    """host:port of the endpoints of a detector at work: everything that it counts is moving."""
    health = HealthState()
    metrics = PrometheusTelemetry()
    server = HttpServer(Http(port=0), health, metrics.exposition)
    stop = threading.Event()
    loop = threading.Thread(target=_work, args=(Fanout(metrics, health), stop))
    loop.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        stop.set()
        loop.join()
        server.close()


def _work(telemetry: Telemetry, stop: threading.Event) -> None:
    random = np.random.default_rng(1)
    telemetry.model("pumps", "20261122-a")
    telemetry.model("web", "20261121-b")
    turn = 0
    while not stop.wait(0.1):
        turn += 1
        telemetry.lag({Partition("sensors", number): 50 - turn % 40 for number in range(4)})
        if turn % 20 == 0:
            telemetry.reload("swapped")
            telemetry.model("pumps", f"20261122-{turn}")
        telemetry.turn(_progress(turn, random))


def _progress(turn: int, random: np.random.Generator) -> Progress:
    opens = turn % 4 == 0
    return Progress(
        polled=500,
        outcomes={"accepted": 480, "late": 10, "duplicate": 5},
        scores=[
            ScaleScores(
                group=group,
                scale=scale,
                error=random.lognormal(-4, 1, 480 // scale).astype(np.float32),
                ratio=random.lognormal(-1, 0.6, 480 // scale).astype(np.float32),
                faults=0,
            )
            for group, scale in (("pumps", 1), ("pumps", 6), ("web", 1))
        ],
        events=[_event(turn, Status.OPENED if turn % 8 else Status.CLOSED)] if opens else [],
        event_latencies=[0.03] if opens else [],
        rejected=[Rejected(Reason.MALFORMED, "", Record("sensors", 0, turn, 0, None, b"{"))] * 5,
        stages={
            "poll": 0.05,
            "decode": 0.004,
            "assemble": 0.002,
            "engine": 0.01,
            "score": 0.03,
            "publish": 0.001,
            "store": 0.0005,
            "acknowledge": 0.0001,
        },
        series={"learning": 1, "warming": 2, "mature": 40},
        event_time_lag=0.4,
    )


def _event(turn: int, status: Status) -> AnomalyEvent:
    return AnomalyEvent(
        source="ops",
        series="plant-3/pump-7",
        kind=Kind.ANOMALY,
        status=status,
        at=turn,
        seq=0,
        started_at=turn,
        window_start=0,
        window_end=turn,
        scale=1,
        severity=list(Severity)[turn % 3],
        level=5.0,
        threshold=4.0,
        score=1.0,
        model_version="20261122-a",
        maturity=Maturity.MATURE,
        partition=Partition("sensors", 0),
        offset=turn,
    )
