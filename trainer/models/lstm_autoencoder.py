"""LSTM autoencoder: encoder -> its last state, repeated -> decoder -> dense.

Malhotra et al., "LSTM-based Encoder-Decoder for Multi-sensor Anomaly Detection", 2016; the decoder
that sees the embedding at every step is that of Cho et al., "Learning Phrase Representations using
RNN Encoder-Decoder", 2014.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from msgspec import Meta
from torch import Tensor, nn

from stream_detector.config import Count, Section
from trainer.models.base import Activation, Dropout, WindowModel
from trainer.models.recurrent import Recurrent


class Options(Section, frozen=True, kw_only=True):
    layers: Annotated[Count, Meta(description="LSTM layers of the encoder and of the decoder.")] = 1
    hidden: Annotated[Count, Meta(description="Units of each layer.")] = 64
    embedding: Annotated[
        Count | None, Meta(description="Units of the encoder's last layer; null: as hidden.")
    ] = None
    activation: Annotated[
        Activation, Meta(description="Of candidate and output; relu is several times slower.")
    ] = "tanh"
    dropout: Annotated[
        Dropout, Meta(description="Share of each layer's outputs that a pass leaves out.")
    ] = 0.0


class LstmAutoencoder(WindowModel):
    def __init__(self, features: int, window: int, options: Options) -> None:
        super().__init__()
        self.window = window
        embedding = options.embedding or options.hidden
        inner = [options.hidden] * (options.layers - 1)
        relu = options.activation == "relu"
        self.encoder = _stack([features, *inner, embedding], relu=relu)
        self.decoder = Recurrent(embedding, options.hidden, relu=relu)
        self.deeper = _stack([options.hidden, *inner], relu=relu)
        self.dropout = nn.Dropout(options.dropout)
        self.output = nn.Linear(options.hidden, features)

    def forward(self, x: Tensor) -> Tensor:  # [B, 60, F] normalised -> the same, reconstructed
        for layer in self.encoder:
            x = self.dropout(layer(x))
        states = self.dropout(self.decoder.repeated(x[:, -1], self.window))
        for layer in self.deeper:
            states = self.dropout(layer(states))
        reconstructed: Tensor = self.output(states)
        return reconstructed


def _stack(sizes: list[int], *, relu: bool) -> nn.ModuleList:
    return nn.ModuleList(Recurrent(inputs, units, relu=relu) for inputs, units in pairwise(sizes))
