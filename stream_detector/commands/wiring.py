"""From configuration to a loop: what `run`, `replay` and the demo put together alike."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stream_detector.app import Loop, Settings, policy_of
from stream_detector.bundle import MANIFEST, Registry, load_bundle
from stream_detector.config import ConfigError, Fields, milliseconds
from stream_detector.core.engine import Engine
from stream_detector.core.groups import Groups
from stream_detector.core.policy import Policy
from stream_detector.formats.json import JsonDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from stream_detector.bundle import Bundle
    from stream_detector.config import DetectorConfig, Input
    from stream_detector.keeper import Keeping
    from stream_detector.ports import Model, ModelFeed, NormalStore, Sink, Source, Telemetry

GARBAGE = 50_000
"""Objects beyond those given back, after which the garbage collector looks at the new ones."""

SOURCE = "stream-detector"
"""Name of the stream where nobody gave one: replay and service then agree on event ids."""

NEEDS_PYARROW = '`store.url` needs pyarrow: pip install "stream-detector[store]"'


class SystemClock:
    """ports.Clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class NoTelemetry:
    """ports.Telemetry for those who look at the output alone."""

    def turn(self, progress: object) -> None: ...
    def lag(self, lag: object) -> None: ...
    def model(self, group: str, version: str) -> None: ...
    def reload(self, outcome: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """All that shapes verdicts; without a configuration file the defaults."""

    source: str
    policy: Policy
    decoder: JsonDecoder
    groups: Groups
    settings: Settings


def plan(config: DetectorConfig, earliest: int = 0) -> Plan:
    """`earliest`: least time of a sample, ms UTC."""
    limits, given, every = config.limits, config.input, config.time.tick_every
    routes = [(route.name or route.match, route.match) for route in config.routes]
    return Plan(
        source=config.source,
        policy=policy_of(config),
        decoder=decoder(given, earliest),
        groups=Groups(
            routes, missing=given.missing, max_ahead_ms=milliseconds(config.time.max_ahead)
        ),
        settings=Settings(
            events_topic=config.output.topic,
            dead_letter_topic=config.output.dead_letter_topic,
            max_batch=limits.max_batch,
            rejected_share=limits.rejected_share,
            rejected_window=limits.rejected_window,
            tick_every=None if every is None else milliseconds(every) / 1000,
        ),
    )


def decoder(given: Input, earliest: int = 0) -> JsonDecoder:
    """Of the records of the input topics."""
    return JsonDecoder(
        given.fields,
        max_record_bytes=given.max_record_bytes,
        max_samples=given.max_samples_per_record,
        max_series_length=given.max_series_length,
        earliest=earliest,
    )


def default_plan(
    routes: Mapping[str, str], policy: Policy | None = None, earliest: int = 0
) -> Plan:
    """`routes`: group -> glob; `earliest`: least time of a sample, ms UTC."""
    return Plan(
        source=SOURCE,
        policy=policy or Policy(),
        decoder=JsonDecoder(
            Fields(),
            max_record_bytes=1_048_576,
            max_samples=10_000,
            max_series_length=512,
            earliest=earliest,
        ),
        groups=Groups(list(routes.items())),
        settings=Settings(events_topic="events", dead_letter_topic="dead-letters"),
    )


def loop(
    plan: Plan,
    models: Mapping[str, Model],
    source: Source,
    sink: Sink,
    *,
    telemetry: Telemetry | None = None,
    feed: ModelFeed | None = None,
    store: NormalStore | None = None,
    keeping: Keeping | None = None,
) -> Loop:
    """The loop with its models in place. Raises ConfigError where a filter names no feature."""
    known = {name for model in models.values() for name in model.bundle.manifest.features}
    for name, _ in plan.policy.min_absolute:
        if name not in known:
            raise ConfigError(
                f"episodes.min_deviation.absolute: no model has a feature {name!r}; "
                f"there are {', '.join(sorted(known))}"
            )
    made = Loop(
        source=source,
        sink=sink,
        decoder=plan.decoder,
        groups=plan.groups,
        engine=Engine(plan.source, plan.policy),
        settings=plan.settings,
        telemetry=telemetry or NoTelemetry(),
        clock=SystemClock(),
        feed=feed,
        store=store,
        keeping=keeping,
    )
    for group, model in models.items():
        made.serve(group, model)
    return made


def open_bundle(place: Path) -> Bundle:
    """The CURRENT bundle of a registry, or the bundle in this very folder."""
    return load_bundle(place) if (place / MANIFEST).exists() else Registry(place).load()


@contextmanager
def settled() -> Iterator[None]:
    """What was made so far is there to stay: the garbage collector does not look at it again.

    Else it goes through all of it, most of it torch's, again and again, and stands still for a
    fifth of a second each time. A batch's records and samples, which are gone after it, are no
    reason to look for garbage either.
    """
    usual = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


class Stop:
    """True once SIGTERM or SIGINT came; a second one ends the process at once."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        return self._asked

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:  # noqa: ARG002  # the signal module's form
        self._asked = True
        signal.signal(number, signal.SIG_DFL)


def _in_one_line(record: logging.LogRecord) -> bool:
    """The Kafka client logs what heals by itself with a traceback: keep its last line."""
    if record.name.startswith("kafka.") and record.exc_info:
        record.msg, record.args = f"{record.getMessage()}: {record.exc_info[1]}", None
        record.exc_info = record.exc_text = None
    return True


def log_to_stderr() -> None:
    """One line an entry, time in UTC."""
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(_in_one_line)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("kafka").setLevel(logging.WARNING)
    # It warns of every pause of a tenth of a second, which a busy machine has all day.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
