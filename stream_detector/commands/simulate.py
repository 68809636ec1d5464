"""`stream-detector simulate`: a labelled fleet to a file, to stdout, or to a Kafka topic."""

from __future__ import annotations

import csv
import os
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Protocol

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from stream_detector.config import ConfigError, Kafka, Output, milliseconds
from stream_detector.machines import MACHINES
from stream_detector.records import Message
from stream_detector.simulation import START_MS, Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream_detector.ports import Sink

GROUPS = ", ".join(machine.group for machine in MACHINES)


def simulate(
    *,
    series: Annotated[int, typer.Option(min=1, help="Series in the fleet.")] = 24,
    minutes: Annotated[float, typer.Option(help="Simulated time, minutes.")] = 1440.0,
    interval: Annotated[str, typer.Option(help="Between samples of a series: 500ms, 10s.")] = "1m",
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal fleets.")] = 0,
    anomalies: Annotated[float, typer.Option(help="Faults per series and day.")] = 2.0,
    normal: Annotated[
        float, typer.Option(min=0, max=1, help="Share at the start that has no faults.")
    ] = 0.6,
    normal_only: Annotated[bool, typer.Option("--normal-only", help="No faults at all.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only these machine types ({GROUPS}); repeatable.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Time of the first sample, RFC 3339. Left out: Kafka gets the latest "
            "MINUTES up to now, files begin on 2026-01-05."
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="NDJSON file, .csv file, or - for stdout.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Where to write the faults, NDJSON.")] = None,
    kafka: Annotated[str | None, typer.Option(help="Brokers, host:port[,host:port].")] = None,
    topic: Annotated[str | None, typer.Option(help="Topic to write to, with --kafka.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Samples a second, in real time; left out: at full speed.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Write a labelled fleet of simulated machines to a file or a Kafka topic."""
    _check(output, kafka, topic, rate, as_json=as_json)
    fleet = make_fleet(
        series=series,
        minutes=minutes,
        interval_ms=milliseconds(interval),
        seed=seed,
        anomaly_rate=0.0 if normal_only else anomalies,
        normal_fraction=normal,
        start_ms=_start(start, minutes, live=kafka is not None),
        only=only,
    )
    began = time.monotonic()
    try:
        with _target(fleet, output, kafka, topic) as target:
            written = _pump(fleet, target, rate, quiet=as_json)
    except BrokenPipeError:
        # Whoever reads our stdout has seen enough; keep Python from flushing into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if labels is not None:
        write_labels(fleet, labels)
    where = [
        part for part in (output, topic and f"{kafka}/{topic}", labels and str(labels)) if part
    ]
    summary = _summary(fleet, written, time.monotonic() - began, where)
    if as_json:
        typer.echo(msgspec.json.encode(summary).decode())
    else:
        typer.echo(
            f"{written:,} samples of {len(fleet.series)} series with {len(fleet.labels)} faults -> "
            f"{', '.join(where)} in {summary['seconds']:.1f} s",
            err=True,
        )


def write_labels(fleet: Fleet, path: Path) -> None:
    """The faults of a fleet, one label a line."""
    lines = [msgspec.json.encode(label.body()) + b"\n" for label in fleet.labels]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))


def _check(
    output: str | None, kafka: str | None, topic: str | None, rate: float | None, *, as_json: bool
) -> None:
    if (output is None) == (kafka is None):
        raise ConfigError("give either --output FILE|- or --kafka BROKERS with --topic NAME")
    if kafka is not None and not topic:
        raise ConfigError("--kafka needs --topic NAME")
    if output == "-" and as_json:
        raise ConfigError("--output - and --json both want stdout; write to a file")
    if rate is not None and rate <= 0:
        raise ConfigError("--rate must be above 0")


def make_fleet(*, only: list[str] | None = None, **options: Any) -> Fleet:
    """Fleet(**options) of some machine types. Raises ConfigError."""
    wanted = set(only or [machine.group for machine in MACHINES])
    if unknown := wanted - {machine.group for machine in MACHINES}:
        raise ConfigError(f"no machine type {', '.join(sorted(unknown))}; there are {GROUPS}")
    try:
        return Fleet(machines=tuple(m for m in MACHINES if m.group in wanted), **options)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _start(text: str | None, minutes: float, *, live: bool) -> int:
    """Time of the first sample, ms UTC."""
    if text is None:
        return round(time.time() * 1000 - minutes * 60_000) if live else START_MS
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--start {text!r} is not a time; write 2026-01-05T00:00:00Z") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


class _Target(Protocol):
    def write(self, first: int, last: int) -> int:
        """Write these steps; returns how many samples they hold."""

    def close(self) -> None: ...


@dataclass(slots=True)
class _Lines:
    fleet: Fleet
    file: IO[bytes]

    def write(self, first: int, last: int) -> int:
        wires = self.fleet.records(first, last)
        self.file.write(b"".join(wire.value + b"\n" for wire in wires))
        return len(wires)

    def close(self) -> None:
        self.file.flush()


@dataclass(slots=True)
class _Csv:
    """One column for each feature of any machine type; empty where a machine has none such."""

    fleet: Fleet
    file: IO[str]
    columns: list[str]

    def write(self, first: int, last: int) -> int:
        rows: list[tuple[int, str, dict[str, float]]] = []
        for chunk in self.fleet.samples(first, last):
            names = [feature.name for feature in chunk.machine.features]
            series = [self.fleet.series[i].name for i in chunk.series.tolist()]
            columns = (chunk.timestamp.tolist(), series, chunk.values.tolist())
            rows += [
                (at, name, dict(zip(names, values, strict=True)))
                for at, name, values in zip(*columns, strict=True)
            ]
        rows.sort(key=lambda row: row[:2])
        writer = csv.writer(self.file)
        if not first:
            writer.writerow(["series", "timestamp", *self.columns])
        for at, name, values in rows:
            writer.writerow([name, at, *(values.get(column, "") for column in self.columns)])
        return len(rows)

    def close(self) -> None:
        self.file.flush()


@dataclass(slots=True)
class _Topic:
    fleet: Fleet
    sink: Sink
    topic: str

    def write(self, first: int, last: int) -> int:
        wires = self.fleet.records(first, last)
        for wire in wires:
            key = wire.series.encode()
            self.sink.send(Message(self.topic, key, wire.value, timestamp=wire.timestamp))
        return len(wires)

    def close(self) -> None:
        self.sink.flush()


@contextmanager
def _target(
    fleet: Fleet, output: str | None, kafka: str | None, topic: str | None
) -> Iterator[_Target]:
    """Where the samples go; flushed when all went well, closed in any case."""
    with ExitStack() as stack:
        target: _Target
        if kafka is not None and topic is not None:
            # Only here: files need no Kafka client.
            from stream_detector.adapters.kafka import KafkaSink  # noqa: PLC0415

            brokers = Kafka(bootstrap_servers=kafka.split(","), group_id="simulate")
            sink = KafkaSink(brokers, Output(topic=topic, dead_letter_topic=topic))
            stack.callback(sink.close)
            target = _Topic(fleet, sink, topic)
        elif output == "-":
            target = _Lines(fleet, sys.stdout.buffer)
        else:
            path = Path(output or "")
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".csv":
                names = [f.name for machine in fleet.machines for f in machine.features]
                text = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
                target = _Csv(fleet, text, list(dict.fromkeys(names)))
            else:
                target = _Lines(fleet, stack.enter_context(path.open("wb")))
        yield target
        target.close()


def _pump(fleet: Fleet, target: _Target, rate: float | None, *, quiet: bool) -> int:
    """Write the fleet piece by piece; returns the number of samples."""
    piece = max(1, min(128, 100_000 // len(fleet.series)))
    if rate is not None:
        piece = 1  # a step at a time, so that the pace is even
    written = 0
    began = time.monotonic()
    with Progress(
        TextColumn("simulating"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,} steps"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
        transient=True,
    ) as progress:
        task = progress.add_task("", total=fleet.steps)
        for first in range(0, fleet.steps, piece):
            last = min(first + piece, fleet.steps)
            written += target.write(first, last)
            progress.update(task, completed=last)
            if rate is not None:
                time.sleep(max(0.0, began + written / rate - time.monotonic()))
    return written


def _summary(fleet: Fleet, written: int, seconds: float, where: list[str]) -> dict[str, Any]:
    return {
        "series": len(fleet.series),
        "samples": written,
        "labels": len(fleet.labels),
        "steps": fleet.steps,
        "normal_steps": fleet.normal_steps,
        "interval_ms": fleet.interval_ms,
        "groups": {
            machine.group: {
                "match": machine.match,
                "series": len(fleet.members(machine.group)),
                "features": [feature.name for feature in machine.features],
            }
            for machine in fleet.machines
        },
        "seconds": round(seconds, 3),
        "outputs": where,
    }
