"""`stream-detector replay`: the same loop on files or stdin, and what another bundle would say."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stream_detector.commands import wiring
from stream_detector.config import ConfigError, DetectorConfig, Fields, load_yaml
from stream_detector.core.policy import Policy
from stream_detector.formats.timestamps import EARLIEST
from stream_detector.records import Kind, Status

if TYPE_CHECKING:
    from stream_detector.ports import Model, Progress
    from stream_detector.records import AnomalyEvent


@dataclass(slots=True)
class Tally(wiring.NoTelemetry):
    """What a replay did, for the summary; also its telemetry."""

    records: int = 0
    windows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # by reason
    examples: dict[str, str] = field(default_factory=dict)  # reason -> what was wrong first
    outcomes: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    events: list[AnomalyEvent] = field(default_factory=list)

    def turn(self, progress: Progress) -> None:  # type: ignore[override]  # narrower than none
        self.records += progress.polled
        self.windows += sum(len(part.error) + part.faults for part in progress.scores)
        self.rejected.update(one.reason.value for one in progress.rejected)
        for one in progress.rejected:
            self.examples.setdefault(one.reason.value, one.detail)
        self.outcomes.update(progress.outcomes)
        self.stages.update(progress.stages)
        self.events += progress.events

    def episodes(self) -> list[tuple[str, int, int]]:
        """Series, start and end (ms) of each anomaly episode; an open one ends with its newest."""
        spans: dict[str, tuple[str, int, int]] = {}
        for event in self.events:
            if event.kind is Kind.ANOMALY:
                spans[event.episode_id] = (event.series, event.started_at, event.at)
        return list(spans.values())


def replay(
    *,
    data: Annotated[
        str,
        typer.Option("--input", help="File, folder, archive, or - for stdin.", show_default=False),
    ],
    bundle: Annotated[
        Path | None, typer.Option(help="Registry (its CURRENT) or the folder of one bundle.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="detector.yaml, for fields, groups and thresholds.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="File for the events, or - for stdout (the default).")
    ] = None,
    dead_letters: Annotated[Path | None, typer.Option(help="File for what can't be used.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Name of the stream; part of event ids.")
    ] = None,
    array: Annotated[
        str | None, typer.Option(help="Array to read of npz files that hold several, e.g. test.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another registry or bundle: show where the two differ.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda or cuda:N; left out: the configuration's, or auto."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Summary as one JSON object.")] = False,
) -> None:
    """Run files through the very engine that serves Kafka, and write its events.

    Reads CSV, NDJSON, Parquet and numpy files, gzipped or zipped, or folders of them with no
    configuration at all. The same samples give the same events, with the same ids, as the service
    would.
    """
    if bundle is None and config is None:
        raise ConfigError("give --bundle, or a --config that names the registries")
    if as_json and output == "-":
        raise ConfigError("--json and --output - both want stdout; give --output FILE")
    if against is not None and data == "-":
        raise ConfigError("--against reads the input twice, stdin can't be; give --input FILE")
    if device is not None and re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device) is None:
        raise ConfigError(f"--device {device!r}: write auto, cpu, cuda or cuda:N")
    place: Path | Literal["-"] | None = None
    if output is not None or not as_json:
        place = "-" if output in {None, "-"} else Path(str(output))
    tally, seconds = _once(data, array, bundle, config, source, place, dead_letters, device)
    summary = _summary(tally, seconds)
    if against is not None:
        other, _ = _once(data, array, against, config, source, None, None, device)
        summary["against"] = difference(tally, other)
    if as_json:
        typer.echo(json.dumps(summary))
        return
    _print(summary)


def _once(  # the options, in their order
    data: str,
    array: str | None,
    bundle: Path | None,
    config: Path | None,
    source: str | None,
    place: Path | Literal["-"] | None,
    dead_letters: Path | None,
    device: str | None,
) -> tuple[Tally, float]:
    from stream_detector.adapters.files import (  # noqa: PLC0415
        FileSink,
        FileSource,
        PipeClosedError,
    )
    from stream_detector.adapters.torch_scorer import load_model  # noqa: PLC0415

    settings = None if config is None else load_yaml(config, DetectorConfig)
    threads: int | None = 1
    if settings is not None:
        plan = wiring.plan(settings, EARLIEST)  # files may hold history
        device, threads = device or settings.device, settings.threads
        places = {r.name or r.match: Path(r.registry) for r in settings.routes}
    else:
        plan, places = wiring.default_plan({"*": "*"}, Policy(), EARLIEST), {}
    if bundle is not None:
        places = dict.fromkeys(places or {"*": bundle}, bundle)
    plan = replace(plan, source=source or plan.source)
    models: dict[str, Model] = {
        group: load_model(wiring.open_bundle(path), device or "auto", threads)
        for group, path in places.items()
    }
    own_fields = settings is not None and settings.input.fields != Fields()
    path: Path | Literal["-"] = "-" if data == "-" else Path(data)
    given = FileSource(path, array=array, unchanged=own_fields)
    sink = FileSink(Path(os.devnull) if place is None else place, dead_letters)
    tally = Tally()
    stop = wiring.Stop()
    stop.listen()
    start = time.monotonic()
    try:
        loop = wiring.loop(plan, models, given, sink, telemetry=tally)
        with wiring.settled():
            loop.run(stop)
        sink.close()
    except PipeClosedError:  # `| head` has seen enough
        pass
    finally:
        sink.discard()  # nothing after close; what is not whole after an error
        given.close()
    return tally, time.monotonic() - start


def _summary(tally: Tally, seconds: float) -> dict[str, Any]:
    opened = [e for e in tally.events if e.kind is Kind.ANOMALY and e.status is Status.OPENED]
    return {
        "records": tally.records,
        "samples": dict(tally.outcomes),
        "windows": tally.windows,
        "rejected": tally.rejected.total(),
        "reasons": {
            reason: {"count": count, "first": tally.examples[reason]}
            for reason, count in tally.rejected.most_common()
        },
        "events": len(tally.events),
        "episodes": len(opened),
        "seconds": round(seconds, 3),
        "windows_per_second": round(tally.windows / seconds, 1) if seconds else 0.0,
        "stages": {name: round(value, 3) for name, value in sorted(tally.stages.items())},
    }


def difference(one: Tally, other: Tally) -> dict[str, Any]:
    """Episodes that both saw (they overlap), and those that only one saw."""
    left = list(other.episodes())
    both, only_one = 0, []
    for series, start, end in one.episodes():
        match = next((o for o in left if o[0] == series and o[1] <= end and start <= o[2]), None)
        if match is None:
            only_one.append({"series": series, "started_at": start})
        else:
            left.remove(match)
            both += 1
    return {
        "both": both,
        "only_bundle": only_one,
        "only_against": [{"series": series, "started_at": start} for series, start, _ in left],
    }


def _print(summary: dict[str, Any]) -> None:
    """For people, on stderr: stdout belongs to the events."""
    samples = ", ".join(f"{n} {name}" for name, n in summary["samples"].items() if n)
    print(  # noqa: T201
        f"{summary['records']} records ({samples or 'no samples'}; "
        f"{summary['rejected']} rejected), "
        f"{summary['windows']} windows in {summary['seconds']} s "
        f"({summary['windows_per_second']:.0f}/s), {summary['episodes']} episodes",
        file=sys.stderr,
    )
    for reason, found in summary["reasons"].items():
        print(f"rejected, {reason}: {found['count']}, first: {found['first']}", file=sys.stderr)  # noqa: T201
    if "against" in summary:
        diff = summary["against"]
        print(f"both bundles: {diff['both']} episodes", file=sys.stderr)  # noqa: T201
        for key, name in (("only_bundle", "only --bundle"), ("only_against", "only --against")):
            for episode in diff[key]:
                print(f"{name}: {episode['series']} at {episode['started_at']}", file=sys.stderr)  # noqa: T201
