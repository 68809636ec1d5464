"""How both programs end: one line, one exit code, and tracebacks for our own faults alone."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer

from stream_detector import console
from stream_detector.bundle import BundleError
from stream_detector.config import ConfigError
from stream_detector.core.rejections import MisconfiguredError
from stream_detector.ports import SinkError, SourceError

FAILURES = (SourceError, SinkError, MisconfiguredError)


def program(error: BaseException | None = None, code: int | None = None) -> typer.Typer:
    """Two commands, so that a command's name must be given; `work` ends as told."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @app.command()
    def work(count: Annotated[int, typer.Option()] = 1) -> int | None:
        if error is not None:
            raise error
        typer.echo(f"done {count}")
        return code

    @app.command()
    def rest() -> None:
        """Nothing."""

    return app


def run(app: typer.Typer, *arguments: str) -> int:
    return console.run(app, "prog", arguments, FAILURES)


def test_success_is_zero_and_output_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program(), "work", "--count", "3") == 0
    assert capsys.readouterr() == ("done 3\n", "")


def test_a_command_may_end_with_a_code_of_its_own() -> None:
    assert run(program(code=1), "work") == 1
    assert run(program(error=typer.Exit(3)), "work") == 3


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("detector.yaml: no `kafka`;\n  add it"), 2),
        (BundleError("registry: no CURRENT bundle"), 1),
        (SourceError("no topic"), 1),
        (SinkError("not delivered"), 1),
        (MisconfiguredError("nothing can be used"), 1),
        (FileNotFoundError(2, "No such file or directory", "x.csv"), 1),
        (typer.Abort(), 1),
    ],
    ids=lambda part: type(part).__name__ if isinstance(part, BaseException) else str(part),
)
def test_errors_of_the_world_outside_are_one_line_on_stderr(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(program(error), "work") == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("prog: ")
    assert printed.err.count("\n") == 1
    assert len(printed.err) > len("prog: \n")


@pytest.mark.parametrize(
    "arguments",
    [["bogus"], ["work", "--count", "many"], ["work", "--speed", "3"], ["work", "stray"]],
)
def test_bad_usage_is_one_line_that_points_to_the_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(program(), *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("prog: ")
    assert printed.err.endswith("(try --help)\n")
    assert printed.err.count("\n") == 1


def test_no_arguments_show_the_help_and_count_as_bad_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(program()) == 2
    assert "work" in capsys.readouterr().out


def test_help_is_a_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program(), "work", "--help") == 0
    assert "--count" in capsys.readouterr().out


@pytest.mark.parametrize("error", [ValueError("ours"), AssertionError(), KeyError("x")])
def test_our_own_faults_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        run(program(error), "work")


def test_an_interrupt_ends_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program(KeyboardInterrupt()), "work") in {1, 130}  # typer's own code, or ours
    assert capsys.readouterr().err.count("\n") <= 1
