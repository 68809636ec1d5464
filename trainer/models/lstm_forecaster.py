"""Stacked LSTM that forecasts: each of the newest steps from all steps before it, then dense.

Malhotra et al., "Long Short Term Memory Networks for Anomaly Detection in Time Series", 2015.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from msgspec import Meta, field
from torch import Tensor, nn

from stream_detector.config import Count, Section
from trainer.models.base import Dropout, Forecast, WindowModel
from trainer.models.recurrent import Recurrent


class Options(Section, frozen=True, kw_only=True):
    layers: Annotated[list[Count], Meta(min_length=1, description="Units of each LSTM layer.")] = (
        field(default_factory=lambda: [128, 64])
    )
    dropout: Annotated[
        Dropout, Meta(description="Share of each layer's outputs that a pass leaves out.")
    ] = 0.2
    forecast: Forecast = 10


class LstmForecaster(WindowModel):
    """A layer's states know no later step, so one pass over the window forecasts them all."""

    def __init__(self, features: int, window: int, options: Options) -> None:  # noqa: ARG002  # every model is built from the same three
        super().__init__()
        self.counted = options.forecast
        sizes = [features, *options.layers]
        self.layers = nn.ModuleList(Recurrent(inputs, units) for inputs, units in pairwise(sizes))
        self.dropout = nn.Dropout(options.dropout)
        self.output = nn.Linear(sizes[-1], features)

    def forward(self, x: Tensor) -> Tensor:  # [B, 60, F] normalised -> the newest ones forecast
        states = x[:, :-1]
        for layer in self.layers:
            states = self.dropout(layer(states))
        forecast = self.output(states[:, -self.counted :])
        return torch.cat((x[:, : -self.counted], forecast), dim=1)
