"""The way back: what the engine stored -> challenger -> gate -> CURRENT -> the running engine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from stream_detector.adapters.bundle_watcher import BundleWatcher
from stream_detector.adapters.store import ParquetStore, ParquetStoreReader
from stream_detector.adapters.torch_scorer import load_model
from stream_detector.bundle import Registry
from stream_detector.config import ModelRoute, Store
from stream_detector.core.engine import Engine
from stream_detector.core.policy import Policy
from stream_detector.records import Batch, Outcome, Partition, Verdicts
from stream_detector.simulation import MACHINES, Fleet
from trainer.cli import run as trainer_cli
from trainer.commands import refresh as refresh_command
from trainer.commands.refresh import Ports, TerminatedError, Termination
from trainer.config import Calibration, ExpertRule, Fit, ModelChoice, TrainerConfig, Windows
from trainer.config.refresh import Gate, Refresh
from trainer.config.threshold import ThresholdChoice
from trainer.refresh import refresh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stream_detector.bundle import Bundle
    from stream_detector.ports import Model
    from trainer.refresh import Verdict

GROUP = "pump"
PARTITION = Partition("sensors", 0)


def load(bundle: Bundle) -> Model:
    return load_model(bundle, "cpu", 1)


def fleet() -> Fleet:
    pumps = tuple(machine for machine in MACHINES if machine.group == GROUP)
    return Fleet(series=6, minutes=120, interval_ms=4000, seed=3, anomaly_rate=0, machines=pumps)


def features(some: Fleet) -> list[str]:
    return [feature.name for feature in some.machines[0].features]


def batches(some: Fleet, start: int, stop: int) -> Iterator[Batch]:
    """The fleet, 100 steps at a time; `origin` is the step."""
    for first in range(start, stop, 100):
        chunk = some.samples(first, min(first + 100, stop))[0]
        number = np.arange(len(chunk.series))
        yield Batch(
            group=GROUP,
            partition=PARTITION,
            series=[some.series[i].name for i in chunk.series],
            timestamp=chunk.timestamp,
            values=chunk.values,
            latest=np.full(len(number), 2**63 - 1),
            offset=first * 1000 + number,
            origin=chunk.step,
        )


def fill(path: Path, some: Fleet, stop: int, anomalous: slice | None = None) -> None:
    """A store as a detector without any alarm would have written it."""
    store = ParquetStore(Store(url=str(path)), {GROUP: features(some)})
    for batch in batches(some, 0, stop):
        n = len(batch)
        flags = np.zeros(n, np.bool_)
        if anomalous is not None:
            step = batch.origin
            flags |= (step >= anomalous.start) & (step < anomalous.stop)
        accepted = np.full(n, Outcome.ACCEPTED, np.uint8)
        store.record(Verdicts(batch, accepted, np.zeros(n, np.float32), flags, "v0"))
    store.close()
    assert store.stats().dropped_rows == 0


def config(root: Path, *, epochs: int = 12, seed: int = 0, **gate: float) -> TrainerConfig:
    rules = msgspec.convert({"injections": 10, "min_held_out_days": 0.05, **gate}, Gate)
    route = ModelRoute(registry=str(root / "registry"), name=GROUP)
    return TrainerConfig(
        refresh=Refresh(store=str(root / "store"), model=route, gate=rules),
        model=ModelChoice(name="dense_autoencoder"),
        fit=Fit(epochs=epochs, seed=seed, device="cpu", threads=1),
        calibration=Calibration(alarm_budget=2.0),
    )


def one_round(root: Path, settings: TrainerConfig) -> Verdict:
    reader = ParquetStoreReader(Store(url=str(root / "store")))
    return refresh(GROUP, Registry(root / "registry"), reader, load, settings, quiet=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Verdict]:
    """A store of normal data and the first challenger that was promoted from it."""
    root = tmp_path_factory.mktemp("refresh")
    some = fleet()
    fill(root / "store", some, some.steps)
    return root, one_round(root, config(root))


def test_the_first_challenger_is_promoted_and_its_figures_are_in_the_manifest(
    trained: tuple[Path, Verdict],
) -> None:
    root, verdict = trained
    assert verdict.promoted, verdict.reason
    assert verdict.champion is None
    registry = Registry(root / "registry")
    assert registry.current() == verdict.version
    metrics = registry.load().manifest.metrics
    assert verdict.challenger_figures is not None
    assert metrics["gate_recall"] == verdict.challenger_figures.found >= 0.5
    assert metrics["gate_series_days"] == pytest.approx(6 * (360 - 59) * 4 / 86_400, rel=0.05)
    assert registry.load().manifest.training.rows == verdict.data["learn_samples"]


def test_a_challenger_that_finds_less_is_not_promoted_and_leaves_no_bundle_behind(
    trained: tuple[Path, Verdict],
) -> None:
    root, first = trained
    registry = Registry(root / "registry")
    before = registry.versions()
    deaf = msgspec.structs.replace(
        config(root, epochs=1), calibration=Calibration(threshold=ThresholdChoice(level=90.0))
    )
    verdict = one_round(root, deaf)
    assert not verdict.promoted
    assert verdict.champion == first.version
    assert verdict.challenger_figures is not None
    assert verdict.challenger_figures.found == 0.0
    assert verdict.reason.startswith("finds too few injected anomalies")
    assert registry.current() == first.version
    assert registry.versions() == before


def test_two_rounds_face_the_same_slice_and_the_same_injected_anomalies(
    trained: tuple[Path, Verdict], tmp_path: Path
) -> None:
    root, first = trained
    shutil.copytree(root / "registry", tmp_path / "registry")
    (tmp_path / "store").symlink_to(root / "store")
    verdict = one_round(tmp_path, config(tmp_path, epochs=1, min_recall=0.0))
    assert verdict.data == first.data
    assert verdict.champion_figures == first.challenger_figures


def test_too_little_data_is_no_promotion_and_says_how_much_is_missing(
    trained: tuple[Path, Verdict],
) -> None:
    root, _ = trained
    verdict = one_round(root, config(root, min_samples=1_000_000))
    assert not verdict.promoted
    learn = verdict.data["learn_samples"]
    assert verdict.reason == (
        f"too little data: {learn:,} normal samples to learn from, 1,000,000 needed, "
        f"{1_000_000 - learn:,} missing"
    )


def test_what_running_detectors_would_refuse_is_not_even_trained(
    trained: tuple[Path, Verdict],
) -> None:
    root, _ = trained
    coarse = msgspec.structs.replace(config(root), windows=Windows(scales=[1, 4]))
    verdict = one_round(root, coarse)
    assert not verdict.promoted
    assert "windows.scales [1, 4] are not the champion's [1]" in verdict.reason
    assert verdict.version is None


def test_experts_that_depend_on_the_data_are_the_champions(
    trained: tuple[Path, Verdict], tmp_path: Path
) -> None:
    root, _ = trained
    shutil.copytree(root / "registry", tmp_path / "registry")
    (tmp_path / "store").symlink_to(root / "store")
    names = [ExpertRule(name=name) for name in ("reconstruction", "newest", "stuck")]
    always = ExpertRule(name="nearest_shape")
    for rule, refused in (
        (always, True),
        (msgspec.structs.replace(always, when="repeating"), False),
    ):
        rules = [*names, rule]
        asked = msgspec.structs.replace(config(tmp_path), experts=rules)
        assert ("are not the champion's" in one_round(tmp_path, asked).reason) == refused


def test_an_empty_store_is_too_little_data(tmp_path: Path) -> None:
    verdict = one_round(tmp_path, config(tmp_path))
    assert not verdict.promoted
    assert "0 normal samples" in verdict.reason


def test_anomalous_samples_are_left_out_with_a_window_on_both_sides(tmp_path: Path) -> None:
    some = fleet()
    fill(tmp_path / "store", some, 400, anomalous=slice(200, 210))
    verdict = one_round(tmp_path, config(tmp_path))
    pumps = len(some.members(GROUP))
    assert verdict.data["left_out_samples"] == pumps * (60 + 10 + 60)
    assert verdict.data["stored_samples"] == pumps * 400


def test_a_running_engine_takes_up_the_new_model_without_skipping_a_sample(
    trained: tuple[Path, Verdict], tmp_path: Path
) -> None:
    """And a truncated bundle that is promoted by hand is refused, while the old one serves."""
    root, first = trained
    registry_path = tmp_path / "registry"
    shutil.copytree(root / "registry", registry_path)
    registry = Registry(registry_path)
    some = fleet()
    store = ParquetStore(Store(url=str(tmp_path / "store")), {GROUP: features(some)})
    engine = Engine("test", Policy())
    engine.serve(GROUP, load(registry.load()))
    reports: list[tuple[str, str, str]] = []
    watcher = BundleWatcher(
        {GROUP: registry_path},
        {GROUP: registry.current()},
        load,
        0.02,
        lambda *report: reports.append(report),
    )
    versions: list[str] = []
    accepted = 0

    def turn(batch: Batch) -> None:
        nonlocal accepted
        for group, model in watcher.take().items():
            assert engine.serve(group, model) == "swapped"
        verdicts = engine.process([batch]).verdicts[0]
        accepted += int((verdicts.outcome == Outcome.ACCEPTED).sum())
        versions.append(verdicts.model_version)
        store.record(verdicts)

    stream = list(batches(some, 0, some.steps))
    for batch in stream[:12]:
        turn(batch)
    # What has been stored so far is too little here; the challenger learns from the other store.
    settings = config(root, epochs=2, seed=7, recall_margin=0.99)
    reader = ParquetStoreReader(Store(url=str(root / "store")))
    verdict = refresh(GROUP, registry, reader, load, settings, quiet=True)
    assert verdict.promoted, verdict.reason
    until(lambda: bool(watcher._ready))
    for batch in stream[12:15]:
        turn(batch)
    broken = registry_path / "broken"
    shutil.copytree(registry_path / first_version(first), broken)
    (broken / "model-1.pt").write_bytes(b"PK")
    (registry_path / "CURRENT").write_text("broken\n")
    until(lambda: bool(reports))
    for batch in stream[15:]:
        turn(batch)
    watcher.close()
    store.close()
    assert versions == [first.version] * 12 + [verdict.version] * (len(stream) - 12)
    assert [(group, outcome) for group, outcome, _ in reports] == [(GROUP, "refused")]
    assert accepted == sum(len(batch) for batch in stream) == store.stats().written_rows


def test_a_broken_champion_does_not_keep_a_good_challenger_from_its_place(
    trained: tuple[Path, Verdict], tmp_path: Path
) -> None:
    root, first = trained
    shutil.copytree(root / "registry", tmp_path / "registry")
    (tmp_path / "store").symlink_to(root / "store")
    (tmp_path / "registry" / first_version(first) / "golden.npz").write_bytes(b"")
    verdict = one_round(tmp_path, config(tmp_path, seed=1))
    assert verdict.promoted, verdict.reason
    assert "the champion cannot be used" in verdict.reason
    assert Registry(tmp_path / "registry").current() == verdict.version


def first_version(verdict: Verdict) -> str:
    assert verdict.version is not None
    return verdict.version


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def write_config(root: Path) -> Path:
    path = root / "trainer.yaml"
    path.write_text(f"refresh: {{store: {root / 'store'}, model: {{registry: {root / 'r'}}}}}\n")
    return path


def test_the_command_exits_with_0_where_nothing_is_promoted_and_prints_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trainer_cli(["refresh", "--config", str(write_config(tmp_path)), "--json"]) == 0
    body = msgspec.json.decode(capsys.readouterr().out)
    assert body["errors"] == []
    assert body["groups"][0]["group"] == "*"
    assert body["groups"][0]["promoted"] is False
    assert "too little data" in body["groups"][0]["reason"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("refresh: {store: x}", "refresh.model"),
        ("refresh: {model: {registry: x}}", "refresh.store"),
        ("refresh: {stor: x}", "stor"),
        ("refresh: {store: 's3://b/c', model: {registry: x}}", "store.url"),
    ],
)
def test_a_configuration_that_cannot_work_exits_with_2_and_names_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, place: str
) -> None:
    path = tmp_path / "trainer.yaml"
    path.write_text(text)
    assert trainer_cli(["refresh", "--config", str(path)]) == 2
    assert place in capsys.readouterr().err


def test_sigterm_ends_the_repeating_command_with_0(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trainer", "refresh", "--every", "6h", "--config"]
    with subprocess.Popen(
        [*command, str(write_config(tmp_path))], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert "refresh *: not promoted: too little data" in line


def test_an_error_of_one_round_does_not_end_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = 0

    class FlakyStore(ParquetStoreReader):
        def newest(self, group: str) -> int | None:
            nonlocal rounds
            rounds += 1
            if rounds == 1:
                raise OSError(5, "the share is gone")
            if rounds == 2:
                raise ZeroDivisionError
            if rounds == 4:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            return super().newest(group)

    ports = Ports(load=load, store=FlakyStore)
    assert refresh_command.run_for_ever(config(tmp_path), ports, 0.01, as_json=False) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "failed: pump: [Errno 5] the share is gone" in lines[0]
    assert "failed: ZeroDivisionError" in lines[1]
    assert "not promoted" in lines[2]


def test_a_signal_waits_for_a_promotion_that_is_under_way() -> None:
    stop = Termination()
    steps = []

    def promotion() -> None:
        with stop.handled():
            with stop.shield():
                os.kill(os.getpid(), signal.SIGTERM)
                steps.append("promoted")
            steps.append("never")

    with pytest.raises(TerminatedError):
        promotion()
    assert steps == ["promoted"]
