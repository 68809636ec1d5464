"""`stream-detector run` as a process of its own, for tests: started, asked, stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import IO, TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from prometheus_client import Metric

PATIENCE = 90.0  # s; the machine may be busy with other things


def until(done: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Ask again and again; fails, saying what was waited for, after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not done():
        assert time.monotonic() < deadline, f"waited {patience:g} s in vain: {what}"
        time.sleep(0.05)


class Command:
    """A process of `stream-detector`; its output goes to a file."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        self.started = time.monotonic()
        self._file: IO[bytes] = log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stream_detector", *arguments],
            stdout=self._file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    @property
    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def wait(self, patience: float = PATIENCE) -> int:
        """The exit code."""
        return self.process.wait(patience)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._file.close()


class Service(Command):
    """`run`, whose configuration asks for any free port. Leaving the context kills it."""

    def __init__(self, config: Path, log: Path) -> None:
        super().__init__(log, "run", "--config", str(config))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(f"the service said:\n{self.output[-4000:]}")
        self.close()

    @property
    def url(self) -> str | None:
        found = re.search(r"metrics and health at (http://\S+)", self.output)
        return found and found[1].rstrip("/")

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; status 0 while nobody answers."""
        assert self.process.poll() is None, f"ended with {self.process.returncode}"
        if self.url is None:
            return 0, ""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> Self:
        until(lambda: self.get("/readyz")[0] == 200, "the service to be ready")
        return self

    def metrics(self) -> dict[str, Metric]:
        """Name -> family."""
        return {family.name: family for family in self._families()}

    def _families(self) -> list[Metric]:
        status, body = self.get("/metrics")
        return list(text_string_to_metric_families(body)) if status == 200 else []

    def value(self, name: str, **labels: str) -> float:
        """Sum of the samples of that name that have these labels."""
        return sum(
            sample.value
            for family in self._families()
            for sample in family.samples
            if sample.name == f"stream_detector_{name}" and labels.items() <= sample.labels.items()
        )

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()
