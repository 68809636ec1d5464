"""Recipes from end to end on small generated files, and the command that measures them."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.pipeline.recipe_case import cheaper, opened
from trainer.cli import run
from trainer.config.recipes import load_config
from trainer.data import SeriesData
from trainer.recipes import RECIPES, heartbeat, prices, synthetic
from trainer.recipes.runner import lines, summary

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUICK = {"device": "cpu", "threads": 1}


def beats(n: int, seed: int, wide: int | None = None) -> NDArray[np.float64]:
    """A heartbeat every 200 samples or so; from sample `wide` on one that is three times wider."""
    rng = np.random.default_rng(seed)
    values = 5 * rng.standard_normal(n)
    at = 40
    while at < n - 200:
        odd = wide is not None and wide <= at < wide + 210
        width, room = (45, 110) if odd else (8, 40)
        place = np.arange(-room, room)
        values[max(at - room, 0) : at + room] += (-600 * np.exp(-((place / width) ** 2)))[
            max(room - at, 0) :
        ]
        at += int(rng.integers(195, 215))
    return values


def numbers(path: Path, values: NDArray[np.float64]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{value:.5f}\n" for value in values))
    return path


def test_the_heartbeat_recipe_finds_a_beat_that_is_too_wide(tmp_path: Path) -> None:
    changes = {"fit": QUICK | {"epochs": 4, "windows_per_epoch": 4096}}
    config = cheaper("heartbeat_lstm_autoencoder", tmp_path, changes)
    name = "901_UCR_Anomaly_BEATS_8000_10000_10210.txt"
    learn = numbers(tmp_path / "learn" / name, beats(8000, 1))
    live = numbers(tmp_path / "live" / name, beats(12_000, 2, wide=10_000))
    events = opened(config, learn, live, tmp_path)
    near = [one for one in events if 9_890 <= one["started_at"] / 1000 <= 10_600]
    assert near
    assert near[0]["scale"] == 6
    assert len(events) <= 3


def history(path: Path, values: NDArray[np.float64]) -> Path:
    """As finance portals export it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    day, rows = dt.date(2024, 1, 1), ["Date,Open,High,Low,Close,Adj Close,Volume"]
    for value in values:
        rows.append(f"{day},{value:.4f},{value:.4f},{value:.4f},{value:.4f},{value:.4f},1000")
        day += dt.timedelta(days=3 if day.weekday() == 4 else 1)
    path.write_text("\n".join(rows) + "\n")
    return path


def test_the_prices_recipe_finds_a_shock_over_a_weekend_and_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    values = 1500 * np.exp(np.cumsum(0.005 * rng.standard_normal(300)))
    live = values.copy()
    live[250] *= 1.06
    config = cheaper("prices_lstm_autoencoder", tmp_path, {"fit": QUICK | {"epochs": 4}})
    learn = history(tmp_path / "learn" / "INDEX.csv", values[:230])
    events = opened(config, learn, history(tmp_path / "live" / "INDEX.csv", live), tmp_path)
    (one,) = [e for e in events if abs(e["observed"]["Close"] - live[250]) < 0.01]
    assert one["expected"]["Close"] < 0.97 * live[250]
    assert len(events) == 1


def test_the_spikes_recipe_finds_two_spikes_eight_samples_apart(tmp_path: Path) -> None:
    one = synthetic.drawn(7).series.values[:, 0]
    one[900] += 1.5
    one[908] -= 1.2
    config = cheaper("synthetic_lstm_attention", tmp_path, {"fit": QUICK | {"epochs": 8}})
    learn = numbers(tmp_path / "learn" / "curve.txt", one[:810])
    live = numbers(tmp_path / "live" / "curve.txt", one)
    events = opened(config, learn, live, tmp_path)
    assert any(event["started_at"] == 900_000 for event in events)


def test_draws_of_the_spikes_recipe_are_those_of_the_published_project() -> None:
    found = synthetic.drawn(42)
    at = np.flatnonzero(found.spike)
    assert [i for i in at.tolist() if i >= synthetic.TEST] == [871, 886, 901, 962, 970]
    rng = np.random.RandomState(42)
    noise = 0.1 * rng.randn(1000)
    calm = found.spike == 0
    expected = np.sin(0.02 * np.arange(1000)) + noise
    np.testing.assert_array_equal(found.series.values[calm, 0], expected[calm])


def test_windows_of_the_heartbeat_are_those_of_the_published_project() -> None:
    n = 79_795
    one = SeriesData("beats", 1000 * np.arange(n), np.zeros((n, 1)))
    case = heartbeat.original(one)
    assert (len(case.judged), int(case.odd.sum())) == (15_811 + 679, 679)
    learn = case.learn.series[0]
    assert len(learn.breaks) == 1
    assert learn.timestamp[learn.breaks[0]] // 1000 == heartbeat.END + heartbeat.MEAN - 1
    later = heartbeat.honest(one)
    assert later.judged.min() == 35_000 + 59
    assert (len(later.learn.series[0]), int(later.odd.sum())) == (35_000, 679)


def test_recipes_says_what_is_missing_and_measures_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "FURTHER", 0)
    names = ["--name", "prices_lstm_autoencoder", "--name", "synthetic_lstm_attention"]
    assert run(["recipes", "--data", str(tmp_path), "--json", *names]) == 1
    printed = capsys.readouterr()
    body = json.loads(printed.out)
    assert "KLSE.csv is missing; it is the daily history" in printed.err
    assert [one["protocol"] for one in body["recipes"]] == ["first", "pooled"]
    for one in body["recipes"]:
        assert one["seeds"] == 1
        assert set(one["metrics"]["precision"]) == {"mean", "min", "max"}
        assert one["metrics"].keys() == one["pca"].keys() == one["original_rule"].keys()


def test_a_loss_of_ours_is_told() -> None:
    measures: list[dict[str, Any]] = [{"f1": 0.5, "mse": 0.1}, {"f1": 0.7, "mse": 0.1}]
    body: dict[str, Any] = {
        "name": "a", "protocol": "b", "seeds": 2, "published": {"f1": 0.3},
        "metrics": summary(measures),
        "pca": summary([{"f1": 0.9, "mse": 0.2}]),
        "original_rule": summary([{"f1": 0.1, "mse": 0.05}]),
    }  # fmt: skip
    assert body["metrics"]["f1"] == {"mean": pytest.approx(0.6), "min": 0.5, "max": 0.7}
    f1, mse = lines(body)[2:]
    assert f1.endswith("loses to pca")
    assert mse.endswith("loses to rule")


def test_a_measure_of_the_rule_alone_is_told_as_well() -> None:
    body: dict[str, Any] = {
        "name": "a", "protocol": "b", "seeds": 1, "published": {},
        "metrics": summary([{"f1": 0.5}]),
        "pca": summary([{"f1": 0.4}]),
        "original_rule": summary([{"f1": 0.3, "f1_at_50": 0.1}]),
    }  # fmt: skip
    assert lines(body)[3].split() == ["f1_at_50", "0.100", "[0.100,", "0.100]"]


def test_every_recipe_has_its_file() -> None:
    for name in RECIPES:
        assert load_config(Path(name)).model.name


def test_bootstrapped_prices_are_made_of_the_training_parts_returns() -> None:
    rng = np.random.default_rng(0)
    values = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(200)))
    one = SeriesData("p", 86_400_000 * np.arange(200), values[:, None])
    returns = np.diff(np.log(values[:150]))
    year = prices._bootstrapped(one, 150, returns, rng)
    made = np.diff(np.log(year.values[:, 0]))
    assert len(made) == prices.LEAD + prices.YEAR - 1
    nearest = np.abs(made[:, None] - returns).min(axis=1)
    assert nearest.max() < 1e-12
