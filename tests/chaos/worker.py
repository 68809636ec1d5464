"""One worker process: the product's own composition, with faulty ports, until it dies.

Imported by the server that workers are forked from: a start costs a fork, no imports.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import gc
import json
import logging
import os
import signal
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from kafka import KafkaProducer

from stream_detector.adapters import kafka as _kafka  # noqa: F401  # before the fork
from stream_detector.adapters import snapshots as _snapshots  # noqa: F401
from stream_detector.app import policy_of
from stream_detector.bundle import Registry
from stream_detector.commands import run, wiring
from stream_detector.commands.keeping import keeping
from stream_detector.config import DetectorConfig, load_yaml
from stream_detector.ports import SnapshotError
from stream_detector.records import Partition
from tests.chaos.faults import Journal, Orders, WorkerFaults
from tests.chaos.machine import CLOCK
from tests.chaos.samples import KNOWN
from tests.fakes import model
from tests.pipeline.restart_case import FaultySink, FaultySnapshots, FaultySource, Library

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stream_detector.ports import Model, Polled, Position, Rewindable, SnapshotStore, Start
    from stream_detector.records import Record, Rejected, Sample
    from stream_detector.restore import Decoder

CONFIG = "detector.yaml"
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Task:
    folder: Path
    number: int
    instance: str | None = None  # kafka.group_instance_id
    ends: Mapping[int, int] | None = None  # of partitions: leave when all is done, tell the state

    @property
    def orders(self) -> Path:
        return self.folder / f"orders-{self.number}"

    @property
    def journal(self) -> Path:
        return self.folder / f"journal-{self.number}"

    @property
    def clock(self) -> Path:
        return self.folder / f"clock-{self.number}"

    @property
    def log(self) -> Path:
        return self.folder / f"worker-{self.number}.log"

    @property
    def state(self) -> Path:
        return self.folder / f"state-{self.number}.json"


def load(config: DetectorConfig) -> dict[str, Model]:
    """The numpy scorer, or the TorchScript bundle where there is a registry."""
    models = {}
    for route in config.routes:
        if Path(route.registry).is_dir():
            from stream_detector.adapters.torch_scorer import load_model  # noqa: PLC0415

            found = load_model(Registry(Path(route.registry)).load(), "cpu", 1)
        else:
            found = model(known=KNOWN)
        models[route.name or route.match] = found
    return models


class Ledger:
    """Which records were dealt with live, each range in the journal once it is acknowledged."""

    def __init__(self, decoder: Decoder, journal: Journal) -> None:
        self._decoder = decoder
        self._journal = journal
        self._until: dict[Partition, int] = {}
        self._open: dict[Partition, list[int]] = {}

    def began(self, partition: Partition, offset: int) -> None:
        self._until[partition] = offset
        self._open.pop(partition, None)

    def decode(self, records: Sequence[Record]) -> tuple[list[Sample], list[Rejected]]:
        for record in records:
            partition = Partition(record.topic, record.partition)
            if record.offset >= self._until.get(partition, 0):
                self._open.setdefault(partition, []).append(record.offset)
        return self._decoder.decode(records)

    def acknowledged(self, positions: Mapping[Partition, Position]) -> None:
        for partition, position in positions.items():
            done = [at for at in self._open.get(partition, ()) if at < position.offset]
            self._open.pop(partition, None)
            if done:
                assert len(done) == done[-1] - done[0] + 1, "records were skipped"
                self._journal("dealt", partition.number, done[0], done[-1] + 1)


class JournalledSource(FaultySource):
    """Knows when a replay is under way, and what was dealt with."""

    def __init__(self, source: Rewindable, faults: WorkerFaults, ledger: Ledger) -> None:
        super().__init__(source, faults)  # type: ignore[arg-type]  # any that is called at places
        self._at = faults
        self._ledger = ledger
        self._until: dict[Partition, int] = {}

    def start(self, partition: Partition) -> Start | None:
        found = super().start(partition)
        if found is not None:
            self._until[partition] = found.offset
            self._ledger.began(partition, found.offset)
        return found

    def poll(self, timeout: float, max_records: int) -> Polled:
        self._at.look_at_the_clock()
        polled = super().poll(timeout, max_records)
        for record in polled.records:
            place = Partition(record.topic, record.partition)
            if record.offset < self._until.get(place, 0):
                self._at("in the midst of a replay")
                break
        return polled

    def acknowledge(self, positions: Mapping[Partition, Position]) -> None:
        super().acknowledge(positions)
        self._ledger.acknowledged(positions)


class JournalledSnapshots(FaultySnapshots):
    """Tells when the disk was full."""

    def __init__(self, store: SnapshotStore, faults: WorkerFaults, journal: Journal) -> None:
        super().__init__(store, faults)  # type: ignore[arg-type]
        self._journal = journal

    def write(self, partition: Partition, name: str, parts: Sequence[bytes | memoryview]) -> None:
        try:
            super().write(partition, name, parts)
        except SnapshotError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC:
                self._journal("full", partition.number)
            raise


def _harm_system(faults: WorkerFaults) -> None:
    """Files are synced and renamed, transactions committed, all by way of faults."""
    sync, rename = os.fsync, os.replace

    def synced(file: int) -> None:
        faults("before a file is synced")
        sync(file)

    def renamed(old: str, new: str) -> None:
        faults("before a file is renamed")
        rename(old, new)

    os.fsync, os.replace = synced, renamed  # type: ignore[assignment]
    # libfaketime refuses to sleep until a time of a clock that it leaves alone.
    time.sleep = threading.Event().wait  # type: ignore[assignment]

    def committed(producer: KafkaProducer) -> None:
        faults("offsets are in the transaction")
        faults("the transaction is being committed")
        commit(producer)
        faults("the transaction is committed")

    commit = KafkaProducer.commit_transaction
    KafkaProducer.commit_transaction = committed


def work(task: Task) -> None:
    """The process: until SIGTERM, a fault, or all is done."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    gc.freeze()  # what was imported before the fork is not looked through again and again
    os.environ[CLOCK] = str(task.clock)
    log = os.open(task.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    wiring.log_to_stderr()
    logging.getLogger("kafka.coordinator").setLevel(logging.INFO)  # who joined, and when
    faulthandler.register(signal.SIGUSR1)  # where all threads are, told to the log
    stop = wiring.Stop()
    stop.listen()
    journal = Journal(task.journal)
    faults = WorkerFaults(Orders(task.orders), journal)
    _harm_system(faults)
    config = load_yaml(task.folder / CONFIG, DetectorConfig)
    kafka = msgspec.structs.replace(config.kafka, group_instance_id=task.instance)
    tempfile.tempdir = str(task.folder)  # locks of transactional ids
    serve(task, msgspec.structs.replace(config, kafka=kafka), stop, journal, faults)


def serve(
    task: Task,
    config: DetectorConfig,
    stop: wiring.Stop,
    journal: Journal,
    faults: WorkerFaults,
) -> None:
    """As `commands.run` puts it together, but for metrics and reloads."""
    models = load(config)
    with ExitStack() as stack:
        ends = run.kafka(config, stack)
        plan = wiring.plan(config)
        ledger = Ledger(plan.decoder, journal)
        source = JournalledSource(ends.source, faults, ledger)
        kept = keeping(config, source, ends.partitions, Library(*models.values()), stack)
        assert kept.store is not None
        loop = wiring.loop(
            replace(
                plan,
                policy=policy_of(config, sum(ends.partitions.values())),
                decoder=ledger,  # type: ignore[arg-type]  # decodes as the plan's does
            ),
            models,
            source,
            FaultySink(ends.sink, faults),  # type: ignore[arg-type]
            keeping=replace(kept, store=JournalledSnapshots(kept.store, faults, journal)),
        )
        journal("ready")
        if task.ends is None:
            loop.run(stop)
            return
        topic = config.input.topics[0]
        places = {Partition(topic, n): end for n, end in task.ends.items()}

        def finished() -> bool:
            there = all(source.at(place) >= end for place, end in places.items())
            assert loop._keeper is not None
            return stop() or (there and not loop._keeper.busy and not loop._keeper.restoring)

        loop.run(finished)
        state = {place.number: loop._engine.digest(place) for place in places}
    task.state.write_text(json.dumps(state))
