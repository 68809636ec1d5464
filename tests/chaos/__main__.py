"""`python -m tests.chaos`: workers on real Kafka are killed again and again; an oracle compares."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.chaos.campaign import Campaign
from tests.chaos.faults import FAULTS
from tests.chaos.machine import lacking

console = Console(stderr=True)


def main(
    *,
    schedules: Annotated[int, typer.Option(min=1, help="How many.")] = 12,
    delivery: Annotated[Literal["at_least_once", "exactly_once"], typer.Option()] = "at_least_once",
    seed: Annotated[int, typer.Option(help="Decides what is to happen.")] = 0,
    kinds: Annotated[
        str, typer.Option(help=f"Faults, with commas; of {', '.join(FAULTS)}.", show_default="all")
    ] = "",
    torch: Annotated[
        int, typer.Option(min=0, help="So many of them with a TorchScript bundle, not numpy.")
    ] = 0,
    parallel: Annotated[
        int, typer.Option(min=1, help="Schedules side by side on the shared broker.")
    ] = 4,
    session_timeout: Annotated[
        float, typer.Option(min=1, help="Seconds after which the group goes on without a worker.")
    ] = 6.0,
    minutes: Annotated[
        float | None, typer.Option(help="No schedule begins after so many minutes.")
    ] = None,
    where: Annotated[
        Literal["any", "broker", "cluster"] | None,
        typer.Option(
            help="Run all on the shared broker, on one that is restarted and cut off, on a cluster "
            "of three whose leaders change.",
            show_default="most on the shared one, some on each",
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="Folder for the report so far and what is left of failed schedules."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Nothing lost, nothing doubled, the same state: through kills and every other fault."""
    chosen = [kind.strip() for kind in kinds.split(",") if kind.strip()] or list(FAULTS)
    unknown = sorted(set(chosen) - set(FAULTS))
    if unknown:
        raise typer.BadParameter(f"no such fault: {', '.join(unknown)}", param_hint="--kinds")
    for kind, why in lacking(chosen).items():
        message = f"{kind}: {why}, or leave it out of --kinds"
        raise typer.BadParameter(message, param_hint="--kinds")
    folder = keep or Path(tempfile.mkdtemp(prefix="stream-detector-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    registry = trained(folder) if torch else None
    campaign = Campaign(
        folder,
        schedules=schedules,
        delivery=delivery,
        seed=seed,
        kinds=chosen,
        torch=torch,
        registry=registry,
        parallel=parallel,
        where=where,
        session=session_timeout,
        until=time.monotonic() + 60 * minutes if minutes is not None else float("inf"),
    )
    columns = (TextColumn("schedules"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("schedules", total=schedules)

        def note(so_far: dict[str, Any]) -> None:
            (folder / "report.json").write_text(json.dumps(so_far), "utf-8")
            bar.advance(task)

        report = campaign.run(note)
    if as_json:
        print(json.dumps(report))
    show(report)
    if report["failed"]:
        console.print(f"what is left of failed schedules: {folder}")
        sys.exit(1)


def trained(folder: Path) -> Path:
    """A registry with a small bundle."""
    from stream_detector.bundle import Registry  # noqa: PLC0415
    from tests.unit.trainer_cases import fleet, quick  # noqa: PLC0415
    from trainer.train import publish, train  # noqa: PLC0415

    registry = Registry(folder / "registry")
    publish(train(fleet(1500), quick(epochs=3), quiet=True), registry)
    return registry.path


def show(report: dict[str, Any]) -> None:
    faults = Table("fault", "fired", "drawn, not fired", title="Faults")
    for name in (*FAULTS, "scale_up", "scale_down"):
        fired, missed = report["faults"].get(name, 0), report["unfired"].get(name, 0)
        if fired or missed:
            faults.add_row(name, str(fired), str(missed or ""))
    console.print(faults)
    sums = Table("", "", title=f"{report['delivery']}, seed {report['seed']}", show_header=False)
    for name, value in report.items():
        if isinstance(value, int | float):
            sums.add_row(name, str(value))
    sums.add_row("restores", json.dumps(report["restores"]))
    console.print(sums)
    for each in report["failed"]:
        console.print(f"schedule {each['schedule']} failed: {'; '.join(each['why'])}")
    for what, count in report["crashes"].items():
        console.print(f"{count} x a worker ended by itself: {what}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
