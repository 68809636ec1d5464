"""`stream-detector`: the commands. A composition root; each command lives in commands/."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from stream_detector import console
from stream_detector.adapters.http import HttpError
from stream_detector.commands.bench import bench
from stream_detector.commands.check import check
from stream_detector.commands.demo import demo
from stream_detector.commands.rekey import rekey
from stream_detector.commands.replay import replay
from stream_detector.commands.run import run
from stream_detector.commands.simulate import simulate
from stream_detector.core.rejections import MisconfiguredError
from stream_detector.ports import SinkError, SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILURES = (SourceError, SinkError, HttpError, MisconfiguredError)

app = typer.Typer(
    name="stream-detector",
    help="Tell within milliseconds which of the series in your Kafka topics stopped behaving.",
    epilog="Exit codes: 0 success, 1 failure, 2 bad usage or configuration.",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, run, replay, check, simulate, rekey, bench):
    app.command()(command)


def execute(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    return console.run(app, "stream-detector", arguments, FAILURES)


def main() -> None:
    """The console script."""
    sys.exit(execute(sys.argv[1:]))
