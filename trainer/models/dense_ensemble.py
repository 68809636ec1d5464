"""Small dense autoencoders side by side, 60F - 64 - 4 - 64 - 60F each; the estimate is their mean.

Where there is little to learn from, what one of them makes of a window depends much on the weights
that it began with; their mean hardly does (Hansen & Salamon, "Neural Network Ensembles", 1990).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from stream_detector.config import Count, Section
from trainer.models.base import WindowModel


class Options(Section, frozen=True, kw_only=True):
    members: Annotated[Count, Meta(description="Autoencoders, each with its own weights.")] = 8
    hidden: Annotated[Count, Meta(description="Units of the two hidden layers of each.")] = 64
    code: Annotated[Count, Meta(description="Units of the bottleneck of each.")] = 4


class Linears(nn.Module):
    """One linear layer for each member: [M, B, inputs] -> [M, B, outputs]."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        reach = inputs**-0.5  # as torch has it for one
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-reach, reach))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class DenseEnsemble(WindowModel):
    def __init__(self, features: int, window: int, options: Options) -> None:
        super().__init__()
        self.members = options.members
        size = window * features
        sizes = (size, options.hidden, options.code, options.hidden, size)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [Linears(options.members, inputs, outputs), nn.GELU()]
        self.layers = nn.Sequential(*layers[:-1])

    def each(self, x: Tensor) -> Tensor:  # [B, 60, F] -> [M, B, 60 F]
        flat = x.flatten(1)
        estimates: Tensor = self.layers(flat.unsqueeze(0).expand(self.members, -1, -1))
        return estimates

    def forward(self, x: Tensor) -> Tensor:  # [B, 60, F] normalised -> the same, reconstructed
        return self.each(x).mean(dim=0).view_as(x)

    def learn(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each member's estimate by itself: errors that cancel out in the mean teach nothing."""
        estimates = self.each(x)
        return estimates, x.flatten(1).expand_as(estimates), x.new_zeros(())
