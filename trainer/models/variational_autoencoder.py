"""Variational autoencoder over the flattened window, GELU; scores with the mean of the code.

Kingma & Welling, "Auto-Encoding Variational Bayes", 2014; for anomalies An & Cho, "Variational
Autoencoder based Anomaly Detection using Reconstruction Probability", 2015. Nothing is drawn when
it scores, so that equal windows have equal scores.
"""

from __future__ import annotations

from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from stream_detector.config import Count, Positive, Section
from trainer.models.base import WindowModel


class Options(Section, frozen=True, kw_only=True):
    hidden: Annotated[Count, Meta(description="Units of the two hidden layers.")] = 128
    code: Annotated[Count, Meta(description="Units of the code.")] = 16
    divergence: Annotated[
        Positive,
        Meta(description="Weight of the code's divergence from N(0, 1), per value of the window."),
    ] = 0.1


class VariationalAutoencoder(WindowModel):
    def __init__(self, features: int, window: int, options: Options) -> None:
        super().__init__()
        size = window * features
        self.encoder = nn.Sequential(nn.Linear(size, options.hidden), nn.GELU())
        self.mean = nn.Linear(options.hidden, options.code)
        self.log_variance = nn.Linear(options.hidden, options.code)
        self.decoder = nn.Sequential(
            nn.Linear(options.code, options.hidden), nn.GELU(), nn.Linear(options.hidden, size)
        )
        self.weight = options.divergence / size

    def forward(self, x: Tensor) -> Tensor:  # [B, 60, F] normalised -> the same, reconstructed
        reconstructed: Tensor = self.decoder(self.mean(self.encoder(x.flatten(1)))).view_as(x)
        return reconstructed

    def learn(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decodes one draw of the code; adds its divergence from the standard normal."""
        inner = self.encoder(x.flatten(1))
        mean = self.mean(inner)
        log_variance = self.log_variance(inner).clamp(-20.0, 20.0)
        code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=1)
        return self.decoder(code).view_as(x), x, self.weight * divergence.mean()
