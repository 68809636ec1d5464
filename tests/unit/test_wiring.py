"""What configuration and bundles must have in common, told before anything runs."""

from __future__ import annotations

import gc
import weakref

import pytest

from stream_detector.adapters.memory import MemoryBroker
from stream_detector.app import policy_of
from stream_detector.commands import wiring
from stream_detector.config import ConfigError, DetectorConfig, parse_yaml
from stream_detector.core.policy import Policy
from tests.fakes import model

CONFIG = """
kafka: {bootstrap_servers: [localhost:9092], group_id: g}
input: {topics: [t]}
output: {topic: e, dead_letter_topic: d}
model: {registry: r}
episodes:
  quiet_period: 1
  close_below: 0.1
  direction: above
  min_deviation: {absolute: {value: 5}, relative: 0.2}
  flatline_after: null
  silence: false
"""


def test_the_policy_has_what_the_configuration_says_of_episodes() -> None:
    assert policy_of(parse_yaml(CONFIG, DetectorConfig, "detector.yaml", {})) == Policy(
        quiet_period=1,
        close_below=0.1,
        direction="above",
        min_absolute=(("value", 5.0),),
        min_relative=0.2,
        flatline_after=None,
        silence=False,
    )


def test_a_configuration_without_episodes_means_the_policy_as_it_is() -> None:
    text = CONFIG[: CONFIG.index("episodes:")]
    assert policy_of(parse_yaml(text, DetectorConfig, "detector.yaml", {})) == Policy()


def test_idle_partitions_get_ticks_unless_the_configuration_says_never() -> None:
    text = CONFIG[: CONFIG.index("episodes:")]
    for given, seconds in (("", 10.0), ("time: {tick_every: 1m}", 60.0)):
        config = parse_yaml(text + given, DetectorConfig, "detector.yaml", {})
        assert wiring.plan(config).settings.tick_every == seconds
    config = parse_yaml(text + "time: {tick_every: null}", DetectorConfig, "detector.yaml", {})
    assert wiring.plan(config).settings.tick_every is None
    assert wiring.default_plan({}).settings.tick_every is None


def test_a_least_deviation_of_a_feature_that_no_model_has_is_refused() -> None:
    broker = MemoryBroker()
    broker.append("t", b"{}")
    ends = broker.source(["t"], "g"), broker.sink()
    for name in ("value", "temperature"):
        plan = wiring.default_plan({"g": "*"}, Policy(min_absolute=((name, 5.0),)))
        if name == "value":
            wiring.loop(plan, {"g": model()}, *ends)
            continue
        with pytest.raises(ConfigError, match="no model has a feature 'temperature'; there are"):
            wiring.loop(plan, {"g": model()}, *ends)


class Knot:
    """Garbage that only the collector can find."""

    def __init__(self) -> None:
        self.me = self


def test_what_is_settled_is_left_alone_by_the_garbage_collector_and_only_that() -> None:
    usual = gc.get_threshold()
    with wiring.settled():
        assert gc.get_freeze_count() > 1000
        later = weakref.ref(Knot())
        gc.collect()
        assert later() is None
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == usual
