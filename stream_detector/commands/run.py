"""`stream-detector run`: the service, on Kafka."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from stream_detector.app import policy_of
from stream_detector.bundle import Registry
from stream_detector.commands import wiring
from stream_detector.commands.check import refuse_compacted
from stream_detector.commands.identity import transactional_id
from stream_detector.commands.keeping import keeping
from stream_detector.config import ConfigError, DetectorConfig, load_yaml, milliseconds
from stream_detector.core.repartition import OnRepartition, changed, objection, partitions_then
from stream_detector.ports import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream_detector.bundle import Bundle
    from stream_detector.ports import Model, NormalStore, Position, Rewindable, Sink
    from stream_detector.records import Partition

_log = logging.getLogger("stream_detector.run")


def run(
    *,
    config: Annotated[Path, typer.Option(help="detector.yaml", show_default=False)],
    on_repartition: Annotated[
        OnRepartition,
        typer.Option(
            help="What to do where an input topic has another number of partitions than at the "
            "last commit: refuse to start, or let series that moved be learnt anew."
        ),
    ] = "refuse",
) -> None:
    """Consume samples, score every new window, publish anomaly events; until SIGTERM.

    Finishes its batch, commits and leaves its consumer group before it ends. Metrics and health
    are served on http.port.
    """
    settings = load_yaml(config, DetectorConfig)
    wiring.log_to_stderr()
    stop = wiring.Stop()
    stop.listen()
    serve(settings, stop, partial(kafka, on_repartition=on_repartition))


class Ends(NamedTuple):
    source: Rewindable
    sink: Sink
    partitions: Mapping[str, int]  # input topic -> how many it has


def refuse_repartitioned(
    committed: Mapping[Partition, Position], now: Mapping[str, int], choice: OnRepartition
) -> dict[str, int]:
    """Topic -> partitions when its state was made; `now`: those that it has.

    Raises SourceError where they differ and nobody said that this is known.
    """
    then = partitions_then(((place, at.metadata) for place, at in committed.items()), now)
    if (problem := objection(then, now, choice)) is not None:
        raise SourceError(problem)
    for topic, (before, count) in changed(then, now).items():
        _log.warning(
            "topic %s has %d partitions, it had %d: series that moved are learnt anew",
            topic,
            count,
            before,
        )
    return dict(now) | then


def kafka(
    config: DetectorConfig, stack: ExitStack, on_repartition: OnRepartition = "refuse"
) -> Ends:
    """Both ends on Kafka, closed by `stack`.

    Raises ConfigError for input that does not keep every sample.
    """
    from stream_detector.adapters.kafka import (  # noqa: PLC0415
        KafkaSink,
        KafkaSource,
        Transactions,
        committed,
        topics,
    )

    found = topics(config.kafka, config.input.topics)
    refuse_compacted(config, found)
    now = {name: topic.partitions for name, topic in found.items()}
    known = refuse_repartitioned(committed(config.kafka), now, on_repartition)
    transactions = None
    if config.delivery == "exactly_once":
        name = transactional_id(config.kafka, stack)
        _log.info("exactly once, transactional id %s", name)
        transactions = Transactions(config.kafka, config.output, name)
    sink = transactions or KafkaSink(config.kafka, config.output)
    stack.callback(sink.close)
    source = KafkaSource(
        config.kafka,
        config.input.topics,
        config.input.start,
        milliseconds(config.commit_every),
        known=known,
        transactions=transactions,
    )
    stack.callback(source.close)
    return Ends(source, sink, now)


def serve(
    config: DetectorConfig,
    stop: Callable[[], bool],
    connect: Callable[[DetectorConfig, ExitStack], Ends] = kafka,
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
        prometheus.metrics.declare_topics(config.input.topics)

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
        source, sink, partitions = connect(config, stack)
        loop = wiring.loop(
            replace(plan, policy=policy_of(config, sum(partitions.values()))),
            models,
            source,
            sink,
            telemetry=telemetry,
            feed=feed,
            store=store,
            keeping=keeping(config, source, partitions, BundleLibrary(registries, load), stack),
        )
        with wiring.settled():
            loop.run(stop)
    _log.info("stopped, offsets committed")


def open_store(config: DetectorConfig, features: dict[str, list[str]]) -> NormalStore:
    try:
        from stream_detector.adapters.store import ParquetStore  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(wiring.NEEDS_PYARROW) from error
    return ParquetStore(config.store, features)
