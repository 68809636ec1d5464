"""`python -m tests.chaos.soak`: the service at half of its capacity for a while, on real Kafka.

Memory and lag over time, as JSON and as a picture: neither may grow.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import matplotlib as mpl
import numpy as np
import typer
import yaml
from matplotlib import pyplot as plt
from rich.console import Console
from rich.progress import Progress

from tests.chaos.__main__ import trained
from tests.chaos.brokers import Lane
from tests.chaos.samples import Put
from tests.service import Service, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PARTITIONS = 4
MINUTE = 60_000
PACE = 0.25  # s between two portions
WARM = 0.2  # share of the time after which memory is judged
console = Console(stderr=True)


def samples(series: int) -> Iterator[Put]:
    """Endless: minute after minute one sample of each series, anomalies among them."""
    rng = np.random.default_rng(0)
    start = 1_764_201_600_000
    for minute in itertools.count():
        values = rng.normal(10, 1, series) + 2 * np.sin(minute / 60)
        values[rng.random(series) < 2e-5] += 20
        at = start + minute * MINUTE
        for n, value in enumerate(values.tolist()):
            body = b'{"series":"m%d","timestamp":%d,"value":%.5f}' % (n, at, value)
            yield Put(n % PARTITIONS, b"m%d" % n, body, at)


def rss(pid: int) -> int:
    """Resident bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * 4096


def slope(seconds: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Growth an hour of the straight line through the later part."""
    late = seconds >= WARM * seconds[-1]
    return float(np.polyfit(seconds[late], values[late], 1)[0] * 3600)


def main(
    *,
    minutes: Annotated[float, typer.Option(min=0.5)] = 60.0,
    series: Annotated[int, typer.Option(min=1)] = 2000,
    share: Annotated[float, typer.Option(help="Of the capacity, measured first.")] = 0.5,
    out: Annotated[Path, typer.Option(help="Folder for soak.json and soak.png.")] = Path(),
) -> None:
    """Feed the service at a share of what it can take; record memory, lag and rate."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stream-detector-soak-") as folder:
        lane = Lane()
        try:
            report = _soak(lane, Path(folder), minutes, series, share)
        finally:
            lane.close()
    (out / "soak.json").write_text(json.dumps(report), "utf-8")
    picture(report, out / "soak.png")
    typer.echo(json.dumps({name: value for name, value in report.items() if name != "points"}))


def _soak(lane: Lane, folder: Path, minutes: float, series: int, share: float) -> dict[str, Any]:
    lane.create({"in": PARTITIONS, "out": 1, "dead": 1})
    config = folder / "detector.yaml"
    settings = {
        "kafka": {"bootstrap_servers": lane.servers, "group_id": "soak"},
        "input": {"topics": ["in"], "start": "earliest"},
        "output": {"topic": "out", "dead_letter_topic": "dead"},
        "model": {"registry": str(trained(folder))},
        "device": "cpu",
        "threads": 1,
        "http": {"port": 0},
        "snapshots": {"url": str(folder / "snapshots"), "every": "1m"},
    }
    config.write_text(yaml.safe_dump(settings), "utf-8")
    source = samples(series)
    with Service(config, folder / "service.log") as service:
        service.ready()
        sent = _grow(lane, service, source, 150 * series)  # every series is ripe
        began = time.monotonic()
        probe = 10 * series
        sent += _grow(lane, service, source, probe, sent)
        capacity = probe / (time.monotonic() - began)
        console.print(f"{capacity:,.0f} samples/s, {share:.0%} of them for {minutes:g} minutes")
        points = _watch(lane, service, source, sent, share * capacity, 60 * minutes)
        assert service.value("samples_total", outcome="accepted") == points[-1]["sent"]
        assert service.terminate() == 0
    seconds = np.array([point["seconds"] for point in points])
    memory = np.array([point["rss"] for point in points], np.float64)
    lag = np.array([point["lag"] for point in points], np.float64)
    return {
        "minutes": minutes,
        "series": series,
        "capacity": capacity,
        "share": share,
        "rate": share * capacity,
        "samples": points[-1]["sent"] - sent,
        "rss_mb": {"first": memory[0] / 1e6, "max": memory.max() / 1e6, "last": memory[-1] / 1e6},
        "rss_mb_an_hour": slope(seconds, memory) / 1e6,
        "lag": {"median": float(np.median(lag)), "max": float(lag.max())},
        "lag_an_hour": slope(seconds, lag),
        "points": points,
    }


def _grow(lane: Lane, service: Service, source: Iterator[Put], count: int, before: int = 0) -> int:
    """Send so many samples at once, and wait until the service has dealt with them."""
    lane.put("in", itertools.islice(source, count))
    until(
        lambda: service.value("samples_total", outcome="accepted") >= before + count,
        "the samples to be dealt with",
        1800,
    )
    return count


def _watch(
    lane: Lane, service: Service, source: Iterator[Put], sent: int, rate: float, seconds: float
) -> list[dict[str, float]]:
    points = []
    with Progress(console=console) as bar:
        task = bar.add_task("soak", total=seconds)
        began = time.monotonic()
        told = 0.0
        fed = 0
        while (now := time.monotonic() - began) < seconds:
            due = round(now * rate) - fed
            lane.put("in", itertools.islice(source, due))
            fed += due
            if now >= told:
                told = now + max(1.0, seconds / 400)
                points.append(_point(service, now, sent + fed))
                bar.update(task, completed=now)
            time.sleep(PACE)
        until(lambda: service.value("consumer_lag_records") == 0, "the lag to be gone", 300)
        until(
            lambda: service.value("samples_total", outcome="accepted") == sent + fed, "the rest", 60
        )
        points.append(_point(service, time.monotonic() - began, sent + fed))
    return points


def _point(service: Service, seconds: float, sent: int) -> dict[str, float]:
    return {
        "seconds": seconds,
        "rss": rss(service.process.pid),
        "lag": service.value("consumer_lag_records"),
        "sent": sent,
        "snapshots": service.value("snapshots_total", outcome="written"),
        "events": service.value("events_total"),
    }


def picture(report: dict[str, Any], path: Path) -> None:
    mpl.use("agg")
    points = report["points"]
    minutes = [point["seconds"] / 60 for point in points]
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 5), layout="constrained")
    above.plot(minutes, [point["rss"] / 1e6 for point in points])
    above.set_ylabel("resident memory, MB")
    above.set_ylim(0, 1.1e-6 * max(point["rss"] for point in points))
    below.plot(minutes, [point["lag"] for point in points])
    below.set_ylabel("lag, records")
    below.set_ylim(0, max(10, *(1.1 * point["lag"] for point in points)))
    below.set_xlabel("minutes")
    above.set_title(
        f"{report['rate']:,.0f} samples/s, {report['share']:.0%} of the capacity; "
        f"{report['series']:,} series; memory {report['rss_mb_an_hour']:+.1f} MB an hour"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
