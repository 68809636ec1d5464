"""From configuration to what keeps state over restarts."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import msgspec

from stream_detector.config import ConfigError, milliseconds
from stream_detector.keeper import Keeping
from stream_detector.ports import SnapshotError
from stream_detector.records import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import ExitStack

    from stream_detector.config import DetectorConfig
    from stream_detector.ports import ModelLibrary, Rewindable, SnapshotStore


class Background(Executor):
    """One thread that the end of the process does not wait for, whatever hangs in it."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._cancelled = False
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            if self._cancelled or not future.set_running_or_notify_cancel():
                future.cancel()
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  # as every executor does
                future.set_exception(error)

        self._work.put(work)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  # Executor's own form
        """What is running is left alone; `wait` is for others."""
        self._cancelled = cancel_futures
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def keeping(
    config: DetectorConfig,
    source: Rewindable,
    partitions: Mapping[str, int],  # of each input topic
    library: ModelLibrary,
    stack: ExitStack,
) -> Keeping:
    """Raises ConfigError where snapshots.url cannot be used; `stack` ends the writer."""
    store = writer = None
    if config.snapshots.url is not None:
        store = snapshot_store(config)
        writer = Background("snapshots")
        stack.callback(writer.shutdown, cancel_futures=True)
    return Keeping(
        source=source,
        cfg=shaping(config),
        parts=partitions,
        max_replay=config.restore.max_replay,
        library=library,
        store=store,
        writer=writer,
        every=milliseconds(config.snapshots.every) / 1000,
        keep=config.snapshots.keep,
        target=config.restore.target_seconds,
    )


def snapshot_store(config: DetectorConfig) -> SnapshotStore:
    """Raises ConfigError where the URL cannot be used."""
    from stream_detector.adapters.snapshots import open_snapshots  # noqa: PLC0415

    assert config.snapshots.url is not None  # whoever calls has looked
    try:
        return open_snapshots(config.snapshots.url, config.kafka.group_id)
    except ImportError as error:
        raise ConfigError(
            '`snapshots.url` of an object store needs pyarrow: pip install "stream-detector[store]"'
        ) from error
    except SnapshotError as error:
        raise ConfigError(str(error)) from error


def shaping(config: DetectorConfig) -> str:
    """Digest of the keys that decide what a record does to state: another budget changes none.

    Features, scales, smoothing and transforms belong to the models and are told by the state.
    """
    given = config.input
    routes = [(route.name or route.match, route.match) for route in config.routes]
    parts = (given.format, given.fields, given.missing, given.hold_limit, routes, config.time)
    limits = (given.max_samples_per_record, given.max_record_bytes, given.max_series_length)
    return digest(msgspec.json.encode((*parts, *limits)).decode())[:16]
