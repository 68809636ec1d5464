from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import pytest
import torch
from msgspec import structs

from stream_detector.bundle import BundleError, Registry
from stream_detector.config import ConfigError
from stream_detector.core.calibration import Tail
from stream_detector.core.levels import fuse, transformed
from tests.unit.trainer_cases import fleet, quick, series, wave
from trainer import models
from trainer.config import (
    ExpertRule,
    Fit,
    Instead,
    ModelChoice,
    Split,
    TrainerConfig,
    Windows,
)
from trainer.data import DataError, Dataset
from trainer.export import Exported, Scripted
from trainer.fit import fit
from trainer.models.base import WindowModel
from trainer.preprocess import normalised_windows, stream_windows
from trainer.runs import Run, split
from trainer.scaling import fit_scaling
from trainer.train import Trained, publish, train

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def levels_of(
    trained: Trained, registry: Registry, values: NDArray[np.float64], name: str
) -> NDArray[np.float64]:
    """Level at each window of new values of a known series."""
    bundle = registry.load(trained.version)
    row = bundle.series.row[name]
    anchor = bundle.series.center[row]
    run = Run(row, 0, values[:, None], np.arange(len(values)))
    windows, _ = stream_windows(run, 1, anchor)
    shape = (len(windows), 1)
    spread = np.broadcast_to(bundle.series.scale[row].astype(np.float32), shape)
    scorer = Scripted({1: bundle.module(1)})
    raw = scorer.score(1, windows, np.zeros(shape, np.float32), spread).scores
    levels = bundle.manifest.levels
    t = transformed(fuse(raw, "sum", [one.weight for one in bundle.manifest.experts]), levels)
    table, one = bundle.series, slice(row, row + 1)
    return Tail.of(table.memory[one], table.score_location[one], table.score_spread[one]).level(t)


@pytest.mark.parametrize("name", ["dense_autoencoder", "lstm_autoencoder"])
def test_injected_anomalies_stand_out_from_fresh_normal_data(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = Dataset(["value"], fleet(2500).series[:1])
    options = {"hidden": 24} if name == "lstm_autoencoder" else {}
    config = TrainerConfig(
        model=ModelChoice(name=name, options=options),
        fit=Fit(epochs=10, threads=1, device="cpu", learning_rate=0.01),
    )
    trained = train(data, config, quiet=True)
    registry = Registry(tmp_path_factory.mktemp("registry"))
    publish(trained, registry)
    normal = wave(3000, seed=77)
    calm = levels_of(trained, registry, normal, "s0")
    assert (calm > 3).mean() < 0.01

    spike, shift, flat = normal.copy(), normal.copy(), normal.copy()
    spike[1500] += 6 * normal.std()
    shift[1500:1600] += 3 * normal.std()
    flat[1500:1620] = flat[1500]
    at = 1500 - 59
    assert levels_of(trained, registry, spike, "s0")[at] > 3.5
    assert levels_of(trained, registry, shift, "s0")[at : at + 100].max() > 3.5
    before = levels_of(trained, registry, flat, "s0")
    assert before[at + 60 : at + 120].mean() > calm[at + 60 : at + 120].mean() + 0.5


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone() -> None:
    parts = split(fleet(800).series, Split())
    scaling = fit_scaling(parts.train, 3, "standard")
    windows = normalised_windows(parts.train, scaling, 1)
    held = normalised_windows(parts.validation, scaling, 1)
    choice = ModelChoice(name="dense_autoencoder")
    state = torch.get_rng_state()
    found = [
        fit(windows, held, choice, Fit(epochs=2, seed=seed, threads=1, device="cpu"), quiet=True)
        for seed in (3, 3, 4)
    ]
    weights = [next(iter(one.model.parameters())).detach() for one in found]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(state, torch.get_rng_state())


class Same(WindowModel):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_a_sensor_that_is_stuck_is_named_and_equal_values_now_and_then_are_not() -> None:
    exported = Exported(Same())
    window = torch.randn(3, 60, 2, generator=torch.Generator().manual_seed(1))
    window[1, 20:, 1] = window[1, 20, 1]
    window[2, 57:, 0] = window[2, 57, 0]
    one = torch.ones(3, 2)
    scores, contribution, _ = exported(window, 0 * one, one)
    assert scores[:, 2].tolist() == pytest.approx([0.0, (39 / 59) ** 2, (2 / 59) ** 2])
    assert contribution[1, 1] > 0.4 > contribution[1, 0]
    assert contribution[0].tolist() == [0.0, 0.0]


def test_a_feature_that_never_moves_is_not_stuck_and_hides_none_that_is() -> None:
    columns = np.stack((wave(1000), np.full(1000, 7.0)), axis=1)
    config = msgspec.structs.replace(quick(epochs=1), experts=[ExpertRule(name="stuck")])
    trained = train(Dataset(["a", "b"], [series("s", columns)]), config, quiet=True)
    windows = np.stack([columns[:60]] * 2).astype(np.float32)
    windows[1, 20:, 0] = windows[1, 20, 0]
    zero = np.zeros((2, 2), np.float32)
    scorer = Scripted({1: trained.files["model-1.pt"]})
    found = scorer.score(1, windows, zero, zero + 1)
    assert found.scores[:, 2].tolist() == pytest.approx([0.0, (39 / 59) ** 2])
    assert found.contribution[1, 0] > 0.4


def test_the_best_checkpoint_is_kept_and_fitting_stops_early() -> None:
    parts = split(fleet(800).series, Split())
    scaling = fit_scaling(parts.train, 3, "standard")
    windows = normalised_windows(parts.train, scaling, 1)
    held = normalised_windows(parts.validation, scaling, 1)
    wild = Fit(epochs=60, patience=2, learning_rate=0.2, threads=1, device="cpu")
    fitted = fit(windows, held, ModelChoice(name="dense_autoencoder"), wild, quiet=True)
    assert fitted.epochs < 60
    x = torch.from_numpy(held.take(np.arange(len(held))))
    with torch.inference_mode():
        error = torch.nn.functional.mse_loss(fitted.model(x), x).item()
    assert error == pytest.approx(fitted.validation_error, rel=1e-4)


def test_a_time_limit_ends_the_fit_after_the_pass_that_reaches_it() -> None:
    parts = split(fleet(800).series, Split())
    scaling = fit_scaling(parts.train, 3, "standard")
    windows = normalised_windows(parts.train, scaling, 1)
    ticks = iter(range(0, 1000, 10))
    config = Fit(time_limit=25.0, threads=1, device="cpu")
    fitted = fit(
        windows, windows, ModelChoice(name="dense_autoencoder"), config,
        quiet=True, monotonic=lambda: float(next(ticks)),
    )  # fmt: skip
    assert fitted.epochs == 3


def test_few_windows_are_drawn_again_until_a_pass_has_its_least_steps() -> None:
    parts = split(fleet(800).series, Split())
    windows = normalised_windows(parts.train, fit_scaling(parts.train, 3, "standard"), 1, cap=50)
    errors = []
    for least in (1, 40):
        settings = Fit(epochs=3, batch=32, least_steps=least, threads=1, device="cpu")
        fitted = fit(windows, windows, ModelChoice(name="dense_autoencoder"), settings, quiet=True)
        assert fitted.epochs == 3
        errors.append(fitted.train_error)
    assert errors[1] < 0.5 * errors[0]


def test_every_pass_is_told_of_and_an_error_from_there_leaves_torch_as_it_was() -> None:
    parts = split(fleet(800).series, Split())
    windows = normalised_windows(parts.train, fit_scaling(parts.train, 3, "standard"), 1)
    choice = ModelChoice(name="dense_autoencoder")
    config = Fit(epochs=3, threads=1, device="cpu")
    heard: list[tuple[int, float]] = []

    def end(number: int, error: float) -> None:
        heard.append((number, error))
        if number == 2 and len(heard) == 2:
            raise StopIteration

    state = torch.get_rng_state()
    with pytest.raises(StopIteration):
        fit(windows, windows, choice, config, quiet=True, on_pass=end)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    again = fit(windows, windows, choice, config, quiet=True, on_pass=end)
    alone = fit(windows, windows, choice, config, quiet=True)
    assert again.history == alone.history
    assert heard[2:] == [(i, one[1]) for i, one in enumerate(alone.history, 1)]
    assert heard[:2] == heard[2:4]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_every_loss_and_optimiser_descends_and_the_history_tells_it(
    loss: Literal["mse", "mae", "huber"], optimizer: Literal["adam", "adamw", "rmsprop"]
) -> None:
    parts = split(fleet(800).series[:1], Split())
    scaling = fit_scaling(parts.train, 1, "standard")
    windows = normalised_windows(parts.train, scaling, 1)
    config = Fit(
        epochs=4, loss=loss, optimizer=optimizer, learning_rate=0.003, threads=1, device="cpu"
    )
    fitted = fit(windows, windows, ModelChoice(name="dense_autoencoder"), config, quiet=True)
    assert len(fitted.history) == fitted.epochs == 4
    assert fitted.history[-1][0] < 0.7 * fitted.history[0][0]
    assert (fitted.train_error, fitted.validation_error) in fitted.history


def test_spikes_in_the_training_data_bend_huber_less_than_squares() -> None:
    clean = wave(1600)
    spiked = clean.copy()
    spiked[np.random.default_rng(1).choice(1120, 56, replace=False)] += 12.0
    parts = split([series("s", spiked)], Split())
    scaling = fit_scaling(split([series("s", clean)], Split()).train, 1, "standard")
    windows = normalised_windows(parts.train, scaling, 1)
    calm = normalised_windows(parts.validation, scaling, 1)
    errors = []
    losses: tuple[Literal["mse"], Literal["huber"]] = ("mse", "huber")
    for loss in losses:
        config = Fit(epochs=8, patience=8, loss=loss, threads=1, device="cpu")
        fitted = fit(windows, windows, ModelChoice(name="dense_autoencoder"), config, quiet=True)
        x = torch.from_numpy(calm.take(np.arange(len(calm))))
        with torch.inference_mode():
            errors.append(torch.nn.functional.mse_loss(fitted.model(x), x).item())
    squares, huber = errors
    assert huber < 0.8 * squares


def test_an_unknown_model_or_option_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"model\.name: 'transformer' is unknown; there are lstm"):
        models.build("transformer", 1, {})
    with pytest.raises(ConfigError, match=r"model\.options: .*`width`"):
        models.build("lstm_autoencoder", 1, {"width": 3})


def test_a_bundle_of_two_scales_round_trips_through_the_registry(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    both = np.stack([wave(2600, 1), wave(2600, 2, 1e12)], axis=1)
    data = Dataset(["a", "b"], [series("pump", both), series("brief", both[:100])])
    quick_ = quick(epochs=2)
    config = TrainerConfig(
        model=quick_.model, fit=quick_.fit, windows=Windows(scales=[4, 1]), scaling="robust"
    )
    created = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
    trained = train(data, config, quiet=True, now=created)
    assert trained.left_out == ["brief"]
    registry = Registry(tmp_path_factory.mktemp("registry"))
    version = publish(trained, registry)
    assert version.startswith("20261122T120000-")
    bundle = registry.load()
    manifest = bundle.manifest
    assert manifest.scales == [1, 4]
    assert [(one.name, one.scale, one.output) for one in manifest.experts] == [
        ("reconstruction", 1, 0), ("newest", 1, 1), ("stuck", 1, 2),
        ("reconstruction", 4, 0), ("newest", 4, 1), ("stuck", 4, 2),
    ]  # fmt: skip
    assert manifest.normalisation.kind == "robust"
    assert manifest.training.rows == 2600
    assert manifest.training.start == "2025-11-27T00:00:00.000+00:00"
    assert list(bundle.series.row) == ["pump"]
    assert bundle.series.interval.tolist() == [60_000]
    losses = json.loads((bundle.path / "history.json").read_bytes())
    for scale in (1, 4):
        assert [len(losses[str(scale)][part]) for part in ("train", "validation")] == [2, 2]
        assert (
            min(losses[str(scale)]["validation"]) == manifest.metrics[f"validation_error_{scale}"]
        )
        assert bundle.golden(scale).windows.shape == (384, 60, 2)
        assert np.isfinite(bundle.golden(scale).scores).all()


def test_data_without_times_has_no_training_range() -> None:
    one = fleet(1500).series[0]
    untimed = Dataset(
        ["value"], [type(one)(one.name, np.arange(1500, dtype=np.int64) * 1000, one.values)]
    )
    training = train(untimed, quick(epochs=1), quiet=True).manifest.training
    assert (training.start, training.end) == ("", "")


def test_series_that_are_too_short_are_an_error_that_says_how_long_they_must_be() -> None:
    with pytest.raises(DataError, match=r"s0, has 300 complete samples; .* needs about 611"):
        train(fleet(300), quick(), quiet=True)
    assert train(fleet(611), quick(epochs=1), quiet=True).manifest.training.series == 3


def test_no_window_is_cut_across_a_break() -> None:
    values = wave(2000)
    values[1000:] += 1e6
    one = series("s", values)
    broken = type(one)(one.name, one.timestamp, one.values, np.array([1000]))
    parts = split([broken], Split())
    scaling = fit_scaling(parts.train, 1, "minmax")
    windows = normalised_windows(parts.train, scaling, 1)
    every = windows.take(np.arange(len(windows)))
    assert np.ptp(every, axis=1).max() < 0.1
    assert len(windows) == (1000 - 59) + (400 - 59)


def test_the_same_bundle_may_be_published_twice_and_no_other_of_its_version(
    tmp_path: Path,
) -> None:
    created = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
    trained = train(fleet(800), quick(epochs=1), quiet=True, now=created)
    registry = Registry(tmp_path / "registry")
    version = publish(trained, registry)
    assert publish(trained, registry) == version
    other = msgspec.structs.replace(trained.manifest, model="another")
    with pytest.raises(BundleError, match="exists already"):
        registry.publish(other, trained.files)
    assert registry.versions() == [version]


def test_the_number_of_features_chooses_the_part_of_the_settings_and_the_bundle_tells_it() -> None:
    config = structs.replace(quick(epochs=1), multivariate=Instead(model=ModelChoice(name="pca")))
    one = train(Dataset(["a"], [series("s", wave(700))]), config, quiet=True)
    both = np.column_stack([wave(700), wave(700, 1)])
    two = train(Dataset(["a", "b"], [series("s", both)]), config, quiet=True)
    assert (one.manifest.model, one.manifest.notes) == ("dense_autoencoder", [])
    assert two.manifest.model == "pca"
    assert two.manifest.notes == ["2 features: model from `multivariate`"]
