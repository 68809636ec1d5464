"""LSTM with attention that forecasts: the state before a step attends to all states up to it.

Attention is Luong et al., "Effective Approaches to Attention-based Neural Machine Translation",
2015 (the general score, divided by the root of the width as in Vaswani et al., 2017), over the
states of an LSTM as in Malhotra et al., 2015.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from stream_detector.config import Count, Section
from trainer.models.base import Dropout, Forecast, WindowModel
from trainer.models.recurrent import Recurrent


class Options(Section, frozen=True, kw_only=True):
    hidden: Annotated[Count, Meta(description="Units of the LSTM layer.")] = 64
    dropout: Annotated[Dropout, Meta(description="Share of the states that a pass leaves out.")] = (
        0.2
    )
    forecast: Forecast = 10


class LstmAttention(WindowModel):
    def __init__(self, features: int, window: int, options: Options) -> None:
        super().__init__()
        self.counted = options.forecast
        self.recurrent = Recurrent(features, options.hidden)
        self.key = nn.Linear(options.hidden, options.hidden, bias=False)
        self.dropout = nn.Dropout(options.dropout)
        self.combine = nn.Linear(2 * options.hidden, options.hidden)
        self.output = nn.Linear(options.hidden, features)
        self.root = math.sqrt(options.hidden)
        row = torch.arange(window - 1)
        later = row.unsqueeze(0) > row[-options.forecast :].unsqueeze(1)
        self.later = nn.Buffer(later)  # [forecast, 59] what a query must not see

    def forward(self, x: Tensor) -> Tensor:  # [B, 60, F] normalised -> the newest ones forecast
        states = self.dropout(self.recurrent(x[:, :-1]))  # [B, 59, hidden]
        query = states[:, -self.counted :]
        match = query @ self.key(states).transpose(1, 2) / self.root  # [B, forecast, 59]
        weight = match.masked_fill(self.later, -1e9).softmax(dim=2)
        attended = torch.cat((weight @ states, query), dim=2)
        forecast = self.output(self.combine(attended).tanh())
        return torch.cat((x[:, : -self.counted], forecast), dim=1)
