"""From configuration to what keeps state over restarts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from stream_detector.config import ConfigError, milliseconds
from stream_detector.keeper import Keeping
from stream_detector.ports import SnapshotError
from stream_detector.records import digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from stream_detector.config import DetectorConfig
    from stream_detector.ports import ModelLibrary, Rewindable, SnapshotStore


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
        writer = ThreadPoolExecutor(1, "snapshots")
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
