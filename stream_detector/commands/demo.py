"""`stream-detector demo`: simulate, train, detect and report, with nothing else installed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from stream_detector.commands.demo_referee import Referee, Ruled, Ruling
from stream_detector.commands.simulate import make_fleet
from stream_detector.config import ConfigError
from stream_detector.records import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_detector.ports import Model
    from stream_detector.records import AnomalyEvent
    from stream_detector.simulation import Fleet

NORMAL = 0.65
"""Share of the simulated time to learn from."""
RATE = 2.0
"""Faults per series and day in the rest."""
LEAST_MINUTES = 1440
"""With less, the validation part has no whole window."""

COLORS = {Severity.MINOR: "yellow", Severity.MAJOR: "dark_orange", Severity.CRITICAL: "red"}


def demo(
    *,
    series: Annotated[int, typer.Option(min=1, help="Series in the fleet.")] = 24,
    minutes: Annotated[
        int, typer.Option(min=LEAST_MINUTES, help="Simulated time; one sample a minute.")
    ] = 8640,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another fleet.")] = 0,
    alarm_budget: Annotated[
        float, typer.Option(help="False episodes accepted per series and day.")
    ] = 0.2,
    output: Annotated[Path, typer.Option(help="Folder for what it makes.")] = Path("demo-output"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Simulate a fleet, train on its normal part, detect in the rest, and tell how well it went."""
    if alarm_budget <= 0:
        raise ConfigError("--alarm-budget must be above 0")
    _require_trainer()
    console = Console(quiet=as_json, highlight=False, soft_wrap=True)
    began = time.monotonic()
    fleet = make_fleet(
        series=series, minutes=minutes, seed=seed, anomaly_rate=RATE, normal_fraction=NORMAL
    )
    parts = ", ".join(f"{len(fleet.members(m.group))} {m.group}" for m in fleet.machines)
    console.print(
        f"[bold]Simulated fleet[/]: {series} series ({parts}), {minutes / 1440:.1f} days at one "
        f"sample a minute; the first {NORMAL:.0%} normal, then {len(fleet.labels)} faults"
    )
    models, train_seconds = _train(fleet, output, seed, alarm_budget, console)
    outcome = _detect(fleet, models, alarm_budget, console)
    written = _report(fleet, models, outcome, output, alarm_budget)
    outputs = [*written, *(output / "models" / m.group for m in fleet.machines)]
    summary = _summary(fleet, outcome, outputs)
    summary["alarm_budget"] = alarm_budget
    summary["seconds"] = {
        "train": round(train_seconds, 2),
        "detect": round(outcome.seconds, 2),
        "total": round(time.monotonic() - began, 2),
    }
    if as_json:
        typer.echo(msgspec.json.encode(summary).decode())
    else:
        _tell(summary, console)


def _require_trainer() -> None:
    """End with what to install before anything else is done."""
    try:
        from stream_detector.commands import demo_learning, demo_report  # noqa: F401, PLC0415
    except ImportError as error:
        typer.echo(
            f"stream-detector: the demo trains and draws, and {error.name} is not installed; "
            'run: pip install "stream-detector[trainer]"',
            err=True,
        )
        raise typer.Exit(1) from None


@dataclass(frozen=True, slots=True)
class Outcome:
    recorder: Any  # a demo_watch.Recorder; that module is imported when the demo runs
    referee: Referee
    seconds: float


def _train(
    fleet: Fleet, output: Path, seed: int, alarm_budget: float, console: Console
) -> tuple[dict[str, Model], float]:
    """Group -> verified and warm model; seconds for training."""
    from stream_detector.adapters.torch_scorer import load_model  # noqa: PLC0415  # torch is slow
    from stream_detector.commands import demo_learning  # noqa: PLC0415  # needs the trainer
    from trainer.data import DataError  # noqa: PLC0415

    console.print("[bold]Training[/] on the normal part, one model for each machine type")
    models: dict[str, Model] = {}
    began = time.monotonic()
    try:
        for lesson in demo_learning.learn(
            fleet, output / "models", seed=seed, alarm_budget=alarm_budget, quiet=console.quiet
        ):
            models[lesson.group] = load_model(lesson.registry.load(), device="cpu", threads=1)
            training = lesson.manifest.training
            console.print(
                f"  {lesson.group}: {lesson.manifest.model}, {training.series} series, "
                f"{training.rows:,} samples, {lesson.seconds:.1f} s"
            )
    except DataError as error:
        raise ConfigError(str(error)) from error
    return models, time.monotonic() - began


def _detect(
    fleet: Fleet, models: Mapping[str, Model], alarm_budget: float, console: Console
) -> Outcome:
    from stream_detector.commands import demo_watch  # noqa: PLC0415  # the demo's second half

    console.print("[bold]Detecting[/] in the rest, sample by sample")
    referee = Referee(fleet)

    def tell(event: AnomalyEvent) -> None:
        ruled = referee.rule(event)
        if ruled is not None and event.status is not Status.UPDATED:
            console.print(_line(event, ruled, referee))

    recorder = demo_watch.Recorder(tell)
    with Progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        console=console,
        transient=True,
        disable=console.quiet or not console.is_terminal,
    ) as progress:
        task = progress.add_task("detecting", total=fleet.steps - fleet.normal_steps)
        seconds = demo_watch.watch(
            fleet,
            models,
            recorder,
            alarm_budget=alarm_budget,
            advance=lambda steps: progress.advance(task, steps),
        )
    return Outcome(recorder, referee, seconds)


def _report(
    fleet: Fleet, models: Mapping[str, Model], outcome: Outcome, output: Path, alarm_budget: float
) -> list[Path]:
    from stream_detector.commands.demo_report import Report  # noqa: PLC0415  # draws: matplotlib

    report = Report(output, fleet, models, outcome.recorder, outcome.referee, alarm_budget)
    return report.write()


def _line(event: AnomalyEvent, ruled: Ruled, referee: Referee) -> str:
    """One transition for people."""
    when = datetime.fromtimestamp(event.at / 1000, UTC)
    head = f"  {when:%a %H:%M}  {escape(event.series):<24}"
    if event.status is Status.CLOSED:
        lasted = (event.at - event.started_at) / 60_000
        reason = event.close_reason or ""
        return f"[dim]{head}closed    after {lasted:.0f} min, {escape(reason)}[/]"
    worst = max(event.contribution, key=lambda name: event.contribution[name])
    observed, expected = _number(event.observed[worst]), _number(event.expected[worst])
    values = f"{worst.replace('_', ' ')} {observed}, expected {expected}"
    color = COLORS[event.severity]
    text = f"{head}[{color}]{event.severity.value:<8}[/]  {escape(values):<52}"
    if ruled.label is None or ruled.ruling is Ruling.FALSE:
        return f"{text} [magenta]false alarm[/]"
    kind = ruled.label.kind.value.replace("_", " ")
    if ruled.ruling is Ruling.REPEAT:
        return f"{text} [green]again: {kind}[/]"
    return f"{text} [green]true: {kind}, {referee.delay(ruled)} steps after its start[/]"


def _number(value: float) -> str:
    """Four digits, and no powers of ten in numbers that people read at a glance."""
    if abs(value) >= 1000:
        return f"{float(f'{value:.4g}'):,.0f}"
    return f"{value:.4g}"


def _summary(fleet: Fleet, outcome: Outcome, outputs: list[Path]) -> dict[str, Any]:
    recorder = outcome.recorder
    return {
        "series": len(fleet.series),
        "samples": recorder.samples,
        "windows": recorder.windows,
        **outcome.referee.summary(),
        "windows_per_second": round(recorder.windows / max(outcome.seconds, 1e-9)),
        "seconds": {},
        "stages": {stage: round(seconds, 3) for stage, seconds in recorder.stages.items()},
        "outputs": [str(path) for path in outputs],
    }


def _tell(summary: Mapping[str, Any], console: Console) -> None:
    episodes, delay, seconds = summary["episodes"], summary["delay_steps"], summary["seconds"]
    realised, promised = summary["false_per_series_and_day"], summary["alarm_budget"]
    kinds = ", ".join(
        f"{name.replace('_', ' ')} {share['found']}/{share['true']}"
        for name, share in summary["kinds"].items()
    )
    share = episodes["found"] / episodes["true"] if episodes["true"] else 0.0
    rows = [
        ("faults", f"{episodes['found']} of {episodes['true']} found ({share:.0%}): {kinds}"),
        (
            "false alarms",
            f"{episodes['false']}: {realised:.2f} per series and day, accepted {promised:g}",
        ),
        ("speed", f"{summary['windows']:,} windows, {summary['windows_per_second']:,} a second"),
        (
            "time",
            "train {train:.0f} s, detect {detect:.0f} s, total {total:.0f} s".format(**seconds),
        ),
        ("outputs", summary["outputs"][0]),
        *(("", path) for path in summary["outputs"][1:]),
    ]
    if delay["median"] is not None:
        text = f"median {delay['median']:.0f} steps, 90% within {delay['p90']:.0f} (1 step = 1 min)"
        rows.insert(2, ("delay", text))
    console.print("\n[bold]Summary[/]")
    for name, text in rows:
        console.print(f"  {name:<13} {escape(text)}")
