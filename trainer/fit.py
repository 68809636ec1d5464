"""Fit one model to the normalised windows of one scale. Reads from top to bottom.

Windows come cut on demand from `preprocess`; what leaves is the model with the weights of its best
validation error, on the CPU.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from trainer import models

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from trainer.config import Fit, ModelChoice
    from trainer.preprocess import WindowSet

VALIDATION_WINDOWS = 2048
"""Validation windows at most; evenly spread over all there are."""

LARGEST_GRADIENT = 1.0
FINAL_RATE = 0.05
"""The learning rate falls along a cosine to this share of its peak."""


@dataclass(frozen=True, slots=True)
class Fitted:
    model: nn.Module  # on the CPU, in evaluation mode
    epochs: int  # that were run
    train_error: float  # mean squared error of the best epoch, in normalised units
    validation_error: float
    seconds: float


def device_of(name: str) -> torch.device:
    """`auto` is the first CUDA device, or the CPU where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def fit(
    train: WindowSet,
    validation: WindowSet,
    choice: ModelChoice,
    config: Fit,
    *,
    quiet: bool = False,
    monotonic: Callable[[], float] = time.monotonic,
) -> Fitted:
    """Adam on the mean squared error, early stopping, the best weights restored.

    Equal seeds and data give equal weights on the same CPU and number of threads, unless
    `time_limit` cut the fit short. Neither changes torch's global generator.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    started = monotonic()
    device = device_of(config.device)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(config.seed)
        model = models.build(choice.name, train.steps.shape[1], choice.options).to(device)
        rng = np.random.default_rng(config.seed)

        rows = np.linspace(0, len(validation) - 1, min(len(validation), VALIDATION_WINDOWS))
        held = _tensor(validation, np.unique(rows.astype(np.int64)), device)
        epoch_windows = min(len(train), config.windows_per_epoch)
        steps = math.ceil(epoch_windows / config.batch)
        optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, T_max=config.epochs, eta_min=FINAL_RATE * config.learning_rate
        )

        best, best_train, best_state = math.inf, math.inf, _copy(model)
        epochs = waited = 0
        with _progress(quiet=quiet) as progress:
            label = f"{choice.name}, scale {train.scale}"
            task = progress.add_task(label, total=config.epochs * steps, error="")
            while epochs < config.epochs and waited < config.patience:
                drawn = rng.permutation(len(train))[:epoch_windows]
                total = 0.0
                model.train()
                for start in range(0, epoch_windows, config.batch):
                    x = _tensor(train, drawn[start : start + config.batch], device)
                    loss = nn.functional.mse_loss(model(x), x)
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                    nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
                    optimizer.step()
                    total += loss.item() * len(x)
                    progress.advance(task)
                schedule.step()
                epochs += 1

                error = _mean_error(model, held, config.batch)
                if error < best:
                    best, best_train, waited = error, total / epoch_windows, 0
                    best_state = _copy(model)
                else:
                    waited += 1
                progress.update(task, error=f"error {best:.4g}")
                if config.time_limit is not None and monotonic() - started > config.time_limit:
                    break
            progress.update(task, completed=config.epochs * steps)

    model.load_state_dict(best_state)
    return Fitted(model.cpu().eval(), epochs, best_train, best, monotonic() - started)


def _tensor(windows: WindowSet, rows: NDArray[np.int64], device: torch.device) -> Tensor:
    return torch.from_numpy(windows.take(rows)).to(device)


def _mean_error(model: nn.Module, x: Tensor, batch: int) -> float:
    model.eval()
    tiles = torch.split(x, batch)
    with torch.inference_mode():
        parts = [nn.functional.mse_loss(model(p), p).item() * len(p) for p in tiles]
    return sum(parts) / len(x)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _progress(*, quiet: bool) -> Progress:
    """A bar on a terminal's error stream; nothing anywhere else."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[error]}"),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
        transient=True,
    )
