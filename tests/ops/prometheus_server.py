"""A real Prometheus for tests: own folder, free loopback port, always stopped.

    with prometheus_server({"stream-detector": ["127.0.0.1:9108"]}) as prometheus:
        prometheus.wait_for("up == 1")
        prometheus.query("stream_detector_turns_total")

Rule files can be given too, so that alert rules are evaluated by the same binary.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def binary(name: str) -> str:
    """Path of `prometheus` or `promtool`; without it the test is skipped, or fails in CI."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not on PATH; install Debian's package `prometheus` to run this test"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


class PrometheusError(Exception):
    """Prometheus did not start or refused a query; the message holds its own words."""


@dataclass(frozen=True)
class Prometheus:
    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant query: the series of the result, each {metric, value: [time, text]}."""
        result = self.get("/api/v1/query", query=expression)["result"]
        assert isinstance(result, list)
        return result

    def value(self, expression: str) -> float:
        """The one number that the query gives."""
        result = self.query(expression)
        if len(result) != 1:
            raise PrometheusError(f"{expression}: {len(result)} series instead of one")
        return float(result[0]["value"][1])

    def wait_for(self, expression: str, timeout: float = 30) -> list[dict[str, Any]]:
        """Ask until the query returns something."""
        deadline = time.monotonic() + timeout
        while not (result := self.query(expression)):
            if time.monotonic() > deadline:
                raise PrometheusError(f"{expression}: still nothing after {timeout:g} s")
            time.sleep(0.2)
        return result

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of an answer of the HTTP API."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise PrometheusError(f"{parameters}: {json.load(error).get('error')}") from error


@contextlib.contextmanager
def prometheus_server(
    targets: Mapping[str, Sequence[str]],
    *,
    rules: Sequence[Path] = (),
    scrape_interval: str = "1s",
) -> Iterator[Prometheus]:
    """`targets`: job -> host:port list. Ready to be asked when this yields."""
    program = binary("prometheus")
    config = {
        "global": {"scrape_interval": scrape_interval, "evaluation_interval": scrape_interval},
        "rule_files": [str(path.absolute()) for path in rules],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]}
            for job, addresses in targets.items()
        ],
    }
    with tempfile.TemporaryDirectory(prefix="prometheus-") as folder, contextlib.ExitStack() as end:
        home = Path(folder)
        (home / "prometheus.yml").write_text(yaml.safe_dump(config))
        port = _free_port()
        log = end.enter_context((home / "log").open("wb"))
        process = subprocess.Popen(
            [
                program,
                f"--config.file={home / 'prometheus.yml'}",
                f"--storage.tsdb.path={home / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        end.callback(_stop, process)
        server = Prometheus(f"http://127.0.0.1:{port}")
        _wait_until_ready(server, process, home / "log")
        yield server


def _wait_until_ready(server: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(150):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{server.url}/-/ready") as ready:
            if ready.status == 200:
                return
        time.sleep(0.1)
    raise PrometheusError(f"Prometheus did not start:\n{log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
