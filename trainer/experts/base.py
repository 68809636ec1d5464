"""What the export asks of a family of experts."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class Family(nn.Module):
    """forward: normalised windows [B, 60, F] -> scores [B, columns], >= 0, larger is worse."""

    names: ClassVar[tuple[str, ...]]
    """All scores that the family can compute; an object computes those of its `columns`."""

    def __init__(self, columns: Sequence[str], features: int) -> None:  # noqa: ARG002  # every family is built from the same two
        super().__init__()
        self.columns = list(columns)

    @abstractmethod
    def prepare(self, windows: Tensor, seed: int) -> None:
        """Fit to a sample of normalised training windows [n, 60, F] in a random order."""
