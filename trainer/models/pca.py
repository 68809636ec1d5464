"""Principal components of the flattened window, in closed form: the baseline beside all others.

Of single steps it is the cheapest linear autoencoder of many features, and knows no order in time.

Pearson, "On Lines and Planes of Closest Fit to Systems of Points in Space", 1901; the residual as
an anomaly score is Jackson & Mudholkar, "Control Procedures for Residuals Associated with Principal
Component Analysis", 1979.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor, nn

from stream_detector.config import Count, Section
from trainer.models.base import ClosedForm
from trainer.models.padding import padded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Options(Section, frozen=True, kw_only=True):
    components: Annotated[
        Count | None, Meta(description="Components kept; null: as many as hold `variance`.")
    ] = None
    variance: Annotated[
        float, Meta(gt=0, lt=1, description="Share of the training windows' variance to hold.")
    ] = 0.9
    of: Annotated[
        Literal["window", "step"],
        Meta(description="What has components: the whole window, or each of its steps alike."),
    ] = "window"


class Pca(ClosedForm):
    """Before it is solved it reconstructs zero. At least one direction is always left out."""

    def __init__(self, features: int, window: int, options: Options) -> None:
        super().__init__()
        size = features if options.of == "step" else window * features
        self.components, self.variance = options.components or 0, options.variance
        self.mean = nn.Buffer(torch.zeros(size))
        self.basis = nn.Buffer(torch.zeros(size, 1))  # [60F or F, components], orthonormal columns
        # What is left of a step when the components are taken out is one product [F, F or more].
        self.stepwise = options.of == "step"
        self.rest = nn.Buffer(padded(torch.eye(size if self.stepwise else 0)))

    def forward(self, x: Tensor) -> Tensor:  # [B, 60, F] normalised -> the same, reconstructed
        away = x.reshape(-1, len(self.mean)) - self.mean
        return ((away @ self.basis) @ self.basis.t() + self.mean).view_as(x)

    def errors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not self.stepwise:
            estimate = self(x)
            return (x - estimate).square().mean(dim=1), estimate[:, -1]
        features = len(self.mean)
        left = (x.reshape(-1, features) @ self.rest).view(x.shape[0], -1)
        left.sub_((self.mean @ self.rest).expand(x.shape[1], -1).flatten())
        left = left.view(x.shape[0], x.shape[1], -1)
        newest = x[:, -1] - left[:, -1, :features]
        return left.square_().mean(dim=1)[:, :features], newest

    def solve(self, windows: Iterable[Tensor], total: Callable[[Tensor], Tensor]) -> None:
        """One pass over the windows; memory for three matrices [60F, 60F], or [F, F]."""
        size = len(self.mean)
        count = torch.zeros(1, dtype=torch.float64, device=self.mean.device)
        first = count.new_zeros(size)
        second = count.new_zeros(size, size)
        for batch in windows:
            flat = batch.reshape(-1, size)
            count += len(flat)
            first += flat.sum(dim=0, dtype=torch.float64)
            second += flat.t() @ flat
        count, first, second = total(count), total(first), total(second)
        mean = first / count
        covariance = second / count - torch.outer(mean, mean)
        # Values that never change have no direction, and many of them fail the solver.
        moves = (covariance.diagonal() > 0).nonzero().squeeze(1)
        variances, within = torch.linalg.eigh(covariance[moves][:, moves])
        variances = variances.flip(0).clamp_min(0.0)
        directions = covariance.new_zeros(size, len(moves))
        directions[moves] = within.flip(1)
        kept = self.components
        if not kept:
            share = variances.cumsum(0) / variances.sum().clamp_min(1e-30)
            kept = int((share < self.variance).sum().item()) + 1
        self.mean.copy_(mean)
        basis = directions[:, : min(kept, size - 1)]
        self.basis = nn.Buffer(padded(basis.to(self.mean.dtype)))
        if self.stepwise:
            rest = torch.eye(size, dtype=basis.dtype, device=basis.device) - basis @ basis.t()
            self.rest.copy_(padded(rest))
