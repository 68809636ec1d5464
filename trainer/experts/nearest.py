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
from trainer.models.views import ENERGIES, Views

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMORY, BLOCK = 1024, 32
"""Training windows that are remembered, and how many of them are compared in one go: torch finds a

least value many times faster than its place.
"""


class Nearest(Family):
    """Squared distance per value of the view; 0 for a window that is remembered itself."""

    names: ClassVar[tuple[str, ...]] = ("nearest_shape", "nearest_form", "nearest_energy")

    def __init__(self, columns: Sequence[str], features: int) -> None:
        super().__init__(columns, features)
        self.views = Views(features)
        self.used = [name in self.columns for name in self.names]
        sizes = (WINDOW, WINDOW, ENERGIES)
        self.shape, self.form, self.energy = (
            nn.Buffer(torch.zeros(BLOCK, size * features)) for size in sizes
        )

    def measure(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shape, form, energy = self.views(x)
        found: list[Tensor] = []
        if self.used[0]:
            found.append(apart(shape, self.shape))
        if self.used[1]:
            found.append(apart(form, self.form))
        if self.used[2]:
            found.append(apart(energy, self.energy))
        parts = torch.stack(found, dim=1)
        return parts.mean(dim=2), parts

    @torch.no_grad()
    def prepare(self, windows: Tensor, seed: int) -> None:  # noqa: ARG002  # the order is random
        self.views.prepare(lambda: [windows], lambda sums: sums)
        rows = min(len(windows), MEMORY)
        padding = -rows % BLOCK  # by windows that are there already
        views = self.views(windows[torch.arange(rows + padding) % rows])
        self.shape, self.form, self.energy = (
            nn.Buffer(view.flatten(1).contiguous()) for view in views
        )
        others = windows[MEMORY:]
        self.learn_usual(others if len(others) else windows)


def apart(
    view: Tensor,  # [B, D, F]
    memory: Tensor,  # [K, D F], K a multiple of `block`
    block: int = BLOCK,
) -> Tensor:  # [B, F]
    """Mean squared difference of each feature to the nearest row of the memory.

    The nearest is found by |m|^2 - 2 x m, whose last digits depend on the machine where windows
    are alike; the distance itself is then computed from the difference.
    """
    x = view.flatten(1)
    size = memory.square().sum(dim=1)
    away = torch.addmm(size, x, memory.t(), alpha=-2.0).view(len(x), -1, block)
    among = away.amin(dim=2).argmin(dim=1)
    inside = away[torch.arange(len(x), device=x.device), among].argmin(dim=1)
    return (x - memory[among * block + inside]).square().view_as(view).mean(dim=1)
