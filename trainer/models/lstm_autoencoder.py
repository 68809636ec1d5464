"""LSTM autoencoder: encoder -> its last state, repeated -> decoder -> dense.

Malhotra et al., "LSTM-based Encoder-Decoder for Multi-sensor Anomaly Detection", 2016.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from torch import Tensor, nn

from stream_detector.config import Count, Section


class Options(Section, frozen=True, kw_only=True):
    hidden: Annotated[Count, Meta(description="Units of the encoder and of the decoder.")] = 64


class LstmAutoencoder(nn.Module):
    def __init__(self, features: int, window: int, options: Options) -> None:
        super().__init__()
        self.window = window
        self.encoder = nn.LSTM(features, options.hidden, batch_first=True)
        self.decoder = nn.LSTM(options.hidden, options.hidden, batch_first=True)
        self.output = nn.Linear(options.hidden, features)

    def forward(self, x: Tensor) -> Tensor:  # [B, 60, F] normalised -> the same, reconstructed
        state = self.encoder(x)[1][0]  # [1, B, hidden]
        repeated = state[-1].unsqueeze(1).expand(-1, self.window, -1)
        reconstructed: Tensor = self.output(self.decoder(repeated)[0])
        return reconstructed
