"""What keeps state over restarts, put together from the configuration."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from stream_detector.adapters.bundle_library import BundleLibrary
from stream_detector.adapters.memory import MemoryBroker
from stream_detector.bundle import Bundle, BundleError, Registry
from stream_detector.commands.keeping import keeping, shaping
from stream_detector.config import ConfigError, DetectorConfig, parse_yaml
from stream_detector.formats import checkpoint
from stream_detector.formats.checkpoint import Checkpoint
from tests.fakes import model

if TYPE_CHECKING:
    from pathlib import Path

    from stream_detector.ports import Model

BASE = """
kafka: {bootstrap_servers: ["none:0"], group_id: team/one}
input: {topics: [sensors]}
output: {topic: anomalies, dead_letter_topic: dead-letters}
model: {registry: registry}
"""


def config(more: str = "", base: str = BASE) -> DetectorConfig:
    return parse_yaml(base + more, DetectorConfig, environment={})


@pytest.mark.parametrize(
    "more",
    [
        "alarm_budget: 3",
        "threshold: {level: 4}",
        "episodes: {quiet_period: 5}",
        "limits: {max_batch: 7}",
        "http: {port: 1}",
        "snapshots: {every: 1m}",
        "device: cpu",
    ],
)
def test_what_does_not_shape_state_does_not_make_it_foreign(more: str) -> None:
    assert shaping(config(more)) == shaping(config())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("topics: [sensors]", "topics: [sensors], missing: reject"),
        ("topics: [sensors]", "topics: [sensors], hold_limit: 3"),
        ("topics: [sensors]", "topics: [sensors], fields: {series: name}"),
        ("topics: [sensors]", "topics: [sensors], fields: {template: '{a}'}"),
        ("registry: registry", "registry: registry, match: 'a*'"),
        ("model:", "time: {evict_after: 1d}\nmodel:"),
    ],
)
def test_what_shapes_state_makes_it_foreign(old: str, new: str) -> None:
    assert shaping(config(base=BASE.replace(old, new))) != shaping(config())


def test_snapshots_are_taken_only_where_there_is_a_place_for_them(tmp_path: Path) -> None:
    source = MemoryBroker().source(["sensors"], "g")
    library = BundleLibrary({}, lambda _: model())
    with ExitStack() as stack:
        none = keeping(config(), source, {"sensors": 4}, library, stack)
        assert (none.store, none.writer, none.parts) == (None, None, {"sensors": 4})
        more = f"snapshots: {{url: {tmp_path}, every: 90s, keep: 3}}\nrestore: {{max_replay: 7}}"
        some = keeping(config(more), source, {"sensors": 4}, library, stack)
        assert (some.every, some.keep, some.max_replay) == (90.0, 3, 7)
        assert some.writer is not None
        assert some.writer.submit(lambda: 5).result() == 5
    with ExitStack() as stack, pytest.raises(ConfigError, match=r"snapshots\.url: no://x"):
        keeping(config("snapshots: {url: 'no://x'}"), source, {}, library, stack)


def test_a_version_that_is_gone_or_broken_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(bundle: Bundle) -> Model:
        assert bundle is model_of_v1.bundle
        return model_of_v1

    def read(_: Registry, version: str | None = None) -> Bundle:
        if version == "broken":
            raise BundleError("its digest is wrong")
        return model_of_v1.bundle

    model_of_v1 = model()
    monkeypatch.setattr(Registry, "versions", lambda _: ["broken", "v1"])
    monkeypatch.setattr(Registry, "load", read)
    library = BundleLibrary({"g": tmp_path}, load)
    assert library.load("g", "v1") is model_of_v1
    assert library.load("g", "broken") is None
    assert library.load("g", "v2") is None
    assert library.load("other", "v1") is None


def test_a_checkpoint_comes_back_and_never_exceeds_what_brokers_take() -> None:
    said = Checkpoint(
        replay_from=7,
        snapshots=["7-a", "5-b"],
        cfg="c",
        parts=4,
        models={"g": [(5, "v1")]},
        doubted=6,
        ticks=[(7, 1_764_201_600_000)],
    )
    assert checkpoint.decode(checkpoint.encode(said)) == said
    many = {f"group-{n}": [(at, f"version-{at}") for at in range(9)] for n in range(40)}
    long = Checkpoint(replay_from=7, snapshots=["7-a"], cfg="c", parts=4, models=many)
    text = checkpoint.encode(long)
    assert len(text) <= checkpoint.LIMIT
    found = checkpoint.decode(text)
    assert found is not None
    assert (found.snapshots, found.models) == (["7-a"], {})
    crowded = Checkpoint(
        replay_from=7, snapshots=["7-a"], cfg="c", parts=4, ticks=[(10**15, 10**12)] * 200
    )
    assert len(checkpoint.encode(crowded)) <= checkpoint.LIMIT
