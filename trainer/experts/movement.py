"""How far the newest steps depart from what earlier ones make likely, feature by feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from stream_detector.bundle import WINDOW
from trainer.experts.base import Family

if TYPE_CHECKING:
    from collections.abc import Sequence

NEAR, SPREAD = 20, 20
"""Steps whose mean a forecast starts from, and newest steps of the roughness."""
RIDGE, WORST = 1e-2, 0.01
"""Ridge as a part of the lags' mean variance; share of windows left out of the second fit."""
SOFT = 0.05


class Movement(Family):
    """`autoregression`: squared error of a linear forecast of the newest step from all before it

    (ridge regression, fitted again without the worst windows); `departure`: of the mean of those
    steps as a forecast; `roughness`: distance of the log deviation of the newest 20 steps from its
    median. Each in units of its mean square in training.
    """

    names: ClassVar[tuple[str, ...]] = ("autoregression", "departure", "roughness")

    def __init__(self, columns: Sequence[str], features: int) -> None:
        super().__init__(columns, features)
        self.near, self.spread, self.soft = NEAR, SPREAD, SOFT
        self.places = [self.names.index(name) for name in self.columns]
        self.weight = nn.Buffer(torch.zeros(WINDOW - 1, features))
        self.middle = nn.Buffer(torch.zeros(features))
        self.size = nn.Buffer(torch.ones(len(self.places), features))

    def errors(self, x: Tensor) -> list[Tensor]:  # [B, 60, F] -> each [B, F]
        past, newest = x[:, :-1], x[:, -1]
        found: list[Tensor] = []
        for place in self.places:
            if place == 0:
                level = past[:, -self.near :].mean(dim=1)
                lags = past - level.unsqueeze(1)
                found.append((newest - level - (lags * self.weight).sum(dim=1)).square())
            elif place == 1:
                found.append((newest - past.mean(dim=1)).square())
            else:
                found.append((self.rough(x) - self.middle).square())
        return found

    def rough(self, x: Tensor) -> Tensor:  # [B, F]
        last = x[:, -self.spread :]
        centred = last - last.mean(dim=1, keepdim=True)
        return (centred.square().mean(dim=1).sqrt() + self.soft).log()

    def measure(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = torch.stack(self.errors(x), dim=1) / self.size
        return parts.mean(dim=2), parts

    @torch.no_grad()
    def prepare(self, windows: Tensor, seed: int) -> None:  # noqa: ARG002  # in closed form
        if 0 in self.places:
            level = windows[:, -1 - NEAR : -1].mean(dim=1, keepdim=True)
            lags, target = windows[:, :-1] - level, windows[:, -1] - level[:, 0]
            for feature in range(windows.shape[2]):
                x, y = lags[:, :, feature].double(), target[:, feature].double()
                weight = _ridge(x, y)
                error = (y - x @ weight).abs()
                kept = error <= error.quantile(1 - WORST)
                self.weight[:, feature] = _ridge(x[kept], y[kept])
        self.middle.copy_(self.rough(windows).median(dim=0).values)
        for column, error in enumerate(self.errors(windows)):
            bound = error.quantile(1 - WORST, dim=0)
            self.size[column] = torch.minimum(error, bound).mean(dim=0).clamp_min(1e-9)
        self.learn_usual(windows)


def _ridge(x: Tensor, y: Tensor) -> Tensor:  # [n, D], [n] -> [D]
    inner = x.t() @ x / len(x)
    ridge = RIDGE * inner.diagonal().mean().clamp_min(1e-12)
    inner = inner + ridge * torch.eye(x.shape[1], dtype=x.dtype)
    weight: Tensor = torch.linalg.solve(inner, x.t() @ y / len(x))
    return weight
