"""A running detector picks up whole bundles, refuses broken ones once, and never waits for either.

After SeldonIO/MLServer's tests/test_registry.py: slow and broken models are test data.
"""

from __future__ import annotations

import shutil
import threading
import time
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest

from stream_detector.adapters.bundle_watcher import BundleWatcher
from stream_detector.bundle import (
    FORMAT_VERSION,
    Bundle,
    Expert,
    Golden,
    Levels,
    Manifest,
    Normalisation,
    Registry,
    SeriesTable,
    TrainingData,
    golden_to_bytes,
)
from stream_detector.core.calibration import MEMORY
from stream_detector.ports import Model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from stream_detector.ports import Scores


class NoScorer:
    """Stands for a loaded module; these tests never score."""

    rungs = (16,)

    def score(
        self,
        scale: int,
        windows: NDArray[np.float32],
        center: NDArray[np.float32],
        spread: NDArray[np.float32],
    ) -> Scores:
        raise NotImplementedError


def load(bundle: Bundle) -> Model:
    return Model(bundle, NoScorer())


def publish(registry: Path, version: str, *, promote: bool = True) -> None:
    zeros = np.zeros((1, 60, 1), np.float32)
    golden = {1: Golden(zeros, zeros[:, 0], zeros[:, 0], np.zeros((1, 1), np.float32))}
    empty = np.zeros(0)
    wide, none = empty.reshape(0, 1), np.zeros(0, np.int64)
    memory = np.zeros(0, MEMORY)
    table = SeriesTable({}, wide, wide, empty, empty, none, memory, *([empty] * 3))
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        version=version,
        created="2026-03-01T12:00:00Z",
        features=["value"],
        window=60,
        scales=[1],
        normalisation=Normalisation(kind="robust"),
        experts=[Expert(name="reconstruction", scale=1)],
        levels=Levels(location=0.0, spread=1.0, anchor=1.0, excess=1.0, rate=0.01),
        model="lstm",
        training=TrainingData(start="", end="", rows=0, series=0),
        torch="2.5",
    )
    files = {
        "model-1.pt": f"module of {version}".encode() * 100,
        "series.npz": table.to_bytes(),
        "golden.npz": golden_to_bytes(golden),
    }
    Registry(registry).publish(manifest, files)
    if promote:
        Registry(registry).promote(version)


def point(registry: Path, version: str) -> None:
    """Promote by hand, without the verification that Registry.promote does."""
    (registry / "CURRENT.new").write_text(version + "\n")
    (registry / "CURRENT.new").replace(registry / "CURRENT")


class Reports:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def __call__(self, group: str, outcome: str, detail: str) -> None:
        self.seen.append((group, outcome, detail))

    def outcomes(self) -> list[str]:
        return [outcome for _, outcome, _ in self.seen]


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    publish(tmp_path / "registry", "v1")
    return tmp_path / "registry"


@pytest.fixture
def watch(registry: Path, reports: Reports) -> Iterator[Callable[..., BundleWatcher]]:
    watchers = []

    def start(
        loader: Callable[[Bundle], Model] = load, registries: Mapping[str, Path] | None = None
    ) -> BundleWatcher:
        watched = registries or {"pumps": registry}
        watcher = BundleWatcher(watched, dict.fromkeys(watched, "v1"), loader, 0.01, reports)
        watchers.append(watcher)
        return watcher

    yield start
    for watcher in watchers:
        watcher.close()
        assert not watcher._thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def taken(watcher: BundleWatcher) -> dict[str, str]:
    """Waits for the next models; group -> version."""
    found: dict[str, str] = {}

    def some() -> bool:
        found.update({group: model.bundle.version for group, model in watcher.take().items()})
        return bool(found)

    until(some)
    return found


def settle() -> None:
    """Time for several looks."""
    time.sleep(0.1)


def test_the_version_that_serves_is_not_loaded_again(watch: Callable[..., BundleWatcher]) -> None:
    def unexpected(_bundle: Bundle) -> NoReturn:
        raise AssertionError("loaded")

    watcher = watch(unexpected)
    settle()
    assert watcher.take() == {}


def test_a_promoted_bundle_is_handed_over_once(
    watch: Callable[..., BundleWatcher], registry: Path, reports: Reports
) -> None:
    watcher = watch()
    publish(registry, "v2")
    assert taken(watcher) == {"pumps": "v2"}
    settle()
    assert watcher.take() == {}
    assert reports.seen == []


def test_a_published_bundle_waits_for_its_promotion(
    watch: Callable[..., BundleWatcher], registry: Path
) -> None:
    watcher = watch()
    publish(registry, "v2", promote=False)
    settle()
    assert watcher.take() == {}
    Registry(registry).promote("v2")
    assert taken(watcher) == {"pumps": "v2"}


def test_a_rollback_is_handed_over_like_a_promotion(
    watch: Callable[..., BundleWatcher], registry: Path
) -> None:
    watcher = watch()
    publish(registry, "v2")
    taken(watcher)
    Registry(registry).rollback()
    assert taken(watcher) == {"pumps": "v1"}


def test_a_truncated_bundle_is_refused_once_and_tried_again_when_it_changes(
    watch: Callable[..., BundleWatcher], registry: Path, reports: Reports
) -> None:
    watcher = watch()
    publish(registry, "v2", promote=False)
    module = registry / "v2" / "model-1.pt"
    whole = module.read_bytes()
    module.write_bytes(whole[:50])
    point(registry, "v2")
    until(lambda: bool(reports.seen))
    settle()
    assert reports.outcomes() == ["refused"]
    assert "sha256" in reports.seen[0][2]
    assert watcher.take() == {}
    module.write_bytes(whole)
    assert taken(watcher) == {"pumps": "v2"}


def test_a_bundle_that_fails_its_golden_vectors_is_refused_once(
    watch: Callable[..., BundleWatcher], registry: Path, reports: Reports
) -> None:
    calls = []

    def broken(bundle: Bundle) -> Model:
        calls.append(bundle.version)
        raise RuntimeError("golden scores differ\nby 3%")

    watcher = watch(broken)
    publish(registry, "v2")
    until(lambda: bool(reports.seen))
    settle()
    assert reports.seen == [("pumps", "refused", "golden scores differ by 3%")]
    assert calls == ["v2"]
    assert watcher.take() == {}


def test_a_good_bundle_after_a_broken_one_is_handed_over(
    watch: Callable[..., BundleWatcher], registry: Path, reports: Reports
) -> None:
    watcher = watch()
    publish(registry, "v2", promote=False)
    (registry / "v2" / "golden.npz").write_bytes(b"")
    point(registry, "v2")
    until(lambda: bool(reports.seen))
    publish(registry, "v3")
    assert taken(watcher) == {"pumps": "v3"}


def test_a_missing_manifest_and_a_senseless_pointer_are_refused(
    watch: Callable[..., BundleWatcher], registry: Path, reports: Reports
) -> None:
    watcher = watch()
    point(registry, "v9")
    until(lambda: len(reports.seen) == 1)
    point(registry, "../elsewhere")
    until(lambda: len(reports.seen) == 2)
    settle()
    assert reports.outcomes() == ["refused", "refused"]
    assert watcher.take() == {}


def test_a_pointer_that_is_empty_while_it_is_written_is_not_reported(
    registry: Path, reports: Reports
) -> None:
    watcher = BundleWatcher({"pumps": registry}, {"pumps": "v1"}, load, 60.0, reports)
    watcher.close()  # its looks are made by hand here
    (registry / "CURRENT").write_text("")
    watcher._look("pumps", Registry(registry))
    (registry / "CURRENT").write_text("v1")
    watcher._look("pumps", Registry(registry))
    assert reports.seen == []
    (registry / "CURRENT").write_text("")
    for _ in range(3):
        watcher._look("pumps", Registry(registry))
    assert reports.outcomes() == ["refused"]


def test_a_slow_load_blocks_neither_take_nor_close(
    watch: Callable[..., BundleWatcher], registry: Path
) -> None:
    loading, release = threading.Event(), threading.Event()

    def slow(bundle: Bundle) -> Model:
        loading.set()
        release.wait(10)
        return load(bundle)

    watcher = watch(slow)
    publish(registry, "v2")
    assert loading.wait(10)
    began = time.monotonic()
    assert watcher.take() == {}
    watcher.close(timeout=0.05)
    assert time.monotonic() - began < 1.0
    release.set()


def test_a_bundle_rolled_back_while_it_was_loading_is_not_handed_over(
    watch: Callable[..., BundleWatcher], registry: Path
) -> None:
    loading, release = threading.Event(), threading.Event()

    def slow(bundle: Bundle) -> Model:
        loading.set()
        release.wait(10)
        return load(bundle)

    watcher = watch(slow)
    publish(registry, "v2")
    assert loading.wait(10)
    Registry(registry).rollback()
    release.set()
    settle()
    assert watcher.take() == {}


def test_a_bundle_rolled_back_before_it_was_taken_is_withdrawn(
    watch: Callable[..., BundleWatcher], registry: Path
) -> None:
    watcher = watch()
    publish(registry, "v2")
    until(lambda: bool(watcher._ready))
    Registry(registry).rollback()
    until(lambda: not watcher._ready)
    assert watcher.take() == {}


def test_a_flapping_broken_bundle_is_refused_once(
    watch: Callable[..., BundleWatcher], registry: Path, reports: Reports
) -> None:
    watcher = watch()
    publish(registry, "v2", promote=False)
    (registry / "v2" / "series.npz").write_bytes(b"PK")
    for _ in range(4):
        point(registry, "v2")
        time.sleep(0.03)
        point(registry, "v1")
        time.sleep(0.03)
    assert reports.outcomes() == ["refused"]
    assert watcher.take() == {}


def test_a_registry_that_vanishes_is_said_once_and_comes_back(
    watch: Callable[..., BundleWatcher], registry: Path, reports: Reports
) -> None:
    watcher = watch()
    registry.rename(registry.with_name("away"))
    until(lambda: bool(reports.seen))
    settle()
    assert reports.outcomes() == ["absent"]
    registry.with_name("away").rename(registry)
    publish(registry, "v2")
    assert taken(watcher) == {"pumps": "v2"}


def test_a_broken_registry_does_not_hold_up_another(
    watch: Callable[..., BundleWatcher], registry: Path, tmp_path: Path, reports: Reports
) -> None:
    other = tmp_path / "other"
    publish(other, "v1")
    watcher = watch(registries={"pumps": registry, "web": other})
    shutil.rmtree(registry)
    publish(other, "v2")
    assert taken(watcher) == {"web": "v2"}
    until(lambda: reports.outcomes() == ["absent"])
    assert reports.seen[0][0] == "pumps"
