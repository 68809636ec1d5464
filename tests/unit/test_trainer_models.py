"""What must hold of every architecture, and what sets each apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from stream_detector.adapters.torch_scorer import LADDER, load_model
from stream_detector.bundle import Registry
from stream_detector.config import ConfigError
from tests.unit.trainer_cases import fleet, series, wave, windows_of
from trainer import models
from trainer.config import Fit, ModelChoice, TrainerConfig
from trainer.data import Dataset
from trainer.export import Exported, Scripted, script
from trainer.fit import Fitted, fit
from trainer.models.base import WindowModel
from trainer.models.despike import Despike
from trainer.train import publish, train

if TYPE_CHECKING:
    from numpy.typing import NDArray


SMALL: dict[str, dict[str, Any]] = {
    "lstm_autoencoder": {"hidden": 24},
    "lstm_forecaster": {"layers": [24, 16]},
    "lstm_events": {"layers": [24, 16]},
    "lstm_attention": {"hidden": 24},
    "dense_ensemble": {"hidden": 16, "members": 2},
}
"""Options that learn in seconds, and not in one pass; the other models do with their own."""

ENOUGH = {"lstm_events": 2.0}
"""Errors of models that have learnt, where they are surprises: 3.4 by a density that looks back at

nothing. For all others 0.35, as normalised values have a variance of 1.
"""

ALL = [pytest.param(name, id=name) for name in models.MODELS]


@pytest.fixture(scope="module")
def fitted() -> dict[str, Fitted]:
    train_windows, held = windows_of(Dataset(["value"], fleet(2500).series[:1]))
    config = Fit(epochs=9, windows_per_epoch=1024, learning_rate=0.01, threads=1, device="cpu")
    return {
        name: fit(
            train_windows, held,
            ModelChoice(name=name, options=SMALL.get(name, {})), config, quiet=True,
        )
        for name in models.MODELS
    }  # fmt: skip


def scores_of(model: WindowModel, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The exported module's scores [B, 3] of normalised windows."""
    zero = np.zeros((len(windows), windows.shape[2]), np.float32)
    return Scripted({1: script(Exported(model))}).score(1, windows, zero, zero + 1).scores


@pytest.mark.parametrize("features", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_every_model_estimates_any_number_of_features(name: str, features: int) -> None:
    model = models.build(name, features, {}).eval()
    assert model(torch.zeros(5, 60, features)).shape == (5, 60, features)
    exported = Exported(model)
    one = torch.ones(5, features)
    scores, contribution, expected = exported(torch.randn(5, 60, features), 0 * one, one)
    assert scores.shape == (5, len(exported.names))
    assert contribution.shape == expected.shape == (5, features)
    assert contribution.sum(dim=1).tolist() == pytest.approx([1.0] * 5, rel=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_every_model_learns(name: str, fitted: dict[str, Fitted]) -> None:
    found = fitted[name]
    assert found.validation_error < ENOUGH.get(name, 0.35)
    if found.epochs:
        assert found.validation_error == min(error for _, error in found.history)
        share, less = (1.0, 0.2) if name in ENOUGH else (0.8, 0.0)
        assert found.validation_error < share * found.history[0][1] - less
        assert found.history[-1][0] < share * found.history[0][0] - less


@pytest.mark.parametrize("name", ALL)
def test_every_model_tells_anomalies_from_normal_windows(
    name: str, fitted: dict[str, Fitted]
) -> None:
    values = wave(3000, seed=77)
    raw = np.lib.stride_tricks.sliding_window_view((values - 10) / values.std(), 60)
    normal = raw[::4, :, None].astype(np.float32)
    spike, shift = normal.copy(), normal.copy()
    spike[:, -1] += 2.5
    shift[:, -8:] -= 2.0
    scores = scores_of(fitted[name].model, np.concatenate((normal, spike, shift)))
    calm, spiked, shifted = np.split(scores, 3)
    truth = np.repeat([0, 1], len(normal))
    assert roc_auc_score(truth, np.concatenate((calm[:, 1], spiked[:, 1]))) > 0.9
    assert roc_auc_score(truth, np.concatenate((calm[:, 0], shifted[:, 0]))) > 0.9


@pytest.mark.parametrize("name", ALL)
def test_the_scripted_module_says_what_the_model_says(name: str, fitted: dict[str, Fitted]) -> None:
    generator = torch.Generator().manual_seed(5)
    windows = torch.randn(70, 60, 1, generator=generator)
    model = fitted[name].model
    with torch.inference_mode():
        one = torch.ones(70, 1)
        eager = Exported(model)(windows, 0 * one, one)[0].numpy()
    found = scores_of(model, windows.numpy())
    np.testing.assert_allclose(found, eager, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("features", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_every_model_loads_with_the_whole_ladder_of_tiles_and_scores_the_same_bits_again(
    name: str, features: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    values = np.stack([wave(700, seed) for seed in range(features)], axis=1)
    data = Dataset([f"f{i}" for i in range(features)], [series("pump", values)])
    config = TrainerConfig(
        model=ModelChoice(name=name, options=SMALL.get(name, {})),
        fit=Fit(epochs=1, windows_per_epoch=256, threads=1, device="cpu"),
    )
    registry = Registry(tmp_path_factory.mktemp("registry"))
    publish(train(data, config, quiet=True), registry)
    bundle = registry.load()
    assert bundle.manifest.model == name
    golden = bundle.golden(1)
    tile = golden.windows[:256], golden.center[:256], golden.scale[:256]
    first, again = load_model(bundle, "cpu").scorer, load_model(bundle, "cpu").scorer
    assert first.rungs == LADDER
    for mine, other in zip(first.score(1, *tile), again.score(1, *tile), strict=True):
        assert np.array_equal(mine, other)


@pytest.mark.parametrize("name", ["lstm_forecaster", "lstm_events", "lstm_attention"])
def test_a_forecast_uses_no_step_from_its_own_on(name: str) -> None:
    model = models.build(name, 2, {"forecast": 7}).eval()
    assert model.counted == 7
    x = torch.randn(3, 60, 2, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        before = model(x)
        assert torch.equal(before[:, :53], x[:, :53])
        for step in range(53, 60):
            changed = x.clone()
            changed[:, step] += 1
            after = model(changed)
            assert torch.equal(after[:, : step + 1], before[:, : step + 1])
            assert step == 59 or not torch.equal(after[:, step + 1], before[:, step + 1])


def events(n: int, seed: int) -> torch.Tensor:
    """[n, 60, 3] two marks in turn as minmax has them, now and then one twice; a value for each."""
    rng = np.random.default_rng(seed)
    mark = (np.cumsum(rng.random((n, 60)) < 0.9, axis=1) + rng.integers(0, 2, (n, 1))) % 2
    value = np.where(mark == 0, -0.8, 0.6) + 0.05 * rng.standard_normal((n, 60))
    return torch.from_numpy(np.stack((1 - 2 * mark, 2 * mark - 1, value), axis=2)).float()


def test_events_are_as_surprising_as_they_are_rare_and_their_values_as_they_are_far_off() -> None:
    model = models.build("lstm_events", 3, {"marks": 2, "layers": [12], "forecast": 1})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    torch.manual_seed(0)
    for step in range(120):
        estimate, target, _ = model.learn(events(32, step))
        loss = (estimate - target).square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    model.eval()
    usual = events(400, 1000)
    before, newest = usual[:, -2, 0], usual[:, -1, 0]
    rare, late = usual.clone(), usual.clone()
    rare[:, -1, :2] = usual[:, -2, :2]
    rare[:, -1, 2] = torch.where(before > 0, -0.8, 0.6)
    late[:, -1, 2] += 0.5
    with torch.inference_mode():
        surprise = {
            name: model.compare(x)[0][:, -1].square()
            for name, x in (("usual", usual), ("rare", rare), ("late", late))
        }
        forecast = model(usual)[:, -1]
    turned = newest != before
    of_mark = surprise["usual"][turned, :2].sum(dim=1).mean().item()
    assert of_mark == pytest.approx(-np.log(0.9), abs=0.05)
    assert surprise["rare"][:, :2].sum(dim=1).mean().item() == pytest.approx(-np.log(0.1), abs=0.5)
    assert (surprise["late"][:, 2] > surprise["usual"][:, 2] + 3.0).float().mean() > 0.95
    torch.testing.assert_close(surprise["late"][:, :2], surprise["usual"][:, :2])
    torch.testing.assert_close(forecast[:, :2].sum(dim=1), torch.zeros(400), atol=1e-5, rtol=0)
    value = torch.where(newest > 0, -0.8, 0.6)  # what its own mark brings, turned or not
    assert (forecast[:, 2] - value).abs().max() < 0.1


def test_only_the_steps_that_a_model_counts_make_its_score() -> None:
    class Last(WindowModel):
        def __init__(self) -> None:
            super().__init__()
            self.counted = 2

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x)

    window = torch.full((1, 60, 1), 9.0)
    window[0, 58], window[0, 59] = 1.0, 3.0
    one = torch.ones(1, 1)
    scores, contribution, _ = Exported(Last())(window, 0 * one, one)
    assert scores[0, :2].tolist() == [5.0, 9.0]
    assert contribution.tolist() == [[1.0]]


def test_the_default_lstm_autoencoder_is_two_plain_lstms_to_the_last_bit() -> None:
    torch.manual_seed(4)
    model = models.build("lstm_autoencoder", 2, {})
    torch.manual_seed(4)
    encoder = nn.LSTM(2, 64, batch_first=True)
    decoder = nn.LSTM(64, 64, batch_first=True)
    output = nn.Linear(64, 2)
    x = torch.randn(5, 60, 2)
    repeated = encoder(x)[1][0][-1].unsqueeze(1).expand(-1, 60, -1)
    assert torch.equal(model(x), output(decoder(repeated)[0]))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_deep_lstm_autoencoder_with_an_embedding_descends_and_scripts(activation: str) -> None:
    train_windows, held = windows_of(Dataset(["value"], fleet(900).series[:1]))
    options = {
        "layers": 2, "hidden": 16, "embedding": 4, "activation": activation, "dropout": 0.1
    }  # fmt: skip
    found = fit(
        train_windows, held, ModelChoice(name="lstm_autoencoder", options=options),
        Fit(epochs=3, windows_per_epoch=256, threads=1, device="cpu"), quiet=True,
    )  # fmt: skip
    assert found.history[-1][0] < found.history[0][0]
    windows = held.take(np.arange(len(held)))
    with torch.inference_mode():
        x = torch.from_numpy(windows)
        errors = (found.model(x) - x).square().mean(dim=(1, 2)).numpy()
    np.testing.assert_allclose(scores_of(found.model, windows)[:, 0], errors, rtol=1e-4)


def test_relu_cells_follow_the_definition_of_an_lstm() -> None:
    model = models.recurrent.Recurrent(2, 3, relu=True)
    input_weight, weight, input_bias, bias = model.lstm.parameters()
    x = torch.randn(4, 5, 2)
    h = c = torch.zeros(4, 3)
    for step in range(5):
        gates = x[:, step] @ input_weight.T + h @ weight.T
        i, f, g, o = (gates + input_bias + bias).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.relu()
        h = o.sigmoid() * c.relu()
        torch.testing.assert_close(model(x)[:, step], h)


def test_a_variational_autoencoder_draws_only_while_it_learns() -> None:
    model = models.build("variational_autoencoder", 1, {})
    x = torch.randn(8, 60, 1)
    first, _, penalty = model.learn(x)
    assert not torch.equal(first, model.learn(x)[0])
    assert penalty.item() > 0
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lstm_forecaster", {"forecast": 60}, "forecast"),
        ("lstm_forecaster", {"layers": []}, "layers"),
        ("lstm_events", {"marks": 1}, "marks: 1 of 1 columns leave none for values"),
        ("lstm_autoencoder", {"activation": "gelu"}, "activation"),
        ("transformer_autoencoder", {"patch": 7}, "patch"),
        ("transformer_autoencoder", {"width": 30}, "`width` must be a multiple of `heads`"),
        ("pca", {"variance": 1.0}, "variance"),
        ("lstm_attention", {"dropout": 1}, "dropout"),
        ("lstm_attention", {"highway": 50}, "`highway` and `forecast`"),
    ],
)
def test_options_that_cannot_work_are_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"model\.options: .*{message}"):
        models.build(name, 1, options)


def test_a_spike_in_what_it_looks_back_at_hardly_moves_a_despiked_forecast() -> None:
    time = torch.arange(460)
    rng = torch.Generator().manual_seed(3)
    values = torch.sin(0.1 * time) + 0.05 * torch.randn(460, generator=rng)
    windows = values.unfold(0, 60, 1).unsqueeze(2)
    moved = {}
    for despike in (False, True):
        torch.manual_seed(0)
        options = {"hidden": 8, "forecast": 5, "highway": 20, "despike": despike, "dropout": 0.0}
        model = models.build("lstm_attention", 1, options)
        model.prepare(lambda: [windows], lambda sums: sums)
        model.eval()
        spoilt = windows[:50].clone()
        spoilt[:, 57] += 3.0
        with torch.inference_mode():
            moved[despike] = (model(spoilt) - model(windows[:50]))[:, -1].abs().max().item()
            assert torch.equal(model.compare(spoilt)[1], spoilt[:, -5:])  # scored as it came
    assert moved[True] < 0.25 * moved[False]


def test_despiking_leaves_calm_windows_and_constants_alone() -> None:
    x = torch.randn(500, 60, 2, generator=torch.Generator().manual_seed(4)).cumsum(1)
    x[:, :, 1] = 7.0
    calm = Despike(2)
    calm.prepare(lambda: [x], lambda sums: sums)
    changed = (calm(x) != x).float().mean(dim=(0, 1))
    assert 0 < changed[0] < 0.02
    assert changed[1] == 0.0


def test_the_highway_begins_as_a_mean_of_the_steps_before() -> None:
    options = {"forecast": 3, "highway": 10}
    model = models.build("lstm_attention", 2, options).eval()
    x = torch.randn(4, 60, 2, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        torch.testing.assert_close(model(x)[:, -1], x[:, 49:59].mean(dim=1))
