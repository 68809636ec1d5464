from __future__ import annotations

import io
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stream_detector.adapters import torch_scorer
from stream_detector.adapters.torch_scorer import load_model
from stream_detector.bundle import BundleError, Golden, Registry, golden_to_bytes
from tests.unit.trainer_cases import fleet, quick
from trainer.train import publish, train

if TYPE_CHECKING:
    from pathlib import Path

    from stream_detector.bundle import Bundle
    from stream_detector.ports import Model
    from trainer.train import Trained


class BesideOthers(nn.Module):
    """Wrong on purpose: a window's score depends on the rest of the tile."""

    def forward(
        self, windows: Tensor, center: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        rank = torch.arange(windows.size(0), dtype=torch.float32)
        error = windows.square().mean(dim=(1, 2)) * (1 + rank * 1e-6)
        return torch.stack((error, error, error), 1), torch.ones_like(center), center + 0 * scale


class TileSized(nn.Module):
    """Wrong on purpose: other bits in tiles of another size."""

    def forward(
        self, windows: Tensor, center: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        error = windows.square().mean(dim=(1, 2)) * (1 + windows.size(0) * 1e-7)
        return torch.stack((error, error, error), 1), torch.ones_like(center), center + 0 * scale


class OneArgument(nn.Module):
    """Wrong on purpose: another signature."""

    def forward(self, windows: Tensor) -> Tensor:
        return windows


FAULTS = """
import resource
import numpy as np
from stream_detector.adapters.torch_scorer import keep_memory

print(int(keep_memory()))
before = 0
for turn in range(101):
    held = [np.ones(1 << 18) for _ in range(4)]  # 2 MiB each
    del held
    if not turn:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_memory_of_a_tile_is_not_had_anew_for_the_next() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True)
    kept, faults = map(int, done.stdout.split())
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert faults < 2048  # pages of one turn, of a hundred


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(fleet(1500), quick(epochs=2), quiet=True)


@pytest.fixture(scope="module")
def bundle(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    registry = Registry(tmp_path_factory.mktemp("registry"))
    publish(trained, registry)
    return registry.load()


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Model:
    return load_model(bundle, "cpu", threads=1)


def changed(trained: Trained, folder: Path, files: dict[str, bytes]) -> Bundle:
    registry = Registry(folder / "registry")
    version = registry.publish(trained.manifest, {**trained.files, **files})
    return registry.load(version)


def archive(module: nn.Module) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.")
        torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


def golden_by(bundle: Bundle, score_as: nn.Module) -> Golden:
    one = bundle.golden(1)
    given = (torch.from_numpy(part) for part in (one.windows, one.center, one.scale))
    return Golden(one.windows, one.center, one.scale, score_as(*given)[0].numpy())


def test_a_published_bundle_gives_its_golden_scores_in_every_tile(model: Model) -> None:
    golden = model.bundle.golden(1)
    assert len(golden.windows) >= 300
    for rung in model.scorer.rungs:
        tile = (golden.windows[:rung], golden.center[:rung], golden.scale[:rung])
        answer = model.scorer.score(1, *tile)
        np.testing.assert_allclose(answer.scores, golden.scores[:rung], rtol=1e-4, atol=1e-7)
        assert answer.contribution.shape == answer.expected.shape == (rung, 1)


def test_a_window_has_the_same_bits_in_every_rung_and_row(model: Model) -> None:
    golden = model.bundle.golden(1)
    assert model.scorer.rungs == (16, 64, 256)
    rng = np.random.default_rng(0)
    answers = set()
    for rung in model.scorer.rungs:
        for row in (0, 5, rung - 1):
            rows = rng.integers(0, len(golden.windows), rung)
            rows[row] = 7
            tile = (golden.windows[rows], golden.center[rows], golden.scale[rows])
            answer = model.scorer.score(1, *tile)
            answers.add(tuple(column[row].tobytes() for column in answer))
    assert len(answers) == 1


def test_contributions_are_shares_and_expected_is_in_the_windows_units(model: Model) -> None:
    golden = model.bundle.golden(1)
    tile = golden.windows[:64], golden.center[:64], golden.scale[:64]
    before = model.scorer.score(1, *tile)
    np.testing.assert_allclose(before.contribution.sum(axis=1), 1, rtol=1e-5)
    newest = golden.windows[:64, -1]
    assert (np.abs(before.expected - newest) < 3 * golden.scale[:64]).mean() > 0.9
    after = model.scorer.score(1, 8 * tile[0], 8 * tile[1], 8 * tile[2])
    np.testing.assert_array_equal(after.scores, before.scores)
    np.testing.assert_array_equal(after.expected, 8 * before.expected)


def test_absurd_values_give_large_finite_scores_and_nan_stays_nan(model: Model) -> None:
    golden = model.bundle.golden(1)
    windows = golden.windows[:16].copy()
    windows[0, -1] = 3e38
    windows[1, 30] = np.nan
    scores = model.scorer.score(1, windows, golden.center[:16], golden.scale[:16]).scores
    assert 1e3 < scores[0, 1] < 1e6
    assert np.isnan(scores[1, 0])
    assert np.isfinite(scores[[0, *range(2, 16)]]).all()


def test_golden_scores_that_do_not_match_are_refused(
    trained: Trained, bundle: Bundle, tmp_path: Path
) -> None:
    one = bundle.golden(1)
    off = Golden(one.windows, one.center, one.scale, one.scores * np.float32(1.001))
    other = changed(trained, tmp_path, {"golden.npz": golden_to_bytes({1: off})})
    with pytest.raises(BundleError, match=r"golden scores are off by 0\.001 .* 0\.0001 is allowed"):
        load_model(other, "cpu")


def test_a_truncated_archive_is_refused(trained: Trained, tmp_path: Path) -> None:
    cut = trained.files["model-1.pt"][:-2000]
    other = changed(trained, tmp_path, {"model-1.pt": cut})
    with pytest.raises(BundleError, match=r"model-1\.pt: not a TorchScript module"):
        load_model(other, "cpu")


def test_another_signature_is_refused(trained: Trained, tmp_path: Path) -> None:
    other = changed(trained, tmp_path, {"model-1.pt": archive(OneArgument())})
    with pytest.raises(BundleError, match="does not keep the module contract"):
        load_model(other, "cpu")


def test_a_module_whose_rows_depend_on_each_other_is_refused(
    trained: Trained, bundle: Bundle, tmp_path: Path
) -> None:
    golden = golden_to_bytes({1: golden_by(bundle, BesideOthers())})
    loose = msgspec.structs.replace(trained.manifest, tolerance=0.03)
    registry = Registry(tmp_path)
    files = {"model-1.pt": archive(BesideOthers()), "golden.npz": golden}
    version = registry.publish(loose, {**trained.files, **files})
    with pytest.raises(BundleError, match="another score beside other windows"):
        load_model(registry.load(version), "cpu")


def test_a_module_with_other_bits_in_other_tiles_gets_a_single_rung(
    trained: Trained, bundle: Bundle, tmp_path: Path
) -> None:
    files = {
        "model-1.pt": archive(TileSized()),
        "golden.npz": golden_to_bytes({1: golden_by(bundle, TileSized())}),
    }
    assert load_model(changed(trained, tmp_path, files), "cpu").scorer.rungs == (256,)


def test_an_unknown_device_is_refused_with_the_remedy(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="set `device: auto` or `cpu`"):
        load_model(bundle, "cuda:7")


def test_a_loader_uses_the_bytes_that_were_verified(bundle: Bundle) -> None:
    path = bundle.path / "model-1.pt"
    content = path.read_bytes()
    try:
        path.write_bytes(b"changed after verification")
        assert load_model(bundle, "cpu").scorer.rungs
    finally:
        path.write_bytes(content)


def test_golden_scores_include_shifted_and_spiky_windows(bundle: Bundle) -> None:
    scores = bundle.golden(1).scores
    usual = np.median(scores[:256, 0])
    assert np.median(scores[256:320, 0]) > 3 * usual
    assert np.median(scores[320:, 0]) > 3 * usual
    assert torch_scorer.LADDER[-1] < len(scores)
