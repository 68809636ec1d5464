"""Hotelling's T2 of four summaries of a window: how unusual a combination of features is.

Hotelling, "Multivariate Quality Control", 1947. A feature's part is what the score would lose if
that feature were replaced by what the others make likely (He, Qin & Wang, 2005; Alcala & Qin,
"Reconstruction-based Contribution", 2009).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from stream_detector.bundle import WINDOW
from trainer.experts.base import Family
from trainer.models.padding import padded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RECENT, SPREAD = 8, 20
"""Newest steps of the recent mean and of the spread."""
DEFLATION = 4.0
"""A feature whose means of 8 steps vary as much as its values drifts, so that training has not seen

its whole range: its deviation grows by (1 - their ratio) ** -4.
"""
SHRUNK, LEAST_SHARE, CUT = 0.1, 0.05, 20.0
"""Share of the covariance that is its diagonal alone; least deviation, as a share of the range; and

where values are cut, in deviations.
"""
RIDGES = (1.0, 0.1, 0.1, 0.01)
SOFT = 0.1


class Hotelling(Family):
    """Of the newest step less the window's mean (`t2_movement`), the log deviations of the newest

    20 steps (`t2_spread`), the mean of the window (`t2_level`) and of its newest 8 (`t2_recent`).
    """

    names: ClassVar[tuple[str, ...]] = ("t2_movement", "t2_spread", "t2_level", "t2_recent")
    widths: ClassVar[Mapping[str, int]] = {
        "t2_movement": WINDOW, "t2_spread": SPREAD, "t2_level": WINDOW, "t2_recent": RECENT,
    }  # fmt: skip

    def __init__(self, columns: Sequence[str], features: int) -> None:
        super().__init__(columns, features)
        self.features = features
        self.soft, self.cut = SOFT, CUT
        self.recent, self.spread = RECENT, SPREAD
        self.places = [self.names.index(name) for name in self.columns]
        self.mean = nn.Buffer(torch.zeros(features))
        self.width = nn.Buffer(torch.ones(features))
        self.middle = nn.Buffer(torch.zeros(len(self.places), features))
        eye = padded(torch.eye(features))
        self.precision = nn.Buffer(eye.repeat(len(self.places), 1, 1))  # [columns, F, F or more]
        self.inner = nn.Buffer(torch.ones(len(self.places), features))  # their diagonals

    def away(self, x: Tensor) -> list[Tensor]:  # [B, 60, F] -> each [B, F]
        """The summaries that the columns need, less their means in training."""
        steps = x.shape[1]  # as one row a window: wide rows are quicker to go through
        z = x.flatten(1) - self.mean.expand(steps, -1).flatten()
        z = z.div_(self.width.expand(steps, -1).flatten()).clamp_(-self.cut, self.cut).view_as(x)
        level = z.mean(dim=1)
        found: list[Tensor] = []
        for column, place in enumerate(self.places):
            if place == 0:
                part = z[:, -1] - level
            elif place == 1:
                newest = z[:, -self.spread :]
                centred = newest - newest.mean(dim=1, keepdim=True)
                part = (centred.square_().mean(dim=1).sqrt() + self.soft).log()
            elif place == 2:
                part = level
            else:
                part = z[:, -self.recent :].mean(dim=1)
            found.append(part - self.middle[column])
        return found

    def measure(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores: list[Tensor] = []
        parts: list[Tensor] = []
        for column, away in enumerate(self.away(x)):
            turned = (away @ self.precision[column])[:, : self.features]
            scores.append((turned * away).sum(dim=1).clamp_min(0.0) / self.features)
            parts.append(turned.square() / self.inner[column])
        return torch.stack(scores, dim=1), torch.stack(parts, dim=1)

    @torch.no_grad()
    def prepare(self, windows: Tensor, seed: int) -> None:  # noqa: ARG002  # in closed form
        # Of the newest steps alone: a series often starts up in its first window.
        values = windows[:, -1]
        self.mean.copy_(values.mean(dim=0))
        deviation = values.std(dim=0)
        width = torch.maximum(deviation, LEAST_SHARE * (values.amax(dim=0) - values.amin(dim=0)))
        self.width.copy_(torch.where(width > 0, width, 1.0))
        for column, (place, away) in enumerate(zip(self.places, self.away(windows), strict=True)):
            self.middle[column] = away.mean(dim=0)
            covariance = torch.cov(away.double().t(), correction=0)
            covariance = covariance.reshape(self.features, self.features)
            if place == 3:
                covariance = self._deflated(windows, covariance)
            covariance += RIDGES[place] * torch.eye(self.features, dtype=torch.float64)
            precision = torch.linalg.inv(covariance)
            self.precision[column] = padded(precision.float())
            self.inner[column] = precision.diagonal().clamp_min(1e-12)
        self.learn_usual(windows)

    def _deflated(self, windows: Tensor, covariance: Tensor) -> Tensor:
        covariance = (1 - SHRUNK) * covariance + SHRUNK * torch.diag(covariance.diagonal())
        raw = ((windows[:, -1] - self.mean) / self.width).double().var(dim=0, correction=0)
        ratio = (covariance.diagonal() / raw.clamp_min(1e-12)).clamp(0.0, 0.99)
        wider = (1 - ratio) ** -DEFLATION
        return covariance * torch.outer(wider, wider)


assert max(RECENT, SPREAD) < WINDOW
