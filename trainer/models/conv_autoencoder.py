"""Convolutional autoencoder over time: 60F -> 30 -> 15 steps and back, ReLU.

Masci et al., "Stacked Convolutional Auto-Encoders for Hierarchical Feature Extraction", 2011;
widths and strides as in Keras' example "Timeseries anomaly detection using an Autoencoder".
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from torch import Tensor, nn

from stream_detector.config import Count, Section
from trainer.models.base import Dropout, WindowModel

KERNEL, PADDING = 7, 3


class Options(Section, frozen=True, kw_only=True):
    channels: Annotated[Count, Meta(description="Channels of the outer layers.")] = 32
    code: Annotated[
        Count | None,
        Meta(
            description="Channels of the 15 steps in the middle; null: as many as features, which "
            "is a quarter of the window, 8 at most."
        ),
    ] = None
    dropout: Annotated[
        Dropout, Meta(description="Share of the outer layers' outputs that a pass leaves out.")
    ] = 0.0


class ConvAutoencoder(WindowModel):
    def __init__(self, features: int, window: int, options: Options) -> None:  # noqa: ARG002  # every model is built from the same three
        super().__init__()
        channels, code = options.channels, options.code or min(features, 8)
        self.layers = nn.Sequential(
            nn.Conv1d(features, channels, KERNEL, stride=2, padding=PADDING),
            nn.ReLU(),
            nn.Dropout(options.dropout),
            nn.Conv1d(channels, code, KERNEL, stride=2, padding=PADDING),
            nn.ReLU(),
            nn.ConvTranspose1d(code, channels, KERNEL, stride=2, padding=PADDING, output_padding=1),
            nn.ReLU(),
            nn.Dropout(options.dropout),
            nn.ConvTranspose1d(
                channels, features, KERNEL, stride=2, padding=PADDING, output_padding=1
            ),
        )

    def forward(self, x: Tensor) -> Tensor:  # [B, 60, F] normalised -> the same, reconstructed
        reconstructed: Tensor = self.layers(x.transpose(1, 2)).transpose(1, 2)
        return reconstructed
