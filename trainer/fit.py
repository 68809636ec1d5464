"""Fit one model to the normalised windows of one scale. Reads from top to bottom.

Windows come cut on demand; what leaves is the model with the weights of its best validation
error, on the CPU. Under torchrun several processes share each batch and leave with the same
weights.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trainer import distributed, models
from trainer.distributed import device_of
from trainer.models.base import ClosedForm, WindowModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from trainer.config import Fit, ModelChoice
    from trainer.windows import WindowSource

VALIDATION_WINDOWS = 2048
"""Validation windows at most; evenly spread over all there are."""

PREPARED_ON = 16384
"""Training windows that a model's statistics are taken from, at most."""

LARGEST_GRADIENT = 1.0
SOLVED_AT_ONCE = 4096
"""Windows of one batch that a closed form is given."""

LOSSES = {"mse": nn.MSELoss, "mae": nn.L1Loss, "huber": nn.HuberLoss}
OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}

OnPass: TypeAlias = "Callable[[int, float], None]"
"""Is told of every pass: its number, from 1, and the validation error after it."""

FINAL_RATE = 0.05
"""The learning rate falls along a cosine to this share of its peak."""


@dataclass(frozen=True, slots=True)
class Fitted:
    model: WindowModel  # on the CPU, in evaluation mode
    epochs: int  # that were run; 0 for a closed form
    train_error: float  # the mean loss of the best epoch, in normalised units
    validation_error: float
    seconds: float
    history: list[tuple[float, float]] = field(default_factory=list)
    """The losses of each epoch that was run: training, validation."""


class _Learning(nn.Module):
    """From windows to the loss, as one module: what the processes of a fit keep in step."""

    def __init__(self, model: WindowModel, loss: str) -> None:
        super().__init__()
        self.model = model
        self.loss = LOSSES[loss]()

    def forward(self, x: Tensor) -> Tensor:
        estimate, target, penalty = self.model.learn(x)
        loss: Tensor = self.loss(estimate, target)
        return loss + penalty

    @torch.inference_mode()
    def over(self, x: Tensor, batch: int) -> float:
        """The mean loss as scoring sees it."""
        self.eval()
        total = 0.0
        for part in torch.split(x, batch):
            estimate, target, _ = self.model.compare(part)
            total += self.loss(estimate, target).item() * len(part)
        return total / len(x)


def fit(
    train: WindowSource,
    validation: WindowSource,
    choice: ModelChoice,
    config: Fit,
    *,
    quiet: bool = False,
    monotonic: Callable[[], float] = time.monotonic,
    on_pass: OnPass | None = None,
) -> Fitted:
    """Descend, stop early, restore the best weights; or solve, where the model has a closed form.

    Equal seeds and data give equal weights on the same CPU and number of threads, unless
    `time_limit` cut the fit short. Neither changes torch's global generator. What `on_pass` raises
    ends the fit and reaches the caller.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    started = monotonic()
    device = device_of(config.device)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(config.seed)
        model = models.build(choice.name, train.features, choice.options).to(device)
        learning = _Learning(model, config.loss)
        rng = np.random.default_rng(config.seed)
        rows = np.linspace(0, len(validation) - 1, min(len(validation), VALIDATION_WINDOWS))
        held = _tensor(validation, np.unique(rows.astype(np.int64)), device)

        own = drawn(train, PREPARED_ON, config.seed)[distributed.rank() :: distributed.size()]
        parts = [own[at : at + SOLVED_AT_ONCE] for at in range(0, len(own), SOLVED_AT_ONCE)]
        model.prepare(lambda: (_tensor(train, p, device) for p in parts), distributed.total)
        history: list[tuple[float, float]] = []
        if isinstance(model, ClosedForm):
            best = _solve(model, learning, train, held, config, rng)
        else:
            best, best_state, waited = (math.inf, math.inf), _copy(model), 0
            label = f"{choice.name}, scale {train.scale}"
            with _progress(quiet=quiet or distributed.rank() > 0) as progress:
                for losses in _passes(learning, train, held, config, rng, progress, label):
                    history.append(losses)
                    if on_pass is not None:
                        on_pass(len(history), losses[1])
                    if losses[1] < best[1]:
                        best, best_state, waited = losses, _copy(model), 0
                    else:
                        waited += 1
                    spent = monotonic() - started
                    late = config.time_limit is not None and spent > config.time_limit
                    if waited >= config.patience or _agreed(late, device):
                        break
            model.load_state_dict(best_state)
    return Fitted(model.cpu().eval(), len(history), *best, monotonic() - started, history)


def _passes(
    learning: _Learning,
    train: WindowSource,
    held: Tensor,
    config: Fit,
    rng: np.random.Generator,
    progress: Progress,
    label: str,
) -> Iterator[tuple[float, float]]:
    """Descend, pass by pass; the losses after each: training, validation."""
    device = held.device
    module: nn.Module = learning
    if distributed.several():
        module = DistributedDataParallel(learning)
        torch.manual_seed(config.seed + distributed.rank())  # what each drops out is its own
    epoch_windows = min(len(train), config.windows_per_epoch)
    if math.ceil(epoch_windows / config.batch) < config.least_steps:
        epoch_windows = config.least_steps * config.batch
    steps = math.ceil(epoch_windows / config.batch)
    turns = math.ceil(epoch_windows / len(train))
    optimizer = OPTIMIZERS[config.optimizer](learning.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=config.epochs, eta_min=FINAL_RATE * config.learning_rate
    )
    task = progress.add_task(label, total=config.epochs * steps, error="")
    least = math.inf
    for _ in range(config.epochs):
        drawn = np.concatenate([rng.permutation(len(train)) for _ in range(turns)])[:epoch_windows]
        seen = 0.0
        learning.train()
        for start in range(0, epoch_windows, config.batch):
            batch = drawn[start : start + config.batch]
            own, weight = _share(batch)
            loss = module(_tensor(train, own, device)) * weight
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(learning.parameters(), LARGEST_GRADIENT)
            optimizer.step()
            seen += loss.item() * len(batch)
            progress.advance(task)
        schedule.step()
        both = seen, learning.over(held, config.batch)
        sums = (
            distributed.total(torch.tensor(both, dtype=torch.float64, device=device))
            / distributed.size()
        )
        losses = sums[0].item() / epoch_windows, sums[1].item()
        least = min(least, losses[1])
        progress.update(task, error=f"error {least:.4g}")
        yield losses
    progress.update(task, completed=config.epochs * steps)


def _share(batch: NDArray[np.int64]) -> tuple[NDArray[np.int64], float]:
    """This process's rows of a batch, and the weight of its mean in the mean over processes."""
    size = distributed.size()
    own = batch[distributed.rank() :: size]
    if not len(own):
        return batch[:1], 0.0
    return own, len(own) * size / len(batch)


def _agreed(late: bool, device: torch.device) -> bool:  # noqa: FBT001  # the value, not a switch
    """Whether it is late in any process; clocks differ, and all must stop after the same pass."""
    return distributed.total(torch.tensor(float(late), device=device)).item() > 0


def _solve(
    model: ClosedForm,
    learning: _Learning,
    train: WindowSource,
    held: Tensor,
    config: Fit,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Solve for as many windows as all passes would draw; the losses: training, validation."""
    drawn = rng.permutation(len(train))[: config.epochs * config.windows_per_epoch]
    own = drawn[distributed.rank() :: distributed.size()]
    parts = (own[at : at + SOLVED_AT_ONCE] for at in range(0, len(own), SOLVED_AT_ONCE))
    with torch.no_grad():
        model.solve((_tensor(train, part, held.device) for part in parts), distributed.total)
    seen = _tensor(train, drawn[:VALIDATION_WINDOWS], held.device)
    return learning.over(seen, config.batch), learning.over(held, config.batch)


def drawn(windows: WindowSource, most: int, seed: int) -> NDArray[np.int64]:
    """Rows of at most so many windows, in a seeded random order."""
    return np.random.default_rng((seed, 1)).permutation(len(windows))[:most]


def _tensor(windows: WindowSource, rows: NDArray[np.int64], device: torch.device) -> Tensor:
    return torch.from_numpy(windows.take(rows)).to(device)


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
