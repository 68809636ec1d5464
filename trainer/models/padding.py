"""Matrices wide enough that a row of a product has the same bits wherever it lies in a tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.functional import pad

if TYPE_CHECKING:
    from torch import Tensor

NARROWEST = 16
"""Products with one or two columns take another way through a CPU's vector units, on which a row's

last bits depend on its place among the others.
"""


def padded(matrix: Tensor) -> Tensor:  # [D, C] -> [D, max(C, 16)]
    """The matrix with columns of zeros behind its own."""
    return pad(matrix, (0, max(0, NARROWEST - matrix.shape[1])))
