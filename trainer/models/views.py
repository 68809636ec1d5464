"""Three views of a window that a TorchScript module can compute: shape, form and log energies.

What one view does not show another does: a change of shape, of shape whatever its size, and of how
rough or calm each time scale of the window is (Mallat, "A Theory for Multiresolution Signal
Decomposition", 1989, with Haar's wavelet).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stream_detector.bundle import WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trainer.models.base import Windows

LEVELS, HALVED = 5, 3
"""Haar levels, and how many of them are also taken of each half of the window."""
NEWEST = 20
"""Steps of the newest part that has energies of its own."""
ENERGIES = LEVELS + 2 * HALVED + 4
SOFT = 0.3
"""Added to a window's deviation, so that noise of a calm window is not blown up to a form."""
FLOOR = 1e-3
"""Energies are floored at this part of their mean in training."""
RIDGE = 0.03
"""Added to the covariance of the log energies, as a part of its mean variance."""


def energies(
    x: Tensor,  # [B, 60, F]
    levels: int = LEVELS,
    halved: int = HALVED,
    newest: int = NEWEST,
) -> Tensor:  # [B, 15, F]
    """Mean squares of Haar details by level and half, variances, mean squared curvature.

    The constants are parameters because TorchScript sees no global ones.
    """
    found: list[Tensor] = []
    rest = x
    for level in range(levels):
        even = rest.shape[1] // 2 * 2
        left, right = rest[:, 0:even:2], rest[:, 1:even:2]
        detail = ((right - left) * math.sqrt(0.5)).square()
        rest = (left + right) * math.sqrt(0.5)
        found.append(detail.mean(dim=1))
        if level < halved:
            half = detail.shape[1] // 2
            found.append(detail[:, :half].mean(dim=1))
            found.append(detail[:, half:].mean(dim=1))
    found.append((x - x.mean(dim=1, keepdim=True)).square().mean(dim=1))
    last = x[:, -newest:]
    found.append((last - last.mean(dim=1, keepdim=True)).square().mean(dim=1))
    bend = (x[:, 2:] - 2.0 * x[:, 1:-1] + x[:, :-2]).square()
    found.append(bend.mean(dim=1))
    found.append(bend[:, -newest:].mean(dim=1))
    return torch.stack(found, dim=1)


class Views(nn.Module):
    """Statistics of the training windows are buffers; before `prepare` they change nothing."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.soft = SOFT
        self.floor = nn.Buffer(torch.full((ENERGIES, features), 1e-6))
        self.mean = nn.Buffer(torch.zeros(ENERGIES, features))
        whiten = torch.eye(ENERGIES).unsqueeze(0).repeat(features, 1, 1)
        self.whiten = nn.Buffer(whiten)  # [F, 15, 15]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 60, F] normalised -> shape [B, 60, F], form [B, 60, F], energies [B, 15, F]."""
        shape = x - x.mean(dim=1, keepdim=True)
        deviation = shape.square().mean(dim=1, keepdim=True).sqrt()
        return shape, shape / (deviation + self.soft), self.white(energies(x))

    def white(self, energy: Tensor) -> Tensor:
        """Log energies without what they have in common: mean 0, variance about 1 in training."""
        away = (energy + self.floor).log() - self.mean
        return torch.einsum("bef,feg->bgf", away, self.whiten)

    @torch.no_grad()
    def prepare(self, windows: Windows, total: Callable[[Tensor], Tensor]) -> None:
        """Fit floors and whitening to the training windows, in two passes."""
        mean = moments(map(energies, windows()), total)[0]
        self.floor.copy_((FLOOR * mean).clamp_min(1e-9))
        logs = ((energies(x) + self.floor).log() for x in windows())
        mean, second = moments(logs, total)
        self.mean.copy_(mean)
        for feature in range(second.shape[2]):
            covariance = second[:, :, feature] - torch.outer(mean[:, feature], mean[:, feature])
            ridge = RIDGE * covariance.diagonal().mean().clamp_min(1e-9)
            covariance += ridge * torch.eye(ENERGIES, dtype=covariance.dtype)
            variance, direction = torch.linalg.eigh(covariance)
            self.whiten[feature] = direction / variance.clamp_min(1e-12).sqrt()


def moments(
    parts: Iterable[Tensor], total: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:  # [E, F] and [E, E, F], float64
    """Mean and mean outer product over all processes of batches [n, E, F]."""
    count = torch.zeros(1, dtype=torch.float64)
    first = second = torch.zeros(())
    for part in parts:
        wide = part.double()
        count = count.to(wide.device) + len(wide)
        first = first + wide.sum(dim=0)
        second = second + torch.einsum("nef,ngf->egf", wide, wide)
    count, first, second = total(count), total(first), total(second)
    return first / count, second / count


assert WINDOW > 2**LEVELS
