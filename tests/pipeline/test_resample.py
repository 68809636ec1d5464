"""Irregular samples all the way: `fit` on a grid, `replay` on the same, the store, a refresh."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stream_detector.adapters.store import ParquetStore, ParquetStoreReader
from stream_detector.adapters.torch_scorer import load_model
from stream_detector.bundle import Registry, Transform
from stream_detector.cli import execute
from stream_detector.config import Store, load_yaml
from stream_detector.core.engine import Engine
from stream_detector.core.policy import Policy
from stream_detector.formats.events import line_envelope
from tests.fakes import batch, cut
from tests.unit.trainer_cases import MINUTE, START, wave
from trainer.cli import run
from trainer.config import TrainerConfig
from trainer.refresh import refresh

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LEARNT, MORE = 1800, 400  # minutes
NAMES = ("a", "b")
FAULT = 250  # minute of the second part
OUTAGE = slice(900, 930)  # minutes of the first part in which nothing is sent


def samples(
    name: str, first: int, stop: int, fault: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Times and values at 2 to 40 s from each other, noisier than their minutes' means."""
    seed = NAMES.index(name)
    rng = np.random.default_rng((seed, first))
    times = np.cumsum(rng.integers(2_000, 40_000, 4 * (stop - first)))
    times = times[times < MINUTE * (stop - first)] + MINUTE * first
    minute = times // MINUTE
    times = times[(minute < OUTAGE.start) | (minute >= OUTAGE.stop)]
    minutes = np.arange(LEARNT + MORE)
    values = np.interp(times / MINUTE, minutes, wave(len(minutes), seed, 10.0))
    values += rng.normal(0, 0.5, len(times))
    if fault is not None:
        values[(times // MINUTE >= fault) & (times // MINUTE < fault + 10)] += 40
    return times + START, values


def write(path: Path, first: int, stop: int, fault: int | None = None) -> None:
    rows = []
    for name in NAMES:
        times, values = samples(name, first, stop, fault)
        rows += [(time, name, value) for time, value in zip(times, values, strict=True)]
    lines = [
        json.dumps({"series": name, "timestamp": int(time), "value": round(float(value), 3)})
        for time, name, value in sorted(rows)
    ]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("resample")
    write(root / "normal.ndjson", 0, LEARNT)
    write(root / "later.ndjson", LEARNT, LEARNT + MORE, LEARNT + FAULT)
    (root / "trainer.yaml").write_text(
        "windows: {transforms: [{kind: resample, every: 60s}]}\n"
        "model: {name: pca}\nfit: {device: cpu, threads: 1}\ncalibration: {alarm_budget: 0.5}\n"
        f"refresh: {{store: {root / 'store'}, model: {{registry: {root / 'registry'}}}, "
        "gate: {min_samples: 1000, min_held_out_samples: 500, injections: 5}}\n"
    )
    arguments = ["--data", root / "normal.ndjson", "--config", root / "trainer.yaml"]
    assert run(["fit", "--json", *map(str, arguments), "--out", str(root / "registry")]) == 0
    return root


def test_the_bundle_knows_series_by_the_minute(place: Path) -> None:
    bundle = Registry(place / "registry").load()
    assert bundle.manifest.transforms == [Transform(kind="resample", every=MINUTE)]
    assert bundle.series.interval.tolist() == [MINUTE, MINUTE]
    assert 2 * 1600 < bundle.manifest.training.rows < 2 * LEARNT


def test_replay_finds_the_fault_and_speaks_of_minutes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = place / "events.ndjson"
    given = ["--bundle", place / "registry", "--input", place / "later.ndjson", "--output", out]
    assert execute(["replay", "--device", "cpu", "--json", *map(str, given)]) == 0
    summary = json.loads(capsys.readouterr().out)
    events: list[dict[str, Any]] = [
        line_envelope(one)["data"] for one in out.read_bytes().splitlines()
    ]
    sent = {name: samples(name, LEARNT, LEARNT + MORE, LEARNT + FAULT) for name in NAMES}
    assert summary["samples"]["accepted"] == sum(len(times) for times, _ in sent.values())
    assert summary["windows"] == 2 * (MORE - 1 - 59)
    for name, (times, values) in sent.items():
        opened = [e for e in events if e["series"] == name and e["status"] == "opened"]
        start = START + MINUTE * (LEARNT + FAULT)
        [event] = [e for e in opened if start < e["started_at"] < start + 5 * MINUTE]
        assert event["started_at"] in times.tolist()
        end = event["window_end"]
        assert end % MINUTE == START % MINUTE
        mine = (times >= end - MINUTE) & (times < end)
        assert event["observed"]["value"] == pytest.approx(values[mine].mean(), abs=2e-3)
        assert event["window_end"] - event["window_start"] == 60 * MINUTE
        assert len(opened) <= 3


def test_check_plans_for_steps_of_the_grid(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "detector.yaml"
    config.write_text(
        "kafka: {bootstrap_servers: [none], group_id: g}\ninput: {topics: [t]}\n"
        "output: {topic: e, dead_letter_topic: d}\n"
        f"model: {{registry: {place / 'registry'}}}\ndevice: cpu\n"
    )
    assert execute(["check", "--offline", "--config", str(config)]) == 0
    assert "series at one step every 60 s" in capsys.readouterr().out


def test_a_refresh_learns_on_the_same_grid_from_what_was_stored(place: Path) -> None:
    model = load_model(Registry(place / "registry").load(), "cpu", 1)
    engine = Engine("test", Policy())
    engine.serve("*", model)
    store = ParquetStore(Store(url=str(place / "store")), {"*": ["value"]})
    for name in NAMES:
        times, values = samples(name, 0, LEARNT)
        offset = NAMES.index(name) * 10**6
        whole = batch([name] * len(times), times, values, group="*", first_offset=offset)
        for piece in cut(whole, list(range(500, len(whole), 500))):
            [verdicts] = engine.process([piece]).verdicts
            store.record(verdicts)
    store.close()
    settings = load_yaml(place / "trainer.yaml", TrainerConfig)
    verdict = refresh(
        "*",
        Registry(place / "registry"),
        ParquetStoreReader(Store(url=str(place / "store"))),
        lambda bundle: load_model(bundle, "cpu", 1),
        settings,
        quiet=True,
    )
    assert verdict.version is not None, verdict.reason
    assert verdict.challenger_figures is not None
    assert verdict.champion_figures is not None
    assert verdict.challenger_figures.found >= 0.5
    assert verdict.promoted, verdict.reason
