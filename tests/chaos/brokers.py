"""Brokers that can be restarted, clusters that lose a leader, and a network that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.errors import RetriableError

from stream_detector import config
from stream_detector.adapters.kafka import create_topics
from tests.kafka.broker import LocalBroker, cluster_id, free_ports
from tests.kafka.reading import read_all, settled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from stream_detector.records import Message
    from tests.chaos.samples import Put


class Proxy:
    """Passes bytes on to a port of this machine, until the network is cut."""

    def __init__(self) -> None:
        self.target = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._passing = asyncio.Event()
        self._passing.set()
        self._server = self._do(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self, seconds: float) -> None:
        """Nothing passes, in silence; halfway all connections break."""
        self._loop.call_soon_threadsafe(self._passing.clear)
        time.sleep(seconds / 2)
        self._loop.call_soon_threadsafe(self._break)
        time.sleep(seconds / 2)
        self._loop.call_soon_threadsafe(self._passing.set)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._break)
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    def _break(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._passing.wait()
            there, onward = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(onward)
        await asyncio.gather(self._pump(reader, onward), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._passing.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
        self._writers.discard(writer)


class Lane:
    """Brokers, and the parent's own clients of them."""

    def __init__(self, nodes: int = 1, *, proxied: bool = False) -> None:
        self.proxy = Proxy() if proxied else None
        self.nodes = [LocalBroker(each, cluster) for each, cluster in _settings(nodes, self.proxy)]
        try:
            for node in self.nodes:
                node.start(wait=False)
            for node in self.nodes:
                node.wait()
            self.servers = [f"127.0.0.1:{node.port}" for node in self.nodes]
            self.for_workers = [f"127.0.0.1:{self.proxy.port}"] if self.proxy else self.servers
            self._producer = KafkaProducer(
                bootstrap_servers=self.servers, acks="all", enable_idempotence=True, linger_ms=2
            )
        except BaseException:
            self.close()
            raise

    def kafka(self, group: str) -> config.Kafka:
        return config.Kafka(bootstrap_servers=self.servers, group_id=group)

    def create(self, partitions: Mapping[str, int]) -> None:
        # The samples are old: nothing is deleted but on purpose.
        create_topics(self.kafka("unused"), partitions, settings={"retention.ms": "-1"})

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        """Until a broker answers: the client may turn to the one that is down."""
        deadline = time.monotonic() + 60
        while True:
            try:
                client = KafkaAdminClient(bootstrap_servers=self.servers)
                with contextlib.closing(client) as admin:
                    return question(admin)
            except RetriableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def drop(self, topics: Iterable[str]) -> None:
        self._ask(lambda admin: admin.delete_topics(list(topics)))

    def put(self, topic: str, records: Iterable[Put]) -> None:
        for put in records:
            self._producer.send(
                topic, put.value, put.key, partition=put.partition, timestamp_ms=put.time
            )
        self._producer.flush(60)

    def trim(self, topic: str, partition: int, offset: int) -> None:
        place = TopicPartition(topic, partition)
        self._ask(lambda admin: admin.delete_records({place: offset}))

    def messages(self, topic: str, isolation: str) -> list[Message]:
        """Everything in the topic that is not of a transaction that was given up."""
        if isolation == "read_committed":
            settled(self.servers, topic)
        return read_all(self.servers, topic, isolation)

    def leader(self, topic: str) -> int:
        """Which of the nodes leads the first partition."""
        (found,) = self._ask(lambda admin: admin.describe_topics([topic]))
        return int(found["partitions"][0]["leader_id"]) - 1

    def close(self) -> None:
        if hasattr(self, "_producer"):
            self._producer.close(timeout=5)
        for node in self.nodes:
            node.close()
        if self.proxy is not None:
            self.proxy.close()


def _settings(nodes: int, proxy: Proxy | None) -> list[tuple[dict[str, str | int], str]]:
    """Properties of each node, beside the usual ones, and the cluster's id."""
    ports = free_ports(2 * nodes)
    own, controllers = ports[:nodes], ports[nodes:]
    voters = ",".join(f"{n}@127.0.0.1:{port}" for n, port in enumerate(controllers, 1))
    replicas, least = (3, 2) if nodes >= 3 else (1, 1)
    found, name = [], cluster_id()
    for number, (port, controller) in enumerate(zip(own, controllers, strict=True), 1):
        settings: dict[str, str | int] = {
            "node.id": number,
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "default.replication.factor": replicas,
            "min.insync.replicas": least,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": least,
            "broker.session.timeout.ms": 3000,
            "replica.lag.time.max.ms": 3000,
        }
        if proxy is not None:
            (proxy.target,) = free_ports(1)
            settings["listeners"] = f"{settings['listeners']},PROXIED://127.0.0.1:{proxy.target}"
            settings["advertised.listeners"] = (
                f"PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxy.port}"
            )
            settings["listener.security.protocol.map"] = (
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT"
            )
        found.append((settings, name))
    return found
