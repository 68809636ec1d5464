"""LSTM with attention that forecasts: the state before a step attends to all states up to it.

Attention is Luong et al., "Effective Approaches to Attention-based Neural Machine Translation",
2015 (the general score, divided by the root of the width as in Vaswani et al., 2017), over the
states of an LSTM as in Malhotra et al., 2015. With `highway` a linear autoregression runs beside
them, as in Lai et al., "Modeling Long- and Short-Term Temporal Patterns with Deep Neural Networks",
2018 (LSTNet): few windows suffice for it, and the LSTM learns what it leaves.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from stream_detector.bundle import WINDOW
from stream_detector.config import Count, Section
from trainer.models.base import Dropout, Forecast, WindowModel
from trainer.models.despike import Despike
from trainer.models.recurrent import Recurrent

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.models.base import Windows


class Options(Section, frozen=True, kw_only=True):
    hidden: Annotated[Count, Meta(description="Units of the LSTM layer.")] = 64
    dropout: Annotated[Dropout, Meta(description="Share of the states that a pass leaves out.")] = (
        0.2
    )
    forecast: Forecast = 10
    highway: Annotated[
        int, Meta(ge=0, le=58, description="Steps of the autoregression beside it; 0 is none.")
    ] = 0
    despike: Annotated[
        bool, Meta(description="Take spikes out of what the forecast looks back at.")
    ] = False

    def __post_init__(self) -> None:
        if self.highway + self.forecast > WINDOW - 1:
            raise ValueError(f"`highway` and `forecast` must be at most {WINDOW - 1} together")


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
        self.despike = options.despike
        self.calm = Despike(features)
        self.highway = options.highway
        self.direct = nn.Linear(max(options.highway, 1), 1)
        if options.highway:
            nn.init.constant_(self.direct.weight, 1 / options.highway)  # at first their mean
            nn.init.zeros_(self.direct.bias)
            nn.init.zeros_(self.output.weight)
            nn.init.zeros_(self.output.bias)
        row = torch.arange(window - 1)
        later = row.unsqueeze(0) > row[-options.forecast :].unsqueeze(1)
        self.later = nn.Buffer(later)  # [forecast, 59] what a query must not see

    def forward(self, x: Tensor) -> Tensor:  # [B, 60, F] normalised -> the newest ones forecast
        past = self.calm(x[:, :-1]) if self.despike else x[:, :-1]
        states = self.dropout(self.recurrent(past))  # [B, 59, hidden]
        query = states[:, -self.counted :]
        match = query @ self.key(states).transpose(1, 2) / self.root  # [B, forecast, 59]
        weight = match.masked_fill(self.later, -1e9).softmax(dim=2)
        attended = torch.cat((weight @ states, query), dim=2)
        forecast = self.output(self.combine(attended).tanh())
        if self.highway > 0:
            near = past[:, -(self.counted + self.highway - 1) :]
            forecast = forecast + self.direct(near.unfold(1, self.highway, 1)).squeeze(3)
        return torch.cat((x[:, : -self.counted], forecast), dim=1)

    def prepare(self, windows: Windows, total: Callable[[Tensor], Tensor]) -> None:
        self.calm.prepare(windows, total)
