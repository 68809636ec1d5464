"""Transformer autoencoder: patches of steps attend to each other, through a narrow code and back.

Vaswani et al., "Attention Is All You Need", 2017; patches as tokens are Nie et al., "A Time Series
is Worth 64 Words", 2023. The code is narrow because attention alone would copy its input.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor, nn

from stream_detector.config import Count, Section
from trainer.models.base import Dropout, WindowModel


class Options(Section, frozen=True, kw_only=True):
    patch: Annotated[
        Literal[1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30], Meta(description="Steps of one token.")
    ] = 5
    width: Annotated[
        Count, Meta(description="Width of a token inside; a multiple of the heads.")
    ] = 32
    heads: Annotated[Count, Meta(description="Attention heads.")] = 4
    layers: Annotated[Count, Meta(description="Layers before and after the code.")] = 1
    code: Annotated[Count, Meta(description="Units of the bottleneck.")] = 16
    dropout: Annotated[
        Dropout, Meta(description="Share of each layer's outputs that a pass leaves out.")
    ] = 0.0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError("`width` must be a multiple of `heads`")


class TransformerAutoencoder(WindowModel):
    def __init__(self, features: int, window: int, options: Options) -> None:
        super().__init__()
        self.tokens, self.width = window // options.patch, options.width
        self.size = options.patch * features
        self.embed = nn.Linear(self.size, options.width)
        self.place = nn.Parameter(torch.randn(self.tokens, options.width) / 10)
        self.encoder = _layers(options)
        self.narrow = nn.Linear(self.tokens * options.width, options.code)
        self.widen = nn.Linear(options.code, self.tokens * options.width)
        self.decoder = _layers(options)
        self.output = nn.Linear(options.width, self.size)

    def forward(self, x: Tensor) -> Tensor:  # [B, 60, F] normalised -> the same, reconstructed
        tokens = self.embed(x.reshape(-1, self.tokens, self.size)) + self.place
        code = self.narrow(self.encoder(tokens).flatten(1))
        tokens = self.widen(code).view(-1, self.tokens, self.width) + self.place
        reconstructed: Tensor = self.output(self.decoder(tokens)).reshape(x.shape)
        return reconstructed


def _layers(options: Options) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        options.width,
        options.heads,
        dim_feedforward=2 * options.width,
        dropout=options.dropout,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
    return nn.TransformerEncoder(layer, options.layers, enable_nested_tensor=False)
