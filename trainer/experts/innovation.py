"""How far the newest step lies from what its past and the other features make likely.

A linear forecast of all features at once, in closed form, and Hotelling's T2 of its errors (Alwan &
Roberts, "Time-Series Modeling for Statistical Process Control", 1988). A step whose features are
each as usual, but not together, is told by nothing that adds up errors feature by feature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from trainer.experts.base import Family
from trainer.models.padding import padded

if TYPE_CHECKING:
    from collections.abc import Sequence

RECENT = 5
"""Steps before the newest that the forecast sees one by one; of all older ones it sees the mean."""
RIDGE = 0.01
"""Added to the variance of each predictor, in normalised units."""
FLOOR = 0.05
"""Least deviation of an error, in normalised units: a feature that never changes has one too."""


class Innovation(Family):
    """`innovation`: T2 per feature, about 1 for usual windows whatever their correlation."""

    names: ClassVar[tuple[str, ...]] = ("innovation",)

    def __init__(self, columns: Sequence[str], features: int) -> None:
        super().__init__(columns, features)
        self.features, self.recent = features, RECENT
        self.weight = nn.Buffer(padded(torch.zeros(features * (RECENT + 1), features)))
        self.level = nn.Buffer(torch.zeros(features))
        self.precision = nn.Buffer(padded(torch.eye(features)))
        self.inner = nn.Buffer(torch.ones(features))  # its diagonal

    def past(self, x: Tensor) -> Tensor:  # [B, 60, F] -> [B, 6 F]
        older = x[:, : -self.recent - 1].mean(dim=1, keepdim=True)
        return torch.cat((older, x[:, -self.recent - 1 : -1]), dim=1).flatten(1)

    def measure(self, x: Tensor) -> tuple[Tensor, Tensor]:
        forecast = (self.past(x) @ self.weight)[:, : self.features] + self.level
        error = x[:, -1] - forecast
        turned = (error @ self.precision)[:, : self.features]
        score = (turned * error).sum(dim=1, keepdim=True).clamp_min(0.0) / self.features
        return score, (turned.square() / self.inner).unsqueeze(1)

    @torch.no_grad()
    def prepare(self, windows: Tensor, seed: int) -> None:  # noqa: ARG002  # in closed form
        past, newest = self.past(windows).double(), windows[:, -1].double()
        center, level = past.mean(dim=0), newest.mean(dim=0)
        past, newest = past - center, newest - level
        inner = past.t() @ past / len(past)
        inner += RIDGE * torch.eye(len(inner), dtype=inner.dtype)
        weight = torch.linalg.solve(inner, past.t() @ newest / len(past))
        error = newest - past @ weight
        covariance = error.t() @ error / len(error)
        covariance += FLOOR**2 * torch.eye(self.features, dtype=covariance.dtype)
        precision = torch.linalg.inv(covariance)
        self.weight.copy_(padded(weight.float()))
        self.level.copy_(level - center @ weight)
        self.precision.copy_(padded(precision.float()))
        self.inner.copy_(precision.diagonal())
        self.learn_usual(windows)
