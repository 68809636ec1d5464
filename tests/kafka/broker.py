"""A real Apache Kafka broker for the tests: found, started in Docker, or started from Maven's jars.

Nothing here is specific to the detector; the fixtures are in conftest.py.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from testcontainers.core.container import DockerContainer

KAFKA_VERSION = "4.3.0"
HERE = Path(__file__).parent
MISSING = (
    "no Apache Kafka for the tests. Give one of: KAFKA_BOOTSTRAP_SERVERS=host:port of a running "
    "broker; a running Docker engine (KAFKA_TEST_IMAGE names another image than "
    f"apache/kafka:{KAFKA_VERSION}); Java 17 or newer together with Maven"
)


class BrokerUnavailableError(Exception):
    """No way to a broker works on this machine; the message names every way that was tried."""


@contextlib.contextmanager
def broker() -> Iterator[list[str]]:
    """Bootstrap servers of a broker; one that was started here is stopped on leaving."""
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if servers:
        yield [server.strip() for server in servers.split(",")]
    elif _docker_answers():
        with _container() as address:
            yield [address]
    elif shutil.which("java") and shutil.which("mvn"):
        with _process() as address:
            yield [address]
    else:
        raise BrokerUnavailableError(MISSING)


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


@contextlib.contextmanager
def _container() -> Iterator[str]:
    """The image's own KRaft broker; the port is the same inside and outside the container."""
    from docker.errors import DockerException  # type: ignore[import-untyped] # noqa: PLC0415 - has no types; only with Docker
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - only with Docker

    port, controller = free_ports(2)
    image = os.environ.get("KAFKA_TEST_IMAGE", f"apache/kafka:{KAFKA_VERSION}")
    container = DockerContainer(image)
    container.with_bind_ports(port, port)
    for key, value in properties(port, controller, inside="0.0.0.0").items():
        container.with_env("KAFKA_" + key.replace(".", "_").upper(), str(value))
    try:
        try:
            container.start()
        except DockerException as error:
            message = f"Docker could not start {image}: {error}. {MISSING}"
            raise BrokerUnavailableError(message) from error
        _wait_until_logged(container, image)
        yield f"127.0.0.1:{port}"
    finally:
        container.stop()


def _wait_until_logged(container: DockerContainer, image: str) -> None:
    """Until the broker says that it serves; its port answers earlier, at Docker's proxy."""
    deadline = time.monotonic() + 120
    while True:
        container.reload()
        # Asked before the log is read: the log of a container that ended is then complete.
        ended = container.status not in {"created", "running"}
        log = b"".join(container.get_logs())
        if b"Kafka Server started" in log:
            return
        if ended or time.monotonic() > deadline:
            tail = log.decode("utf-8", "replace")[-2000:]
            raise BrokerUnavailableError(f"{image} did not start; its log ends with: {tail}")
        time.sleep(0.5)


def jars() -> Path:
    """The folder with the broker's jars; Maven fills it on first use."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stream-detector"
    folder = cache / f"kafka-{KAFKA_VERSION}"
    if (folder / f"kafka_2.13-{KAFKA_VERSION}.jar").exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    # Copied beside the final name and renamed: an interrupted copy must never look complete.
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        target = Path(scratch) / "jars"
        command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={target}"],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode:
            tail = " ".join((done.stdout + done.stderr).split())[-500:]
            raise BrokerUnavailableError(f"Maven could not fetch Apache Kafka: {tail}. {MISSING}")
        with contextlib.suppress(OSError):  # another test run was faster
            target.rename(folder)
    return folder


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def properties(port: int, controller: int, inside: str = "127.0.0.1") -> dict[str, str | int]:
    """A broker for one machine; it listens on the address `inside`."""
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        # Voters, not bootstrap servers: the image formats its storage for fixed voters only.
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://{inside}:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "auto.create.topics.enable": "false",
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 200,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
    }


class LocalBroker:
    """One KRaft broker as a child process, with its own folder, on free loopback ports."""

    def __init__(self, changes: Mapping[str, str | int] | None = None, cluster: str = "") -> None:
        """`changes` to the usual properties; `cluster` is `cluster_id()` where several join.

        Raises BrokerUnavailableError where Java or the jars are missing.
        """
        if not (shutil.which("java") and shutil.which("mvn")):
            raise BrokerUnavailableError("no Java 17 together with Maven to start a broker with")
        # Brokers of tests live for seconds: what warms up for hours costs twice the CPU until then.
        brief = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        self._java = ["java", "-Xmx512m", *brief, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        self._java += ["-cp", str(jars() / "*")]
        self._folder = Path(tempfile.mkdtemp(prefix="stream-detector-kafka-"))
        self._process: subprocess.Popen[bytes] | None = None
        port, controller = free_ports(2)
        settings = properties(port, controller) | {"log.dirs": str(self._folder / "logs")}
        settings |= changes or {}
        self.port = int(str(settings["listeners"]).split(",")[0].rpartition(":")[2])
        self._properties = self._folder / "server.properties"
        lines = "".join(f"{key}={value}\n" for key, value in settings.items())
        self._properties.write_text(lines, "utf-8")
        atexit.register(self.close)
        formatting = ["format", "-t", cluster or cluster_id(), "-c", str(self._properties)]
        subprocess.run(
            [*self._java, "kafka.tools.StorageTool", *formatting],
            check=True,
            capture_output=True,
            timeout=60,
        )

    def start(self, *, wait: bool = True) -> None:
        # A test run that is killed outright takes its broker with it, where Linux offers that.
        leash = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with (self._folder / "broker.log").open("ab") as output:
            self._process = subprocess.Popen(
                [*leash, *self._java, "kafka.Kafka", str(self._properties)],
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C goes to the whole terminal group, and the tests need their broker to
                # clean up.
                start_new_session=True,
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until it listens. Raises BrokerUnavailableError."""
        assert self._process is not None
        _wait_until_listening(self._process, self.port, self._folder / "broker.log")

    def stop(self, *, hard: bool = False) -> None:
        """What it holds stays on the disk; `hard`: without a last word."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        if not hard:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        process.kill()
        process.wait()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.close)


def cluster_id() -> str:
    # A first byte of zero: an id that begins with a dash would be taken for an option.
    return base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")


@contextlib.contextmanager
def _process() -> Iterator[str]:
    local = LocalBroker()
    try:
        local.start()
        yield f"127.0.0.1:{local.port}"
    finally:
        local.close()


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    tail = log.read_text("utf-8", "replace")[-2000:]
    raise BrokerUnavailableError(f"the Kafka broker did not start; its log ends with: {tail}")
