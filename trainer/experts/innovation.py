"""How far the newest step lies from what its past and the other features let expect.

A linear forecast of the newest step from steps before it, in closed form; its errors are weighed
with their covariance: Hotelling's T2 of the innovations (Hotelling, "Multivariate Quality Control",
1947; Alwan & Roberts, "Time-Series Modeling for Statistical Process Control", 1988). A row whose
features are all usual, but not together, is told by nothing that adds up errors feature by feature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from trainer.experts.base import Family

if TYPE_CHECKING:
    from collections.abc import Sequence

RECENT = 5
"""Steps before the newest that the forecast sees one by one; of all older ones it sees the mean."""
RIDGE = 0.01
"""Added to the variance of each predictor, in normalised units."""
EVEN = 16
"""Widths of products are filled up to a multiple of this."""
FLOOR = 0.05
"""Least standard deviation of an error in normalised units: a feature that never changes has one."""


class Innovation(Family):
    """`innovation`: T2 per feature; `innovation_most`: that of the worst feature given all others.

    Both are about 1 for usual windows of few features, whatever their size and correlation.
    """

    names: ClassVar[tuple[str, ...]] = ("innovation", "innovation_most")

    def __init__(self, columns: Sequence[str], features: int) -> None:
        super().__init__(columns, features)
        self.recent = RECENT
        self.used = [name in self.columns for name in self.names]
        self.features = features
        # A product of odd width has other last digits elsewhere in a tile, on some processors.
        self.padding = -features % EVEN
        width = features + self.padding
        self.weight = nn.Buffer(torch.zeros(features * (RECENT + 1), width))
        self.bias = nn.Buffer(torch.zeros(width))
        self.precision = nn.Buffer(torch.eye(width))

    def predictors(self, x: Tensor) -> Tensor:  # [B, 60, F] -> [B, 6 F]
        older = x[:, : -self.recent - 1].mean(dim=1, keepdim=True)
        return torch.cat((older, x[:, -self.recent - 1 : -1]), dim=1).flatten(1)

    def forward(self, x: Tensor) -> Tensor:  # [B, 60, F] -> [B, columns]
        newest = nn.functional.pad(x[:, -1], (0, self.padding))
        error = newest - torch.addmm(self.bias, self.predictors(x), self.weight)
        pull = error @ self.precision  # [B, width]
        found: list[Tensor] = []
        if self.used[0]:
            found.append((pull * error).sum(dim=1) / self.features)
        if self.used[1]:
            found.append((pull.square() / self.precision.diagonal()).amax(dim=1))
        return torch.stack(found, dim=1)

    @torch.no_grad()
    def prepare(self, windows: Tensor, seed: int) -> None:  # noqa: ARG002  # the order is random
        given, newest = self.predictors(windows).double(), windows[:, -1].double()
        center, level = given.mean(dim=0), newest.mean(dim=0)
        given, newest = given - center, newest - level
        ridge = RIDGE * len(windows) * torch.eye(given.shape[1], dtype=given.dtype)
        weight = torch.linalg.solve(given.T @ given + ridge, given.T @ newest)
        error = newest - given @ weight
        covariance = error.T @ error / len(windows)
        covariance += FLOOR**2 * torch.eye(len(level), dtype=given.dtype)
        width = self.features
        self.weight[:, :width] = weight
        self.bias[:width] = level - center @ weight
        self.precision[:width, :width] = torch.linalg.inv(covariance)
