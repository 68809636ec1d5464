"""Windows a second of each scripted model, in tiles of 256 on one core, beside lstm_autoencoder.

python -m tests.bench.bench_models [--features F] [--json]
"""

from __future__ import annotations

import argparse
import io
import json
import time
import warnings
from typing import Any

import torch

from trainer import models
from trainer.export import TILE, Exported, script
from trainer.models import lstm_autoencoder, recurrent
from trainer.models.base import WindowModel

ROUNDS, CALLS = 8, 3
REFERENCE = "lstm_autoencoder"
PLAIN = "lstm_autoencoder by nn.LSTM"


class Plain(WindowModel):
    """The default LSTM autoencoder as nn.LSTM computes it, input of the decoder repeated."""

    def __init__(self, model: lstm_autoencoder.LstmAutoencoder) -> None:
        super().__init__()
        (first,) = model.encoder
        assert isinstance(first, recurrent.Recurrent)
        self.encoder = first.lstm
        self.decoder = model.decoder.lstm
        self.output = model.output

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last = self.encoder(x)[0][:, -1]
        repeated = last.unsqueeze(1).expand(-1, 60, -1)
        estimate: torch.Tensor = self.output(self.decoder(repeated)[0])
        return estimate


def built(features: int) -> dict[str, Any]:
    """Every model as it is served: scripted, saved, loaded."""
    torch.manual_seed(0)
    found: dict[str, WindowModel] = {
        name: models.build(name, features, {"components": 16} if name == "pca" else {})
        for name in models.MODELS
    }
    reference = found[REFERENCE]
    assert isinstance(reference, lstm_autoencoder.LstmAutoencoder)
    pca = found["pca"]
    assert isinstance(pca, models.pca.Pca)
    pca.solve([torch.randn(1024, 60, features)], lambda sums: sums)
    found[PLAIN] = Plain(reference)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit tells of its deprecation
        return {
            name: torch.jit.load(io.BytesIO(script(Exported(model.eval()))))  # type: ignore[no-untyped-call]  # torch leaves it untyped
            for name, model in found.items()
        }


def bench_models(features: int = 1) -> dict[str, float]:
    """Windows a second of CPU time. The models take turns, so that all see the same machine."""
    torch.set_num_threads(1)
    modules = built(features)
    tile = torch.randn(TILE, 60, features), torch.zeros(TILE, features), torch.ones(TILE, features)
    seconds: dict[str, list[float]] = {name: [] for name in modules}
    with torch.inference_mode():
        expected = {}
        for name, module in modules.items():
            for _ in range(4):  # the executor profiles the first call and compiles in the next
                expected[name] = module(*tile)[0]
            assert expected[name].ndim == 2  # [B, experts]
            assert len(expected[name]) == TILE
        torch.testing.assert_close(expected[REFERENCE], expected[PLAIN])
        for _ in range(ROUNDS):
            for name, module in modules.items():
                start = time.process_time()
                for _ in range(CALLS):
                    scores = module(*tile)[0]
                seconds[name].append(time.process_time() - start)
                assert torch.equal(scores, expected[name])
    return {name: CALLS * TILE / min(spent) for name, spent in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rates = bench_models(options.features)
    if options.json:
        ratios = {name: rate / rates[REFERENCE] for name, rate in rates.items()}
        print(json.dumps({"features": options.features, "windows_per_second": rates,
                          "ratio_to_lstm_autoencoder": ratios}))  # fmt: skip
        return
    for name, rate in rates.items():
        print(f"{name:28} {rate:12,.0f} windows/s {rate / rates[REFERENCE]:8.2f} x {REFERENCE}")


if __name__ == "__main__":
    main()
