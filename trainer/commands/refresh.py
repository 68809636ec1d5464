"""`stream-trainer refresh`: rounds over all groups, once or for ever, and how they are told.

Adapters come as Ports from cli.py; nothing here imports one.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from stream_detector.bundle import BundleError, Registry
from stream_detector.config import ConfigError, Duration, ModelRoute, Store, load_yaml, milliseconds
from trainer.config import TrainerConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream_detector.bundle import Bundle
    from stream_detector.ports import Model, StoreReader
    from trainer.refresh import Verdict


@dataclass(frozen=True, slots=True)
class Ports:
    """What the commands need of the world outside."""

    load: Callable[[Bundle], Model]
    store: Callable[[Store], StoreReader]


class TerminatedError(BaseException):
    """SIGTERM or SIGINT came; not an Exception, so that no round mistakes it for its own."""


class Termination:
    """A signal ends the process at once, save while it is shielded: then right afterwards."""

    def __init__(self) -> None:
        self._asked = self._shielded = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """SIGTERM and SIGINT raise TerminatedError here; does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(number, self._ask) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    @contextmanager
    def shield(self) -> Iterator[None]:
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
            if self._asked:
                raise TerminatedError

    def _ask(self, _number: int, _frame: object) -> None:
        self._asked = True
        if not self._shielded:
            raise TerminatedError


class Round:
    """One pass over all groups; an error of one group does not keep the others from theirs."""

    def __init__(
        self, config: TrainerConfig, ports: Ports, stop: Termination, *, quiet: bool
    ) -> None:
        self._config = config
        self._ports = ports
        self._stop = stop
        self._quiet = quiet
        if config.refresh.store is None:
            raise ConfigError("refresh.store: name the folder of the normal store")
        if not config.refresh.routes:
            raise ConfigError("refresh.model: name the registry, or `models` by group")
        self._store = ports.store(Store(url=config.refresh.store))

    def run(self) -> tuple[list[Verdict], list[str]]:
        """Verdicts, and the errors of groups that got none."""
        verdicts, errors = [], []
        for route in self._config.refresh.routes:
            group = route.name or route.match
            try:
                verdicts.append(self._group(group, route))
            except (BundleError, OSError) as error:
                errors.append(f"{group}: {error}")
        return verdicts, errors

    def _group(self, group: str, route: ModelRoute) -> Verdict:
        from trainer.refresh import refresh  # noqa: PLC0415  # torch takes seconds

        return refresh(
            group, Registry(route.registry), self._store, self._ports.load, self._config,
            quiet=self._quiet, shield=self._stop.shield,
        )  # fmt: skip


def run_once(config: TrainerConfig, ports: Ports, *, as_json: bool) -> int:
    """Exit code: 0 with every verdict, promoted or not; 1 where a group got none."""
    verdicts, errors = Round(config, ports, Termination(), quiet=as_json).run()
    if as_json:
        typer.echo(_json(verdicts, errors))
    else:
        for verdict in verdicts:
            typer.echo(verdict.line())
    for error in errors:
        typer.echo(f"stream-trainer: {error}", err=True)
    return 1 if errors else 0


def run_for_ever(config: TrainerConfig, ports: Ports, every: float, *, as_json: bool) -> int:
    """A round every so many seconds until SIGTERM; then 0. One line on stderr for each group."""
    stop = Termination()
    rounds = Round(config, ports, stop, quiet=True)
    idle = threading.Event()
    try:
        with stop.handled():
            while True:
                try:
                    verdicts, errors = rounds.run()
                except Exception as error:  # noqa: BLE001  # the next round may fare better
                    verdicts, errors = [], [f"{type(error).__name__}: {error}"]
                if as_json:
                    typer.echo(_json(verdicts, errors))
                now = datetime.now(UTC).isoformat(timespec="seconds")
                for line in [*(v.line() for v in verdicts), *(f"failed: {e}" for e in errors)]:
                    typer.echo(f"{now} refresh {' '.join(line.split())}", err=True)
                idle.wait(every)
    except TerminatedError:
        return 0


def _json(verdicts: list[Verdict], errors: list[str]) -> str:
    body: dict[str, Any] = {"groups": [one.body() for one in verdicts], "errors": errors}
    return msgspec.json.encode(body).decode()


def register(app: typer.Typer, ports: Callable[[], Ports]) -> None:
    """Add `refresh` to the commands; `ports` is asked only when it runs."""

    @app.command("refresh")
    def refresh(
        *,
        config: Annotated[
            Path, typer.Option(help="trainer.yaml with a `refresh` section.", show_default=False)
        ],
        every: Annotated[
            str | None,
            typer.Option(help="Repeat at this interval, e.g. 6h, until SIGTERM. Left out: once."),
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="Print one JSON object a round, nothing else.")
        ] = False,
    ) -> None:
        """Train a challenger on what the detector stored, and promote it if it passes the gate.

        Samples that were called anomalous are left out with a margin. The challenger is compared
        with the CURRENT bundle on the latest slice: alarms on normal data, recall on injected
        anomalies. Exit code 0 whether it is promoted or not; the verdict says why.
        """
        settings = load_yaml(config, TrainerConfig)
        if every is None:
            code = run_once(settings, ports(), as_json=as_json)
        else:
            code = run_for_ever(settings, ports(), _seconds(every), as_json=as_json)
        raise typer.Exit(code)


def _seconds(every: str) -> float:
    try:
        return milliseconds(msgspec.convert(every, Duration)) / 1000
    except msgspec.ValidationError as error:
        raise ConfigError(f"--every {every}: write a number and ms, s, m, h or d") from error
