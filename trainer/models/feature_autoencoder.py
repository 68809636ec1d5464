"""Dense autoencoder of three views of the window at once: shape, form and log energies.

A window that is too calm or too rough is told by its energies though an autoencoder of the values
alone reconstructs it well. The error is that of all views, each of unit variance in training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from stream_detector.config import Count, Section
from trainer.models.base import WindowModel
from trainer.models.views import ENERGIES, Views, moments

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.models.base import Windows


class Options(Section, frozen=True, kw_only=True):
    hidden: Annotated[Count, Meta(description="Units of the two hidden layers.")] = 64
    code: Annotated[Count, Meta(description="Units of the bottleneck.")] = 8


class FeatureAutoencoder(WindowModel):
    def __init__(self, features: int, window: int, options: Options) -> None:
        super().__init__()
        self.window = window
        self.views = Views(features)
        self.sizes = nn.Buffer(torch.ones(3))  # standard deviation of each view
        width = (2 * window + ENERGIES) * features
        self.layers = nn.Sequential(
            nn.Linear(width, options.hidden),
            nn.GELU(),
            nn.Linear(options.hidden, options.code),
            nn.GELU(),
            nn.Linear(options.code, options.hidden),
            nn.GELU(),
            nn.Linear(options.hidden, width),
        )

    def forward(self, x: Tensor) -> Tensor:  # [B, 60, F] normalised -> the same, reconstructed
        estimate: Tensor = self.compare(x)[2]
        return estimate

    def compare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The views [B, 135, F] as estimated and as they are; the window from its shape."""
        shape, form, energy = self.views(x)
        sizes = self.sizes
        target = torch.cat((shape / sizes[0], form / sizes[1], energy / sizes[2]), dim=1)
        estimate = self.layers(target.flatten(1)).view_as(target)
        window = estimate[:, : self.window] * sizes[0] + x.mean(dim=1, keepdim=True)
        return estimate, target, window

    @torch.no_grad()
    def prepare(self, windows: Windows, total: Callable[[Tensor], Tensor]) -> None:
        self.views.prepare(windows, total)
        for place in range(3):
            squares = (self.views(x)[place].square().mean(dim=(1, 2)) for x in windows())
            mean = moments((one[:, None, None] for one in squares), total)[0]
            self.sizes[place] = mean.item() ** 0.5 or 1.0
