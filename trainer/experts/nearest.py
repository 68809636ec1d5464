"""Distance of a window to the most similar of the training windows, in three views.

One-class nearest neighbours (Knorr, Ng & Tucakov, "Distance-based Outliers", 2000) over windows as
in discord discovery (Keogh, Lin & Fu, "HOT SAX", 2005), against a fixed random sample of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from stream_detector.bundle import WINDOW
from trainer.experts.base import Family
from trainer.experts.coreset import coreset
from trainer.models.views import ENERGIES, Views

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMORY, BLOCK = 1024, 32
"""Training windows that are remembered, and how many of them are compared in one go: torch finds a

least value many times faster than its place.
"""
DRAWN = MEMORY // 2
"""Of them, those that are drawn by chance."""
CANDIDATES = 8192
"""Training windows that they are chosen from, at most."""


class Nearest(Family):
    """Squared distance per value of the view; 0 for a window that is remembered itself.

    The nearest row m of a view x is that of the least |m|^2 - 2 x m, whose last digits depend on
    the machine where windows are alike; the distance itself is then computed from the difference.
    """

    names: ClassVar[tuple[str, ...]] = ("nearest_shape", "nearest_form", "nearest_energy")

    def __init__(self, columns: Sequence[str], features: int) -> None:
        super().__init__(columns, features)
        self.views = Views(features)
        self.used = [name in self.columns for name in self.names]
        self.shared = features == 1 and self.used[0] and self.used[1]
        sizes = (WINDOW, WINDOW, ENERGIES)
        self.shape, self.form, self.energy = (
            nn.Buffer(torch.zeros(BLOCK, size * features)) for size in sizes
        )
        self.squares = nn.Buffer(torch.zeros(3, BLOCK))  # |m|^2 of each view
        self.divided = nn.Buffer(torch.ones(BLOCK))  # -1 / what a form divides its shape by

    def measure(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shape, form, energy = self.views(x)
        found: list[Tensor] = []
        if self.shared:  # products of forms are those of their shapes, divided
            product = shape.flatten(1) @ self.shape.t()
            found.append(apart(shape, self.shape, self.squares[0] - 2.0 * product))
            half = 0.5 * self.views.width(shape).flatten(1)
            away = torch.addcmul(product.mul_(self.divided), half, self.squares[1])
            found.append(apart(form, self.form, away))
        if self.used[0] and not self.shared:
            found.append(nearest(shape, self.shape, self.squares[0]))
        if self.used[1] and not self.shared:
            found.append(nearest(form, self.form, self.squares[1]))
        if self.used[2]:
            found.append(nearest(energy, self.energy, self.squares[2]))
        parts = torch.stack(found, dim=1)
        return parts.mean(dim=2), parts

    @torch.no_grad()
    def prepare(self, windows: Tensor, seed: int) -> None:  # noqa: ARG002  # the order is random
        self.views.prepare(lambda: [windows], lambda sums: sums)
        rows, rows_of_energy = self._chosen(windows[:CANDIDATES])
        shape, form, _ = self.views(windows[rows])
        energy = self.views(windows[rows_of_energy])[2]
        self.shape, self.form, self.energy = memory = tuple(
            nn.Buffer(view.flatten(1).contiguous()) for view in (shape, form, energy)
        )
        self.squares = nn.Buffer(torch.stack([one.square().sum(dim=1) for one in memory]))
        self.divided = nn.Buffer(-1.0 / self.views.width(shape)[:, 0, 0])
        new = torch.ones(len(windows), dtype=torch.bool)
        new[rows] = new[rows_of_energy] = False
        self.learn_usual(windows[new] if new.any() else windows)

    def _chosen(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows to remember: of shapes, which forms share, and of energies."""
        if len(windows) > MEMORY:
            shape, form, energy = (
                torch.cat(parts)
                for parts in zip(*map(self._flat, torch.split(windows, 1024)), strict=True)
            )
            return coreset([shape, form], MEMORY, DRAWN), coreset([energy], MEMORY, DRAWN)
        padding = -len(windows) % BLOCK  # by windows that are there already
        rows = torch.arange(len(windows) + padding) % len(windows)
        return rows, rows

    def _flat(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shape, form, energy = self.views(windows)
        return shape.flatten(1), form.flatten(1), energy.flatten(1)


def nearest(
    view: Tensor,  # [B, D, F]
    memory: Tensor,  # [K, D F], K a multiple of BLOCK
    squares: Tensor,  # [K]
) -> Tensor:  # [B, F]
    """Mean squared difference of each feature to the nearest row of the memory."""
    return apart(view, memory, torch.addmm(squares, view.flatten(1), memory.t(), alpha=-2.0))


def apart(
    view: Tensor,  # [B, D, F]
    memory: Tensor,  # [K, D F]
    away: Tensor,  # [B, K] least where a row is nearest
    block: int = BLOCK,
) -> Tensor:  # [B, F]
    """Mean squared difference of each feature to the row that is least away."""
    x = view.flatten(1)
    blocks = away.view(len(x), -1, block)
    among = blocks.amin(dim=2).argmin(dim=1)
    inside = blocks[torch.arange(len(x), device=x.device), among].argmin(dim=1)
    return (x - memory[among * block + inside]).square().view_as(view).mean(dim=1)
