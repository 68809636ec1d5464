"""Spikes taken out of what a forecast looks back at, so that one of them does not spoil the next

59 forecasts. What is forecast, and so scored, stays as it came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.models.base import Windows

REACH = 2
"""Neighbours on each side that the running median is taken with."""
LIMIT = 4.0
"""Deviations from the running median beyond which a value is a spike."""
DEVIATION_OF_MEDIAN = 0.6745
"""Median absolute value of a standard normal."""


class Despike(nn.Module):
    """Hampel, "The Influence Curve and its Role in Robust Estimation", 1974: a value far from the

    running median of itself and its neighbours becomes that median. How far is far is fitted to
    the training windows; before that, and where nothing moves, nothing is taken out.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.reach = REACH
        self.limit = nn.Buffer(torch.full((features,), float("inf")))

    def forward(self, x: Tensor) -> Tensor:  # [B, T, F] -> the same
        middle = self.medians(x)
        return torch.where((x - middle).abs() > self.limit, middle, x)

    def medians(self, x: Tensor) -> Tensor:  # [B, T, F], mirrored at both ends
        around = pad(x.transpose(1, 2), (self.reach, self.reach), mode="reflect")
        return around.unfold(2, 2 * self.reach + 1, 1).median(dim=3).values.transpose(1, 2)

    @torch.no_grad()
    def prepare(self, windows: Windows, total: Callable[[Tensor], Tensor]) -> None:
        """Mean over batches of the median deviation, which spikes hardly move."""
        sums = self.limit.new_zeros(len(self.limit) + 1)
        for x in windows():
            away = (x - self.medians(x)).abs().flatten(0, 1)
            usual = away[(away > 0).any(dim=1)]
            if len(usual):
                sums += torch.cat((usual.median(dim=0).values, sums.new_ones(1)))
        sums = total(sums)
        usual = sums[:-1] / sums[-1].clamp_min(1.0)
        limit = LIMIT * usual / DEVIATION_OF_MEDIAN
        self.limit.copy_(torch.where(limit > 0, limit, torch.inf))
