"""Stacked LSTM that forecasts the next event: how likely each mark is, and where values will lie.

Some leading columns are marks, of which an event has one; the others are values. Marks have odds;
each mark has a density of the values that come with it, Student's t, whose wide tails take the rare
outlier for what it is. This is a marked point process where a value is the logarithm of a time (Du
et al., "Recurrent Marked Temporal Point Processes", 2016; Shchur, Bilos & Guennemann,
"Intensity-Free Learning of Temporal Point Processes", 2020).

An error is a surprise: -log of the odds of the mark that came, and -log of the density of a value
over the highest density that the model can give. Branches that are taken now and then do not look
like faults.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

import torch
from msgspec import Meta, field
from torch import Tensor, nn

from stream_detector.config import ConfigError, Count, Section
from trainer.models.base import Dropout, Forecast, WindowModel
from trainer.models.recurrent import Recurrent

NARROWEST, WIDEST = math.log(0.05), math.log(20.0)
"""Logarithms of the least and the largest width of a density, in normalised units."""
FREEDOM = 3.0
"""Degrees of freedom of the densities: few, so that outliers pull them little (Lange, Little &

Taylor, "Robust Statistical Modeling Using the t Distribution", 1989).
"""
CONTEXT = 10
"""Steps that a forecast looks back at in training, at least."""
TINY = 1e-9
"""Added below a square root, whose slope at zero is infinite."""


class Options(Section, frozen=True, kw_only=True):
    layers: Annotated[list[Count], Meta(min_length=1, description="Units of each LSTM layer.")] = (
        field(default_factory=lambda: [128, 64])
    )
    dropout: Annotated[
        Dropout, Meta(description="Share of each layer's outputs that a pass leaves out.")
    ] = 0.2
    marks: Annotated[
        int, Meta(ge=0, description="Leading columns that are 1 for an event's mark, else 0.")
    ] = 0
    forecast: Forecast = 10


class LstmEvents(WindowModel):
    """Forecasts of marks lie between -1 and 1, as minmax scaling has their columns."""

    def __init__(self, features: int, window: int, options: Options) -> None:
        super().__init__()
        if options.marks >= features:
            raise ConfigError(
                f"model.options: marks: {options.marks} of {features} columns leave none for values"
            )
        self.counted = options.forecast
        self.learnt = window - CONTEXT
        self.marks = options.marks
        self.narrowest, self.widest, self.tiny = NARROWEST, WIDEST, TINY
        self.freedom = FREEDOM
        sizes = [features, *options.layers]
        self.layers = nn.ModuleList(Recurrent(inputs, units) for inputs, units in pairwise(sizes))
        self.dropout = nn.Dropout(options.dropout)
        kinds = max(self.marks, 1)
        self.odds = nn.Linear(sizes[-1], kinds)
        self.densities = nn.Linear(sizes[-1], kinds * 2 * (features - self.marks))

    def forward(self, x: Tensor) -> Tensor:  # [B, 60, F] normalised -> the newest ones forecast
        estimate: Tensor = self.compare(x)[2]
        return estimate

    def compare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.surprise(x, self.counted)

    def learn(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        estimate, target, _ = self.surprise(x, self.learnt)
        return estimate, target, x.new_zeros(())

    def surprise(self, x: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Roots of the surprises of the newest steps [B, steps, F], zeros, and the forecasts."""
        marks = self.marks
        came = (x[:, :, :marks] > 0).to(x.dtype)
        known = torch.cat((came, x[:, :, marks:]), dim=2)
        states = known[:, :-1]
        for layer in self.layers:
            states = self.dropout(layer(states))
        states = states[:, -steps:]
        came, values = came[:, -steps:], x[:, -steps:, marks:]
        odds = self.odds(states).log_softmax(dim=2)[:, :, :marks]
        chosen = came if marks else torch.ones_like(values[:, :, :1])
        each = self.densities(states).unflatten(2, (chosen.shape[2], -1))
        middle, width = (chosen.unsqueeze(2) @ each).squeeze(2).chunk(2, dim=2)
        width = width.clamp(self.narrowest, self.widest)
        away = (values - middle) * (-width).exp()
        freedom = self.freedom
        far = 0.5 * (freedom + 1.0) * (away.square() / freedom).log1p()
        found = torch.cat((-odds * came, far + width - self.narrowest), dim=2)
        size = x[:, :1, :marks].abs()  # 1 by minmax scaling; 0 of a mark that training never had
        forecast = torch.cat((size * (2.0 * odds.exp() - 1.0), middle), dim=2)
        window = torch.cat((x[:, :-steps], forecast), dim=1)
        return (found + self.tiny).sqrt(), torch.zeros_like(found), window
