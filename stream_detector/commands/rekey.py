"""`stream-detector rekey`: copy a topic into one whose records are keyed by series."""

from __future__ import annotations

import json
import logging
import time
from contextlib import ExitStack
from dataclasses import asdict, astuple
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

import msgspec
import typer

from stream_detector.commands import wiring
from stream_detector.config import ConfigError, DetectorConfig, load_yaml, milliseconds
from stream_detector.ports import SourceError
from stream_detector.rekeying import Copied, Copying, Rekeyer

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.ports import Clock, Polled, Sink, Source

_log = logging.getLogger("stream_detector.rekey")

TELL_EVERY = 10.0  # s


def rekey(
    *,
    config: Annotated[Path, typer.Option(help="detector.yaml", show_default=False)],
    topic: Annotated[
        str | None, typer.Option(help="Topic to write to; left out: rekey.topic.")
    ] = None,
    create_topic: Annotated[
        bool,
        typer.Option(
            "--create-topic", help="Create it with as many partitions as the input, if absent."
        ),
    ] = False,
    until_idle: Annotated[
        str | None,
        typer.Option(help="End after this long without a record: 10s. Left out: on SIGTERM."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Summary as one JSON object.")] = False,
) -> None:
    """Copy samples into a topic keyed by series, so that each series lies in one partition.

    Values and Kafka timestamps stay as they are, headers are left behind. A record with samples of
    several series becomes one for each sample. What cannot be decoded goes to the dead-letter
    topic. At least once: after a crash some records are copied twice, and the detector drops them
    as duplicates. Read an unkeyed topic with one worker: only that keeps its partitions in step.
    """
    settings = load_yaml(config, DetectorConfig)
    patience = None if until_idle is None else milliseconds(until_idle) / 1000
    target = target_of(settings, topic)
    wiring.log_to_stderr()
    stop = wiring.Stop()
    stop.listen()
    start = time.monotonic()
    copied = copy(settings, target, stop, kafka, create=create_topic, patience=patience)
    if as_json:
        seconds = round(time.monotonic() - start, 3)
        typer.echo(json.dumps({"topic": target, **asdict(copied), "seconds": seconds}))


class Ends(NamedTuple):
    source: Source
    sink: Sink


def target_of(config: DetectorConfig, topic: str | None = None) -> str:
    """The topic to write to. Raises ConfigError where there is none, or it would feed itself."""
    target = topic or config.rekey.topic
    if target is None:
        raise ConfigError("rekey.topic: name the topic to write to, or give --topic")
    for key, taken in (
        ("rekey.input_topics" if config.rekey.input_topics else "input.topics", inputs(config)),
        ("output", [config.output.topic, config.output.dead_letter_topic]),
    ):
        if target in taken:
            raise ConfigError(f"rekey.topic: {target} is a topic of `{key}` too; name another")
    return target


def inputs(config: DetectorConfig) -> list[str]:
    return config.rekey.input_topics or config.input.topics


def kafka(config: DetectorConfig, target: str, *, create: bool) -> Ends:
    """Both ends on Kafka. Raises SourceError where a topic is absent."""
    from stream_detector.adapters.kafka import (  # noqa: PLC0415
        KafkaSink,
        KafkaSource,
        create_topics,
        topics,
    )

    given = inputs(config)
    found = topics(config.kafka, [*given, target])
    if missing := [name for name in given if name not in found]:
        raise SourceError(f"no topic {', '.join(missing)} to copy; correct rekey.input_topics")
    if target not in found and not create:
        raise SourceError(f"no topic {target}; create it, or let --create-topic do so")
    if target not in found:
        count = max(found[name].partitions for name in given)
        # Copies keep their times: a shorter retention would delete old ones at once.
        kept = [found[name].retention_ms for name in given]
        retention = {"retention.ms": str(-1 if min(kept) < 0 else max(kept))}
        create_topics(config.kafka, {target: count}, settings=retention)
        _log.info("created topic %s with %d partitions", target, count)
    group = config.rekey.group_id or f"{config.kafka.group_id}-rekey"
    brokers = msgspec.structs.replace(config.kafka, group_id=group)
    sink = KafkaSink(brokers, config.output)
    try:
        commit_every = milliseconds(config.commit_every)
        known = {name: found[name].partitions for name in given}
        source = KafkaSource(brokers, given, config.rekey.start, commit_every, known=known)
    except BaseException:
        sink.close()
        raise
    return Ends(source, sink)


class Connect(Protocol):
    def __call__(self, config: DetectorConfig, target: str, /, *, create: bool) -> Ends: ...


def copy(
    config: DetectorConfig,
    target: str,
    stop: Callable[[], bool],
    connect: Connect = kafka,
    *,
    create: bool = False,
    patience: float | None = None,
) -> Copied:
    """Copy until `stop`, or until nothing came for `patience` seconds; close both ends."""
    clock = wiring.SystemClock()
    limits = config.limits
    copying = Copying(
        topic=target,
        dead_letter_topic=config.output.dead_letter_topic,
        max_batch=limits.max_batch,
        order_wait=milliseconds(config.rekey.order_wait) / 1000,
        rejected_share=limits.rejected_share,
        rejected_window=limits.rejected_window,
    )
    decoder = wiring.decoder(config.input)
    with ExitStack() as stack:
        source, sink = connect(config, target, create=create)
        stack.callback(sink.close)
        stack.callback(source.close)
        worker = Rekeyer(source, sink, decoder, copying, clock)
        watch = _Watch(source, patience, clock)
        worker.run(lambda: stop() or watch.idle(), watch.turn)
    watch.tell(worker.copied)
    _log.info("stopped, offsets committed")
    return worker.copied


class _Watch:
    """Tells how far it is, and notes when nothing comes any more."""

    def __init__(self, source: Source, patience: float | None, clock: Clock) -> None:
        self._source = source
        self._patience = patience
        self._clock = clock
        self._busy = float("inf")  # nothing is awaited before the first assignment
        self._next = clock.monotonic() + TELL_EVERY

    def turn(self, copied: Copied, polled: Polled) -> None:
        now = self._clock.monotonic()
        if polled.records or polled.assigned:
            self._busy = now
        if now >= self._next:
            self._next = now + TELL_EVERY
            self.tell(copied, sum(self._source.lag().values()))

    def tell(self, copied: Copied, behind: int | None = None) -> None:
        _log.info(
            "%s records copied as %s messages, %s split, %s dead letters%s",
            *(f"{n:,}" for n in astuple(copied)),
            "" if behind is None else f"; {behind:,} to go",
        )

    def idle(self) -> bool:
        silent = self._clock.monotonic() - self._busy
        return self._patience is not None and silent >= self._patience
