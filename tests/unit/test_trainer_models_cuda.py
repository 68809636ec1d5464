"""The same code on a CUDA device: scores within float32's tolerance of the CPU's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from stream_detector.adapters.torch_scorer import load_model
from stream_detector.bundle import Registry
from tests.unit.trainer_cases import series, wave
from trainer import models
from trainer.config import Fit, ModelChoice, TrainerConfig
from trainer.data import Dataset
from trainer.train import publish, train

if TYPE_CHECKING:
    from pathlib import Path

needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no CUDA device here: that scores on one equal the CPU's has not been run",
)


@needs_cuda
# A scripted LSTM cannot pack its weights again after it has moved to a device: slower, not wrong.
@pytest.mark.filterwarnings("ignore:RNN module weights are not part of single contiguous chunk")
@pytest.mark.parametrize("name", models.MODELS)
def test_a_model_fitted_on_cuda_scores_there_as_on_the_cpu(name: str, tmp_path: Path) -> None:
    both = np.stack([wave(700, 1), wave(700, 2)], axis=1)
    config = TrainerConfig(
        model=ModelChoice(name=name), fit=Fit(epochs=2, windows_per_epoch=256, device="cuda")
    )
    registry = Registry(tmp_path)
    publish(train(Dataset(["a", "b"], [series("pump", both)]), config, quiet=True), registry)
    bundle = registry.load()
    golden = bundle.golden(1)
    tile = golden.windows[:256], golden.center[:256], golden.scale[:256]
    here = load_model(bundle, "cpu").scorer.score(1, *tile)
    there = load_model(bundle, "cuda").scorer.score(1, *tile)
    tolerance = bundle.manifest.tolerance
    np.testing.assert_allclose(there.scores, here.scores, rtol=tolerance, atol=1e-3 * tolerance)
    np.testing.assert_allclose(there.contribution, here.contribution, atol=1e-3)
    np.testing.assert_allclose(there.expected, here.expected, rtol=1e-3, atol=1e-3)
