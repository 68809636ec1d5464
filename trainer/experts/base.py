"""What the export asks of a family of experts, and what families share."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

USUAL = 0.99
"""A score counts in the blame by how far it is beyond this quantile of the training windows."""


class Family(nn.Module):
    """forward: normalised windows [B, 60, F] -> scores [B, columns], >= 0, larger is worse; and how

    much each feature is to blame [B, F]: its shares of the scores, each weighted by
    log(1 + score / the score's usual size), so that a feature of a calm score has little of it.
    """

    names: ClassVar[tuple[str, ...]]
    """All scores that the family can compute; an object computes those of its `columns`."""
    widths: ClassVar[Mapping[str, int]] = {}
    """Steps that a summary is made of, by score: so far apart, two windows are independent."""

    def __init__(self, columns: Sequence[str], features: int) -> None:  # noqa: ARG002  # every family is built from the same two
        super().__init__()
        self.columns = list(columns)
        self.usual = nn.Buffer(torch.ones(len(self.columns)))

    @abstractmethod
    def measure(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The scores [B, columns], and what each feature adds to them [B, columns, F], >= 0."""

    @abstractmethod
    def prepare(self, windows: Tensor, seed: int) -> None:
        """Fit to a sample of normalised training windows [n, 60, F] in a random order."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores, parts = self.measure(x)
        weight = (1.0 + scores / self.usual).log() / parts.sum(dim=2).clamp_min(1e-30)
        return scores, (weight.unsqueeze(2) * parts).sum(dim=1)

    def learn_usual(self, windows: Tensor) -> None:
        """Fit the usual size of each score; the last step of `prepare`."""
        found = torch.cat([self(part)[0] for part in torch.split(windows, 1024)])
        self.usual.copy_(found.quantile(USUAL, dim=0).clamp_min(1e-9))
