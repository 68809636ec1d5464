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
from trainer.models.padding import padded

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


def analysis() -> tuple[Tensor, Tensor]:
    """Maps of a window's steps to details [60, D], and of their squares to mean energies [D, 16].

    Haar details by level and half, deviations from the mean, second differences. One product with a
    matrix is many times as quick as the few sums that each of them is made of. The last column of
    the second map is empty (padding.py).
    """
    steps = torch.eye(WINDOW, dtype=torch.float64)
    details: list[Tensor] = []
    pools: list[tuple[int, int]] = []  # first detail and end of each energy

    def add(found: Tensor, *parts: slice) -> None:
        first = sum(one.shape[1] for one in details)
        details.append(found)
        for part in parts:
            start, stop, _ = part.indices(found.shape[1])
            pools.append((first + start, first + stop))

    rest = steps
    for level in range(LEVELS):
        even = rest.shape[1] // 2 * 2
        left, right = rest[:, 0:even:2], rest[:, 1:even:2]
        half = even // 4
        halves = (slice(0, half), slice(half, None)) if level < HALVED else ()
        add((right - left) * math.sqrt(0.5), slice(None), *halves)
        rest = (left + right) * math.sqrt(0.5)
    add(steps - steps.mean(dim=1, keepdim=True), slice(None))
    last = steps[:, -NEWEST:]
    add(last - last.mean(dim=1, keepdim=True), slice(None))
    add(steps[:, 2:] - 2.0 * steps[:, 1:-1] + steps[:, :-2], slice(None), slice(-NEWEST, None))
    pool = torch.zeros(sum(one.shape[1] for one in details), ENERGIES, dtype=torch.float64)
    for column, (start, stop) in enumerate(pools):
        pool[start:stop, column] = 1.0 / (stop - start)
    return torch.cat(details, dim=1).float(), padded(pool.float())


class Views(nn.Module):
    """Statistics of the training windows are buffers; before `prepare` they change nothing."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.soft = SOFT
        self.count = ENERGIES
        details, pool = analysis()
        self.details, self.pool = nn.Buffer(details), nn.Buffer(pool)
        self.floor = nn.Buffer(torch.full((ENERGIES, features), 1e-6))
        self.mean = nn.Buffer(torch.zeros(ENERGIES, features))
        whiten = torch.eye(ENERGIES).unsqueeze(0).repeat(features, 1, 1)
        self.whiten = nn.Buffer(whiten)  # [F, 15, 15]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 60, F] normalised -> shape [B, 60, F], form [B, 60, F], energies [B, 15, F]."""
        shape = x - x.mean(dim=1, keepdim=True)
        return shape, shape / self.width(shape), self.white(self.energies(x))

    def width(self, shape: Tensor) -> Tensor:  # [B, 60, F] -> [B, 1, F]
        """What a shape is divided by to be a form."""
        return shape.square().mean(dim=1, keepdim=True).sqrt() + self.soft

    def energies(self, x: Tensor) -> Tensor:  # [B, 60, F] -> [B, 15, F]
        """Mean squares of Haar details by level and half, variances, mean squared curvature."""
        series = x.transpose(1, 2)  # [B, F, 60]
        found = torch.matmul(torch.matmul(series, self.details).square(), self.pool)
        return found[:, :, : self.count].transpose(1, 2)

    def white(self, energy: Tensor) -> Tensor:
        """Log energies without what they have in common: mean 0, variance about 1 in training."""
        away = (energy + self.floor).log() - self.mean
        return torch.einsum("bef,feg->bgf", away, self.whiten)

    @torch.no_grad()
    def prepare(self, windows: Windows, total: Callable[[Tensor], Tensor]) -> None:
        """Fit floors and whitening to the training windows, in two passes."""
        mean = moments(map(self.energies, windows()), total)[0]
        self.floor.copy_((FLOOR * mean).clamp_min(1e-9))
        logs = ((self.energies(x) + self.floor).log() for x in windows())
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
