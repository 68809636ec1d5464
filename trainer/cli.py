"""`stream-trainer`: the commands and their exit codes. A composition root.

Each command lives in a module of its own and is added here with one line. A command raises; how an
error is shown and which code the process ends with is decided here alone.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import typer

from stream_detector.bundle import BundleError
from stream_detector.config import ConfigError
from trainer.commands.benchmark import register as register_benchmark
from trainer.commands.evaluate import register as register_evaluate
from trainer.commands.fit import fit
from trainer.commands.promise import register as register_promise
from trainer.commands.recipes import register as register_recipes
from trainer.commands.refresh import Ports
from trainer.commands.refresh import register as register_refresh
from trainer.commands.registry import list_versions, promote, rollback
from trainer.commands.threshold import register as register_threshold
from trainer.commands.tune import register as register_tune
from trainer.data import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.benchmarks.detect import Load

OK, FAILURE, USAGE = 0, 1, 2

app = typer.Typer(
    name="stream-trainer",
    help="Train, calibrate and promote the models that stream-detector serves.",
    epilog="Exit codes: 0 success, 1 failure, 2 bad usage or configuration.",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("fit")(fit)
app.command("promote")(promote)
app.command("rollback")(rollback)
app.command("list")(list_versions)


def _ports() -> Ports:
    """The detector's own scorer and store; imported when a command needs them, torch is slow."""
    from stream_detector.adapters.store import ParquetStoreReader  # noqa: PLC0415
    from stream_detector.adapters.torch_scorer import load_model  # noqa: PLC0415

    return Ports(load=load_model, store=ParquetStoreReader)


def _loader() -> Load:
    """The detector's own scorer on one core, as other processes can be given it."""
    from stream_detector.adapters.torch_scorer import load_model  # noqa: PLC0415

    return partial(load_model, device="cpu", threads=1)


register_refresh(app, _ports)
register_evaluate(app, _ports)
register_recipes(app, _ports)
register_threshold(app, _ports)
register_tune(app, _ports)
register_benchmark(app, _loader)
register_promise(app, _loader)


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code. Errors are one line on stderr."""
    if not arguments:
        run(["--help"])
        return USAGE
    try:
        code = app(args=list(arguments), prog_name="stream-trainer", standalone_mode=False)
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", FAILURE)
    except Exception as error:
        shown = _explained(error)
        if shown is None:
            raise
        return _fail(*shown)
    return code if isinstance(code, int) else OK


def _explained(error: Exception) -> tuple[str, int] | None:
    """Message and exit code of an error that is not a fault of this program."""
    if isinstance(error, ConfigError):
        return str(error), USAGE
    if isinstance(error, BundleError | DataError | OSError):
        return str(error), FAILURE
    # Typer's usage errors share no public base class over its versions; all format themselves.
    show = getattr(error, "format_message", None)
    return None if show is None else (f"{show()} (try --help)", USAGE)


def _fail(message: str, code: int) -> int:
    typer.echo(f"stream-trainer: {' '.join(message.split())}", err=True)
    return code


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))
