"""Dense autoencoder over the flattened window: 60F - 128 - 16 - 128 - 60F, GELU.

About a hundred times faster than the LSTM, and as good on short, regular series.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from torch import Tensor, nn

from stream_detector.config import Count, Section
from trainer.models.base import WindowModel


class Options(Section, frozen=True, kw_only=True):
    hidden: Annotated[Count, Meta(description="Units of the two hidden layers.")] = 128
    code: Annotated[Count, Meta(description="Units of the bottleneck.")] = 16


class DenseAutoencoder(WindowModel):
    def __init__(self, features: int, window: int, options: Options) -> None:
        super().__init__()
        size = window * features
        self.layers = nn.Sequential(
            nn.Linear(size, options.hidden),
            nn.GELU(),
            nn.Linear(options.hidden, options.code),
            nn.GELU(),
            nn.Linear(options.code, options.hidden),
            nn.GELU(),
            nn.Linear(options.hidden, size),
        )

    def forward(self, x: Tensor) -> Tensor:  # [B, 60, F] normalised -> the same, reconstructed
        reconstructed: Tensor = self.layers(x.flatten(1)).view_as(x)
        return reconstructed
