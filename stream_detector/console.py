"""How both programs end: one line for an error, an exit code for scripts. Typer is known here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from stream_detector.bundle import BundleError
from stream_detector.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

OK, FAILURE, USAGE = 0, 1, 2


def run(
    app: typer.Typer, name: str, arguments: Sequence[str], failures: tuple[type[Exception], ...]
) -> int:
    """Run one command; returns the exit code.

    `failures` are errors that are not a fault of this program: they are shown as one line on
    stderr and end with 1, bad configuration and usage with 2. Anything else keeps its traceback.
    """
    if not arguments:
        run(app, name, ["--help"], failures)
        return USAGE
    try:
        code = app(args=list(arguments), prog_name=name, standalone_mode=False)
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(name, "interrupted", FAILURE)
    except Exception as error:
        shown = _explained(error, failures)
        if shown is None:
            raise
        return _fail(name, *shown)
    return code if isinstance(code, int) else OK


def _explained(error: Exception, failures: tuple[type[Exception], ...]) -> tuple[str, int] | None:
    """Message and exit code of an error that is not a fault of this program."""
    if isinstance(error, ConfigError):
        return str(error), USAGE
    if isinstance(error, (BundleError, OSError, *failures)):
        return str(error), FAILURE
    # Typer's usage errors share no public base class over its versions; all format themselves.
    show = getattr(error, "format_message", None)
    return None if show is None else (f"{show()} (try --help)", USAGE)


def _fail(name: str, message: str, code: int) -> int:
    typer.echo(f"{name}: {' '.join(message.split())}", err=True)
    return code
