"""What the fit and the export ask of an architecture. No architecture lives here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Annotated, Literal

from msgspec import Meta
from torch import Tensor, nn

from stream_detector.bundle import WINDOW

Dropout = Annotated[float, Meta(ge=0, lt=1)]
Activation = Literal["tanh", "relu"]
Forecast = Annotated[
    int,
    Meta(ge=1, le=59, description="Newest steps that are forecast, one step ahead each."),
]
Windows = Callable[[], Iterable[Tensor]]
"""Batches [n, 60, F] of normalised training windows, from the start at each call."""


class WindowModel(nn.Module):
    """forward: normalised windows [B, 60, F] -> the model's estimate of them [B, 60, F].

    `counted` is how many of the newest steps are an estimate, all 60 for an autoencoder. A
    forecaster counts the steps that it forecasts, each from steps before it; the others of its
    estimate are left as given. Only counted steps make the loss and the scores.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counted = WINDOW

    def compare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Estimate [B, T, F] and what it should have been [B, T, F], whose difference is the

        reconstruction error, and the estimate of the window [B, 60, F].
        """
        estimate = self(x)
        return estimate[:, -self.counted :], x[:, -self.counted :], estimate

    def errors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared reconstruction error by feature, and the estimate of the newest step, each

        [B, F].
        """
        estimate, target, window = self.compare(x)
        return (target - estimate).square().mean(dim=1), window[:, -1]

    def learn(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The pair of `compare` as training sees it, and what is added to its loss (a scalar)."""
        estimate, target, _ = self.compare(x)
        return estimate, target, x.new_zeros(())

    def prepare(self, windows: Windows, total: Callable[[Tensor], Tensor]) -> None:
        """Statistics of the training windows, before the descent; `total` sums over processes."""


class ClosedForm(WindowModel):
    """A model that is solved for, not descended to."""

    @abstractmethod
    def solve(self, windows: Iterable[Tensor], total: Callable[[Tensor], Tensor]) -> None:
        """Fit to batches of windows [n, 60, F]; `total` sums a tensor over all processes."""
