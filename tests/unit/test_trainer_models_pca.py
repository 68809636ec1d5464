"""Principal components: the same as scikit-learn's, the same bits in any company."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from tests.unit.trainer_cases import fleet, series, wave, windows_of
from trainer import models
from trainer.config import Fit, ModelChoice
from trainer.data import Dataset
from trainer.fit import fit


@pytest.mark.parametrize(("options", "expected"), [({}, 0.9), ({"components": 5}, 5)])
def test_principal_components_are_those_of_scikit_learn(
    options: dict[str, Any], expected: float
) -> None:
    both = np.stack([wave(900, 1), wave(900, 2, period=31)], axis=1)
    train_windows, held = windows_of(Dataset(["a", "b"], [series("pump", both)]))
    found = fit(
        train_windows, held, ModelChoice(name="pca", options=options),
        Fit(threads=1, device="cpu"), quiet=True,
    )  # fmt: skip
    assert found.epochs == 0
    flat = train_windows.take(np.arange(len(train_windows))).reshape(len(train_windows), -1)
    reference = PCA(expected, svd_solver="full").fit(flat)
    windows = held.take(np.arange(len(held)))
    there = reference.inverse_transform(reference.transform(windows.reshape(len(windows), -1)))
    with torch.inference_mode():
        estimate = found.model(torch.from_numpy(windows)).flatten(1).numpy()
    np.testing.assert_allclose(estimate, there, atol=2e-3)
    assert found.validation_error == pytest.approx(
        float(np.mean((there - windows.reshape(len(windows), -1)) ** 2)), rel=1e-3
    )


@pytest.mark.parametrize("components", range(1, 13))
def test_principal_components_give_a_window_the_same_bits_beside_other_windows(
    components: int,
) -> None:
    train_windows, held = windows_of(Dataset(["a"], [series("pump", wave(900, 1))]))
    choice = ModelChoice(name="pca", options={"components": components})
    model = fit(
        train_windows, held, choice, Fit(threads=1, device="cpu"), quiet=True
    ).model  # fmt: skip
    windows = torch.from_numpy(train_windows.take(np.arange(256)))
    with torch.inference_mode():
        together = model(windows)
        for shift in (1, 11):
            moved = model(windows[shift : shift + 16])
            assert torch.equal(moved, together[shift : shift + 16])


def test_one_principal_component_gives_a_window_the_same_bits_beside_any_others() -> None:
    options = {"components": 1}
    found = fit(
        *windows_of(Dataset(["value"], fleet(900).series[:1])),
        ModelChoice(name="pca", options=options), Fit(threads=1, device="cpu"), quiet=True,
    )  # fmt: skip
    x = torch.randn(256, 60, 1, generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        whole = found.model(x)
        assert torch.equal(found.model(x.roll(3, 0)).roll(-3, 0), whole)
        assert torch.equal(found.model(x[64:80]), whole[64:80])


@pytest.mark.parametrize("of", ["step", "window"])
@pytest.mark.parametrize("features", [2, 20])
def test_errors_of_principal_components_are_those_of_their_reconstruction(
    of: str, features: int
) -> None:
    torch.manual_seed(1)
    mixed = torch.randn(256, 60, features) @ torch.randn(features, features) + 3.0
    model = models.build("pca", features, {"of": of, "variance": 0.5})
    assert isinstance(model, models.pca.Pca)
    model.solve([mixed], lambda sums: sums)
    whole, newest = model.errors(mixed)
    torch.testing.assert_close(
        whole, (mixed - model(mixed)).square().mean(dim=1), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(newest, model(mixed)[:, -1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"components": 5}])
def test_values_that_never_change_have_no_part_in_principal_components(
    options: dict[str, Any],
) -> None:
    generator = torch.Generator().manual_seed(1)
    moving = torch.randn(256, 60, 1, generator=generator).cumsum(1)
    still = torch.tensor([0.0, 2.5, -3.0]).expand(256, 60, 3)
    model = models.build("pca", 4, options)
    assert isinstance(model, models.pca.Pca)
    model.solve([torch.cat([moving, still], dim=2)], lambda sums: sums)
    alone = models.build("pca", 1, options)
    assert isinstance(alone, models.pca.Pca)
    alone.solve([moving], lambda sums: sums)
    stirred = still + torch.randn(256, 60, 3, generator=generator)
    estimate = model(torch.cat([moving, stirred], dim=2))
    torch.testing.assert_close(estimate[:, :, :1], alone(moving), rtol=0, atol=1e-4)
    torch.testing.assert_close(estimate[:, :, 1:], still, rtol=0, atol=1e-4)


def test_principal_components_of_nothing_that_changes_are_none() -> None:
    model = models.build("pca", 2, {})
    assert isinstance(model, models.pca.Pca)
    model.solve([torch.full((64, 60, 2), 3.0)], lambda sums: sums)
    x = torch.randn(64, 60, 2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(x), torch.full_like(x, 3.0))


def test_thousands_of_values_that_never_change_are_no_trouble() -> None:
    """As in a channel of MSL: the solver failed on 2,760 rows of zeros among 3,300."""
    flags = [0, 5, 11, 12, 27, 39, 47, 53, 54]
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(600, 60, 55)
    x[:, :, flags] = (torch.rand(600, 60, len(flags), generator=generator) < 0.02).float()
    model = models.build("pca", 55, {})
    assert isinstance(model, models.pca.Pca)
    model.solve([x], lambda sums: sums)
    assert float((x - model(x)).square().mean()) < 0.15 * float(x.var())
