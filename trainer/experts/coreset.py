"""Which of many windows to remember."""

from __future__ import annotations

import torch
from torch import Tensor


def coreset(
    parts: list[Tensor],  # [n, D] each, of the same n windows in a random order
    count: int,
    drawn: int,
) -> Tensor:  # [count] rows
    """The first `drawn` of them, then one by one the farthest from all that were chosen.

    What is usual but rare is seldom among windows drawn by chance, and would seem strange whenever
    it comes again; the farthest alone leave too few of what is common. Distances in each part count
    alike. Gonzalez, "Clustering to Minimize the Maximum Intercluster Distance", 1985; for memories
    of normal data Roth et al., "Towards Total Recall in Industrial Anomaly Detection", 2022.
    """
    wide = [
        part / part.std(dim=0, correction=0).square().sum().sqrt().clamp_min(1e-9) for part in parts
    ]
    x = torch.cat(wide, dim=1)
    squares = x.square().sum(dim=1)
    known, known_squares = x[:drawn], squares[:drawn]
    away = torch.cat(
        [
            (size.unsqueeze(1) + known_squares - 2.0 * some @ known.t()).amin(dim=1)
            for some, size in zip(torch.split(x, 1024), torch.split(squares, 1024), strict=True)
        ]
    )
    rows = torch.arange(count)
    for at in range(drawn, count):
        row = rows[at] = away.argmax()
        away = torch.minimum(away, squares + squares[row] - 2.0 * (x @ x[row]))
    return rows
