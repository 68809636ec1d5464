"""`stream-detector run`: the service, on Kafka."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from stream_detector.app import policy_of
from stream_detector.bundle import Registry
from stream_detector.commands import wiring
from stream_detector.commands.check import refuse_compacted
from stream_detector.commands.keeping import keeping
from stream_detector.config import ConfigError, DetectorConfig, load_yaml, milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.bundle import Bundle
    from stream_detector.ports import Model, NormalStore, Rewindable, Sink

_log = logging.getLogger("stream_detector.run")


def run(
    *,
    config: Annotated[Path, typer.Option(help="detector.yaml", show_default=False)],
) -> None:
    """Consume samples, score every new window, publish anomaly events; until SIGTERM.

    Finishes its batch, commits and leaves its consumer group before it ends. Metrics and health
    are served on http.port.
    """
    settings = load_yaml(config, DetectorConfig)
    wiring.log_to_stderr()
    stop = wiring.Stop()
    stop.listen()
    serve(settings, stop)


class Ends(NamedTuple):
    source: Rewindable
    sink: Sink
    partitions: int  # of all input topics


def kafka(config: DetectorConfig) -> Ends:
    """Both ends on Kafka. Raises ConfigError for input that does not keep every sample."""
    from stream_detector.adapters.kafka import KafkaSink, KafkaSource, topics  # noqa: PLC0415

    found = topics(config.kafka, config.input.topics)
    refuse_compacted(config, found)
    sink = KafkaSink(config.kafka, config.output)
    try:
        source = KafkaSource(
            config.kafka,
            config.input.topics,
            config.input.start,
            milliseconds(config.commit_every),
        )
    except BaseException:
        sink.close()
        raise
    return Ends(source, sink, sum(topic.partitions for topic in found.values()))


def serve(
    config: DetectorConfig,
    stop: Callable[[], bool],
    connect: Callable[[DetectorConfig], Ends] = kafka,
) -> None:
    """Build everything, turn until `stop`, take everything down in order."""
    from stream_detector.adapters.bundle_library import BundleLibrary  # noqa: PLC0415
    from stream_detector.adapters.bundle_watcher import BundleWatcher  # noqa: PLC0415
    from stream_detector.adapters.http import HealthState, HttpServer  # noqa: PLC0415
    from stream_detector.adapters.prometheus import PrometheusTelemetry  # noqa: PLC0415
    from stream_detector.adapters.telemetry import Fanout  # noqa: PLC0415
    from stream_detector.adapters.torch_scorer import load_model  # noqa: PLC0415

    def load(bundle: Bundle) -> Model:
        return load_model(bundle, config.device, config.threads)

    plan = wiring.plan(config)
    with ExitStack() as stack:
        health = HealthState()
        prometheus = PrometheusTelemetry()
        server = HttpServer(config.http, health, prometheus.exposition)
        stack.callback(server.close)
        _log.info("metrics and health at %s", server.url)
        telemetry = Fanout(prometheus, health)

        registries = {route.name or route.match: Path(route.registry) for route in config.routes}
        models = {}
        for group, path in registries.items():
            if stop():
                return  # asked to end while starting: nothing was read yet
            models[group] = load(Registry(path).load())
        features = {group: model.bundle.manifest.features for group, model in models.items()}
        for group, model in models.items():
            prometheus.metrics.declare(group, model.bundle.manifest.scales)
            _log.info("group %s: bundle %s", group, model.bundle.version)

        def report(group: str, outcome: str, detail: str) -> None:
            _log.error("group %s: new bundle %s: %s; the old one serves on", group, outcome, detail)
            telemetry.reload(outcome)

        feed = BundleWatcher(
            registries,
            {group: model.bundle.version for group, model in models.items()},
            load,
            milliseconds(config.reload_every) / 1000,
            report,
        )
        stack.callback(feed.close)
        store = None
        if config.store.url is not None:
            store = open_store(config, features)
            stack.callback(store.close)
        if stop():
            return
        source, sink, partitions = connect(config)
        stack.callback(sink.close)
        stack.callback(source.close)
        loop = wiring.loop(
            replace(plan, policy=policy_of(config, partitions)),
            models,
            source,
            sink,
            telemetry=telemetry,
            feed=feed,
            store=store,
            keeping=keeping(config, source, partitions, BundleLibrary(registries, load), stack),
        )
        loop.run(stop)
    _log.info("stopped, offsets committed")


def open_store(config: DetectorConfig, features: dict[str, list[str]]) -> NormalStore:
    try:
        from stream_detector.adapters.store import ParquetStore  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(wiring.NEEDS_PYARROW) from error
    return ParquetStore(config.store, features)
