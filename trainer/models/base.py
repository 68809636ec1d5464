"""What the fit and the export ask of an architecture. No architecture lives here."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta
from torch import Tensor, nn

from stream_detector.bundle import WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Dropout = Annotated[float, Meta(ge=0, lt=1)]
Activation = Literal["tanh", "relu"]
Forecast = Annotated[
    int,
    Meta(ge=1, le=59, description="Newest steps that are forecast, one step ahead each."),
]


class WindowModel(nn.Module):
    """forward: normalised windows [B, 60, F] -> the model's estimate of them [B, 60, F].

    `counted` is how many of the newest steps are an estimate, all 60 for an autoencoder. A
    forecaster counts the steps that it forecasts, each from steps before it; the others of its
    estimate are left as given. Only counted steps make the loss and the scores.
    """

    counted = WINDOW

    def learn(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The estimate as training sees it, and what is added to its loss (a scalar)."""
        return self(x), x.new_zeros(())


class ClosedForm(WindowModel):
    """A model that is solved for, not descended to."""

    @abstractmethod
    def solve(self, windows: Iterable[Tensor], total: Callable[[Tensor], Tensor]) -> None:
        """Fit to batches of windows [n, 60, F]; `total` sums a tensor over all processes."""
