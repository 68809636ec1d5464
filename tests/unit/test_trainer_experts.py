"""Views of a window, experts beside the model, and how a recipe chooses among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from stream_detector.adapters.torch_scorer import load_model
from stream_detector.bundle import Registry, SeriesTable
from stream_detector.config import ConfigError
from tests.unit.trainer_cases import fleet, wave
from trainer import experts, models
from trainer.config import Calibration, ExpertRule, Fit, ModelChoice, TrainerConfig, Windows
from trainer.data import Dataset, SeriesData
from trainer.experts.hotelling import Hotelling
from trainer.experts.movement import Movement
from trainer.experts.nearest import Nearest
from trainer.export import Exported, Scripted
from trainer.models.base import WindowModel
from trainer.models.views import ENERGIES, Views
from trainer.preprocess import normalised_windows, stream_windows
from trainer.runs import Run
from trainer.scaling import fit_scaling
from trainer.train import publish, train

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from trainer.config import Local


def some(n: int, features: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 60, features, generator=torch.Generator().manual_seed(seed))


def test_energies_tell_time_scales_apart() -> None:
    time = torch.arange(60.0)
    fast, slow = (torch.sin(time * 2 * torch.pi / period) for period in (2.5, 40.0))
    found = Views(1).energies(torch.stack((fast, slow)).unsqueeze(2))[:, :, 0]
    finest, coarsest = 0, ENERGIES - 5
    assert found[0, finest] > 20 * found[1, finest]
    assert found[1, coarsest] > 20 * found[0, coarsest]
    variance = ENERGIES - 4
    torch.testing.assert_close(found[:, variance], torch.stack((fast, slow)).var(1, correction=0))


@pytest.mark.parametrize("features", [1, 3])
def test_log_energies_are_white_in_training(features: int) -> None:
    views = Views(features)
    x = some(4000, features).cumsum(1)
    views.prepare(lambda: torch.split(x, 1000), lambda sums: sums)
    white = views(x)[2]
    for feature in range(features):
        covariance = torch.cov(white[:, :, feature].T)
        off = covariance - torch.diag(covariance.diagonal())
        assert off.abs().max() < 0.02
        assert covariance.diagonal().max() < 1.01


def test_form_does_not_depend_on_level_and_hardly_on_size() -> None:
    shape, form, _ = Views(1)(torch.cat((10 * some(1), 10 * some(1) + 5, 20 * some(1))))
    torch.testing.assert_close(shape[0], shape[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(form[0], form[2], atol=0.1, rtol=0.05)


@pytest.mark.parametrize("known", [1500, 50])
def test_the_nearest_window_is_that_of_scikit_learn(known: int) -> None:
    (family,) = experts.build(["nearest_shape", "nearest_form"], 2)
    assert isinstance(family, Nearest)
    sample, asked = some(known, 2), some(40, 2, seed=1)
    family.prepare(sample, 0)
    memory = torch.unique(family.shape, dim=0)
    assert len(memory) == min(known, 1024)
    assert set(map(tuple, memory.tolist())) <= set(
        map(tuple, family.views(sample)[0].flatten(1).tolist())
    )
    reference = NearestNeighbors(n_neighbors=1).fit(memory)
    distance = reference.kneighbors(family.views(asked)[0].flatten(1))[0][:, 0]
    found, blame = family(asked)
    assert blame.shape == (40, 2)
    assert found.shape == (40, 2)
    np.testing.assert_allclose(found[:, 0], distance**2 / 120, rtol=1e-4)
    assert family(sample[:3])[0].max() == 0.0


def test_an_unknown_expert_is_refused_with_the_known_names() -> None:
    with pytest.raises(ConfigError, match=r"'nearest_thing' is unknown; there are .*nearest_form"):
        experts.build(["nearest_thing"], 1)


def test_a_window_that_is_too_calm_is_told_by_its_energies() -> None:
    rough = some(6000)
    found = {}
    for name in ("dense_autoencoder", "feature_autoencoder"):
        torch.manual_seed(0)
        model = models.build(name, 1, {})
        model.prepare(lambda: [rough], lambda sums: sums)
        optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
        for batch in torch.split(rough[:5120], 64):
            estimate, target, _ = model.learn(batch)
            optimizer.zero_grad()
            (estimate - target).square().mean().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
        with torch.inference_mode():
            x = torch.cat((rough[-100:], 0.3 * rough[-100:]))
            estimate, target, _ = model.compare(x)
            error = (estimate - target).square().mean(dim=(1, 2))
        found[name] = bool(error[100:].median() > error[:100].quantile(0.99))
    assert found == {"dense_autoencoder": False, "feature_autoencoder": True}


@pytest.mark.parametrize("local", [True, "median"])
def test_a_local_module_sees_movement_and_no_level_and_expects_at_the_level(local: Local) -> None:
    torch.manual_seed(1)
    exported = Exported(models.build("dense_autoencoder", 2, {}).eval(), local=local)
    x, one = some(5, 2), torch.ones(5, 2)
    here = exported(x, 0 * one, one)
    there = exported(x + 7, 0 * one, one)
    torch.testing.assert_close(here[0], there[0], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(here[2] + 7, there[2], rtol=1e-3, atol=1e-4)


def test_the_newest_error_is_that_below_and_above_the_estimate() -> None:
    x, one = some(200, 3), torch.ones(200, 3)
    names = ["newest", "below", "above"]
    exported = Exported(Nothing())
    newest, below, above = exported(x, 0 * one, one)[0][
        :, [exported.names.index(n) for n in names]
    ].T
    torch.testing.assert_close(below + above, newest)
    x[:, -1] = x[:, -1].abs()
    assert exported(x, 0 * one, one)[0][:, exported.names.index("below")].max() == 0


class Nothing(WindowModel):
    """Expects every window at its middle."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


@pytest.mark.parametrize("local", [True, "median"])
def test_windows_are_centred_alike_in_training_and_in_the_module(local: Local) -> None:
    runs = [Run(0, 0, wave(200)[:, None], np.arange(200))]
    scaling = fit_scaling(runs, 1, "standard")
    windows, _ = stream_windows(runs[0], 1, scaling.center[0])
    trained = normalised_windows(runs, scaling, 1, local=local).take(np.arange(len(windows)))
    one = torch.ones(len(windows), 1)
    exported = Exported(Nothing(), local=local)
    scores = exported(torch.from_numpy(windows.copy()), 0 * one, one * scaling.scale.item())[0]
    np.testing.assert_allclose(scores[:, 0], np.square(trained).mean((1, 2)), rtol=1e-4)


def test_the_median_of_a_window_hardly_minds_a_few_outliers() -> None:
    window, one = some(1), torch.ones(1, 1)
    hit = window.clone()
    hit[0, [3, 17, 40]] = -50.0
    off = {}
    for local in (True, "median"):
        exported = Exported(Nothing(), local=local)
        there, here = (exported(x, 0 * one, one)[2] for x in (hit, window))
        off[local] = float((there - here).abs())
    assert off[True] > 2
    assert off["median"] < 0.2


def test_a_recipe_chooses_experts_tails_and_fusion(tmp_path: Path) -> None:
    config = TrainerConfig(
        windows=Windows(scales=[1, 2], local=True, clip=8.0),
        model=ModelChoice(name="feature_autoencoder"),
        fit=Fit(epochs=2, windows_per_epoch=512, threads=1, device="cpu"),
        experts=[
            ExpertRule(name="newest", scales="finest"),
            ExpertRule(
                name="nearest_energy", scales="coarsest", smoothing=10, of="max", weight=2.0
            ),
            ExpertRule(name="reconstruction"),
        ],
        calibration=Calibration(tail=0.9, fusion="l2"),
    )
    registry = Registry(tmp_path / "registry")
    publish(train(fleet(1500), config, quiet=True), registry)
    manifest = registry.load().manifest
    found = [
        (one.scale, one.name, one.output, one.smoothing.n, one.smoothing.kind, one.weight)
        for one in manifest.experts
    ]
    assert found == [
        (1, "reconstruction", 0, 1, "mean", 1.0),
        (1, "newest", 1, 1, "mean", 1.0),
        (2, "reconstruction", 0, 1, "mean", 1.0),
        (2, "nearest_energy", 5, 5, "max", 2.0),
    ]
    assert manifest.fusion == "l2"
    assert manifest.levels.transform == "log1p"
    assert all(one.tail is not None and one.tail.at > 0 for one in manifest.experts)
    assert load_model(registry.load()).scorer.rungs  # golden windows agree, tiles are stable


def correlated(n: int, seed: int = 0) -> torch.Tensor:
    """Three features, the second twice the first and noise, the third drifting by itself."""
    x = some(n, 3, seed)
    x[:, :, 1] = 2 * x[:, :, 0] + 0.1 * x[:, :, 1]
    x[:, :, 2] = 0.1 * x[:, :, 2].cumsum(1)
    return x


@pytest.mark.parametrize("name", ["t2_movement", "t2_spread", "t2_level", "t2_recent"])
def test_t2_is_the_mahalanobis_distance_of_its_summary(name: str) -> None:
    (family,) = experts.build([name], 3)
    assert isinstance(family, Hotelling)
    family.prepare(correlated(3000), 0)
    asked = correlated(50, seed=1)
    away = family.away(asked)[0].double().numpy()
    precision = family.precision[0, :, :3].double().numpy()
    distance = np.einsum("bf,fg,bg->b", away, precision, away)
    np.testing.assert_allclose(family(asked)[0][:, 0], distance / 3, rtol=1e-4)


def test_innovations_of_usual_windows_are_of_size_one_and_independent_of_correlation() -> None:
    (family,) = experts.build(["innovation"], 3)
    family.prepare(10 * correlated(6000), 0)
    asked = 10 * correlated(3000, seed=1)
    assert family(asked)[0].mean().item() == pytest.approx(1.0, rel=0.1)
    for feature in range(3):  # 3 deviations of the whole are 2 or 30 of what the others leave open
        asked[:, -1, feature] += 3 * asked[:, -1, feature].std()
        assert family(asked)[0].mean() > (20 if feature < 2 else 3)
        asked[:, -1, feature] -= 3 * asked[:, -1, feature].std()


def test_features_that_are_as_usual_but_not_together_are_told_by_their_innovation() -> None:
    (family,) = experts.build(["innovation"], 3)
    family.prepare(correlated(6000), 0)
    asked = correlated(500, seed=1)
    calm = family(asked)[0].quantile(0.99)
    mixed = asked.clone()
    mixed[:, -1, 1] = asked.roll(1, 0)[:, -1, 1]
    scores, blame = family(mixed)
    assert (scores[:, 0] > calm).float().mean() > 0.85
    assert (blame[:, :2].sum(dim=1) > 0.9 * blame.sum(dim=1)).float().mean() > 0.9


def test_t2_blames_the_feature_that_left_the_others() -> None:
    (family,) = experts.build(["t2_level", "t2_recent"], 3)
    family.prepare(correlated(3000), 0)
    asked = correlated(200, seed=1)
    asked[:, -8:, 1] += 3.0
    scores, blame = family(asked)
    assert (scores[:, 1] > 5 * family.usual[1]).float().mean() > 0.9
    assert (blame.argmax(dim=1) == 1).float().mean() > 0.9


def test_a_feature_that_drifts_is_given_more_room_by_t2_recent() -> None:
    (family,) = experts.build(["t2_recent"], 2)
    x = some(3000, 2)
    x[:, :, 1] = 0.5 * some(3000, 1, seed=3)[:, :1, 0] + 0.1 * x[:, :, 1]
    family.prepare(x, 0)
    jittery, drifting = x[:100].clone(), x[:100].clone()
    jittery[:, -8:, 0] += 2 * x[:, -8:, 0].mean(1).std()
    drifting[:, -8:, 1] += 2 * x[:, -8:, 1].mean(1).std()
    assert family(jittery)[0].median() > 5 * family(drifting)[0].median()


def test_an_autoregression_forecasts_what_a_mean_cannot() -> None:
    (family,) = experts.build(["autoregression", "departure", "roughness"], 1)
    time = torch.arange(3060)
    wave = torch.sin(0.4 * time) + 0.05 * torch.randn(3060, generator=torch.Generator())
    wave[::97] += 5.0  # what is fitted minds them little
    windows = wave.unfold(0, 60, 1).unsqueeze(2)
    family.prepare(windows[torch.randperm(3001, generator=torch.Generator())], 0)
    assert isinstance(family, Movement)
    calm = torch.sin(0.4 * torch.arange(400)).unfold(0, 60, 1).unsqueeze(2)
    error, departure, _ = family.errors(calm)
    assert error.mean() < 0.05 * departure.mean()
    rough = calm + 2.0 * torch.randn(calm.shape, generator=torch.Generator())
    assert family(rough)[0][:, 2].median() > 3 * family(calm)[0][:, 2].median()


@pytest.mark.parametrize("features", [1, 4])
def test_every_expert_is_served_and_blames_features(features: int, tmp_path: Path) -> None:
    data = fleet(1500)
    if features > 1:
        wide = [
            SeriesData(one.name, one.timestamp, one.values * np.arange(1.0, 5.0) + noise(len(one)))
            for one in data.series
        ]
        data = Dataset(["a", "b", "c", "d"], wide)
    config = TrainerConfig(
        model=ModelChoice(name="dense_autoencoder"),
        fit=Fit(epochs=1, windows_per_epoch=256, threads=1, device="cpu"),
        experts=[ExpertRule(name=name) for name in experts.NAMES],
    )
    registry = Registry(tmp_path / "registry")
    publish(train(data, config, quiet=True), registry)
    model = load_model(registry.load())  # golden windows agree, tiles are stable
    golden = model.bundle.golden(1)
    answer = model.scorer.score(1, golden.windows[:64], golden.center[:64], golden.scale[:64])
    assert answer.scores.shape == (64, len(experts.NAMES))
    assert answer.scores.min() >= 0
    np.testing.assert_allclose(answer.contribution.sum(axis=1), 1.0, rtol=1e-4)


def noise(n: int) -> NDArray[np.float64]:
    return np.random.default_rng(5).normal(0, 0.3, (n, 4))


def test_an_expert_needs_eight_windows_that_do_not_overlap() -> None:
    names = ["t2_level", "t2_recent", "innovation"]
    assert experts.too_few(names, 8 * 60) == {}
    assert experts.too_few(names, 240) == {"t2_level": 4.0}
    assert experts.too_few([*names, "t2_movement"], 240) == {"t2_level": 4.0, "t2_movement": 4.0}
    assert experts.too_few(["t2_level", "t2_spread"], 60) == {"t2_level": 1.0}  # one is kept


def test_experts_that_are_left_out_are_told_in_the_bundle_and_not_computed() -> None:
    rules = [ExpertRule(name="t2_level"), ExpertRule(name="t2_recent")]
    config = TrainerConfig(
        model=ModelChoice(name="pca", options={"of": "step"}), experts=rules, fit=Fit(threads=1)
    )
    both = np.column_stack([wave(600), wave(600, 1)])
    data = Dataset(["a", "b"], [SeriesData("s", 1000 * np.arange(600), both)])
    manifest = train(data, config, quiet=True).manifest
    assert [one.name for one in manifest.experts] == ["t2_recent"]
    assert manifest.experts[0].output == len(experts.OF_THE_MODEL)
    assert manifest.notes == [
        "scale 1: t2_level left out: 6.0 windows to fit to that do not overlap, of 8 needed"
    ]


def test_closed_forms_are_fitted_again_to_all_samples_and_the_scale_of_scores_stays() -> None:
    """A feature whose range the last fifth widens: the final model knows the wider range."""
    rng = np.random.default_rng(0)
    both = rng.normal(size=(1200, 2))
    both[960:, 0] *= 4
    data = Dataset(["a", "b"], [SeriesData("s", 1000 * np.arange(1200), both)])

    def made(*, refit: bool) -> tuple[float, float]:
        config = TrainerConfig(
            model=ModelChoice(name="pca", options={"of": "step"}),
            fit=Fit(refit=refit, threads=1),
            experts=[ExpertRule(name="t2_recent")],
            calibration=Calibration(tail=0.99, shape="log"),
        )
        trained = train(data, config, quiet=True)
        (expert,) = trained.manifest.experts
        assert expert.tail is not None
        windows, _ = stream_windows(Run(0, 0, both, np.arange(1200)), 1, np.zeros(2))
        shape = (len(windows), 2)
        scorer = Scripted({1: trained.files["model-1.pt"]})
        table = SeriesTable.from_bytes(trained.files["series.npz"])
        center, spread = (
            np.broadcast_to(one[0].astype(np.float32), shape) for one in (table.center, table.scale)
        )
        scores = scorer.score(1, windows, center, spread).scores
        return expert.tail.at, float(np.quantile(scores[-240:, expert.output], 0.99))

    (at, before), (again, after) = made(refit=False), made(refit=True)
    assert at == again
    assert after < 0.7 * before


@pytest.mark.parametrize("features", [1, 3])
def test_components_of_steps_reconstruct_each_step_alike(features: int) -> None:
    model = models.build("pca", features, {"of": "step", "variance": 0.5})
    x = some(200, features) @ torch.diag(torch.tensor([3.0, 1.0, 0.3][:features]))
    model.solve([x], lambda sums: sums)  # type: ignore[operator]  # pca has a closed form
    turned = x.flip(1)
    torch.testing.assert_close(model(turned), model(x).flip(1))
    if features > 1:  # of a single one no component may be kept
        assert (model(x) - x).square().mean() < 0.5 * x.square().mean()


def test_scores_that_do_not_count_have_no_part_in_the_blame() -> None:
    """A feature that stands still, as it may, is not to blame for another one's leap."""
    x = some(300, 2)
    family = Hotelling(["t2_recent"], 2)
    family.prepare(x, 0)
    window = some(1, 2, seed=1)
    window[:, :, 1] = 0.3
    window[:, -8:, 0] += 5
    model = models.build("pca", 2, {"of": "step"})
    ones = (torch.zeros(1, 2), torch.ones(1, 2))
    with_stuck = Exported(model, [family], counted=["t2_recent", "stuck"])(window, *ones)[1]
    without = Exported(model, [family], counted=["t2_recent"])(window, *ones)[1]
    assert with_stuck[0, 1] > 0.9
    assert without[0, 0] > 0.9
