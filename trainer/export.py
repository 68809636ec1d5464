"""A fitted model -> TorchScript and a bundle. All that the trainer knows of torch.jit is here,

but for one question that models/recurrent.py asks: whether it is being compiled.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from stream_detector.bundle import (
    FORMAT_VERSION,
    GOLDEN,
    SERIES,
    WINDOW,
    Golden,
    Manifest,
    golden_to_bytes,
    module_name,
)
from stream_detector.ports import Scores
from trainer.config import CLIP
from trainer.experts import OF_THE_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from stream_detector.bundle import (
        Expert,
        Levels,
        Normalisation,
        SeriesTable,
        Threshold,
        TrainingData,
    )
    from trainer.config import Local
    from trainer.experts.base import Family
    from trainer.models.base import WindowModel

HISTORY = "history.json"
"""The file of a bundle that holds {SCALE: {"train": [...], "validation": [...]}} by pass."""

TILE = 256
GOLDEN_NORMAL, GOLDEN_SHIFTED, GOLDEN_SPIKY = 256, 64, 64


class Exported(nn.Module):
    """Around a model of normalised windows: the contract of a bundle's module.

    Its scores are those of the model, then those of the families of experts, by column as in
    `names`. Scores of the model are squared errors in normalised units: `reconstruction` is the
    mean over all that the model compares; `newest` is that of the newest step, so that a spike
    shows at once; `below` and `above` are its two parts, of the features that lie below and above
    the estimate, so that skewed values have a tail on each side. `stuck` is no error: it is the
    square of the share of the window for which a feature has not changed at all, because a flat
    line is what an autoencoder reconstructs best; one that never moved in training is not asked. A
    feature's contribution is its share of the errors and of what the families blame it for and, as
    far as one is stuck, of that; scores that are not `counted` have no part in it.
    """

    def __init__(
        self,
        model: WindowModel,
        families: Sequence[Family] = (),
        *,
        local: Local = False,
        clip: float = CLIP,
        counted: Sequence[str] = OF_THE_MODEL,
        moves: Tensor | None = None,  # [F] whether a feature ever does in training; None: all do
    ) -> None:
        super().__init__()
        self.model = model
        self.families = nn.ModuleList(families)
        self.names = [*OF_THE_MODEL, *(name for one in families for name in one.columns)]
        self.local = bool(local)
        self.robust = local == "median"
        self.clip = clip
        self.errs = 1.0 if {*counted} & {*OF_THE_MODEL} - {"stuck"} or not families else 0.0
        self.sticks = 1.0 if "stuck" in counted else 0.0
        self.changes = float(WINDOW - 1)
        self.steps = nn.Buffer(torch.arange(1.0, WINDOW).unsqueeze(1))
        self.moves = nn.Buffer(torch.ones(1) if moves is None else moves.float())

    def forward(
        self,
        windows: Tensor,  # [B, 60, F] relative to the anchor
        center: Tensor,  # [B, F] relative to the anchor
        scale: Tensor,  # [B, F]
    ) -> tuple[Tensor, Tensor, Tensor]:  # [B, E], [B, F], [B, F] relative to the anchor
        # In place where nobody else holds the tensor: a fresh one for every tile costs time.
        x = (windows - center.unsqueeze(1)).div_(scale.unsqueeze(1)).clamp_(-self.clip, self.clip)
        middle = torch.zeros_like(center)
        if self.local:
            older = x[:, :-1]
            middle = older.median(dim=1)[0] if self.robust else older.mean(dim=1)
            x = x - middle.unsqueeze(1)
        whole, estimate = self.model.errors(x)  # [B, F] both
        away = x[:, -1] - estimate
        newest = away.square()  # [B, F]
        below = away.clamp(max=0.0).square().mean(dim=1)
        above = away.clamp(min=0.0).square().mean(dim=1)
        flat, width = windows.flatten(1), windows.shape[2]
        moved = (flat[:, width:] - flat[:, :-width]).ne_(0.0)
        moved = moved.mul_(self.steps.expand(-1, width).flatten()).view(len(x), -1, width)
        latest = moved.amax(dim=1)  # the step of the last change, 0 for none
        stuck = (1.0 - latest / self.changes).square() * self.moves  # [B, F]
        most = stuck.amax(dim=1)  # [B]
        own = (whole.mean(dim=1), newest.mean(dim=1), most, below, above)
        scores = [torch.stack(own, dim=1)]
        errors = whole + newest
        errors = self.errs * errors / errors.sum(dim=1, keepdim=True).clamp_min(1e-30)
        for family in self.families:
            found, blame = family(x)
            scores.append(found)
            errors = errors + blame
        errors = errors / errors.sum(dim=1, keepdim=True).clamp_min(1e-30)
        still = stuck / stuck.sum(dim=1, keepdim=True).clamp_min(1e-30)
        contribution = errors + self.sticks * most.unsqueeze(1) * (still - errors)
        expected = (estimate + middle) * scale + center
        return torch.cat(scores, dim=1), contribution, expected


@contextmanager
def _quiet_jit() -> Iterator[None]:
    """TorchScript is the exchange format by decision; its deprecation is known."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=DeprecationWarning)
        yield


def script(exported: Exported) -> bytes:
    """Compile to the archive of a bundle's module, for the CPU."""
    buffer = io.BytesIO()
    exported = exported.cpu().eval()
    for parameter in exported.parameters():
        parameter.requires_grad = False
    with _quiet_jit():
        torch.jit.save(torch.jit.script(exported), buffer)
    return buffer.getvalue()


class Scripted:
    """The archives of all scales, as calibration scores with them: a ports.Scorer of one rung.

    Any number of windows may be given; they are scored in tiles, the last one padded.
    """

    def __init__(self, modules: Mapping[int, bytes]) -> None:
        with _quiet_jit():
            self._modules = {
                scale: torch.jit.load(  # type: ignore[no-untyped-call]  # torch leaves it untyped
                    io.BytesIO(data), map_location="cpu"
                ).eval()
                for scale, data in modules.items()
            }

    @property
    def rungs(self) -> tuple[int, ...]:
        return (TILE,)

    @property
    def scales(self) -> tuple[int, ...]:
        return tuple(self._modules)

    def score(
        self,
        scale: int,
        windows: NDArray[np.float32],
        center: NDArray[np.float32],
        spread: NDArray[np.float32],
    ) -> Scores:
        module = self._modules[scale]
        if not len(windows):
            one = np.zeros((1, *windows.shape[1:]), np.float32)
            answer = self.score(scale, one, one[:, 0], one[:, 0] + 1)
            return Scores(*(part[:0] for part in answer))
        found: list[NDArray[np.float32]] = []
        with torch.inference_mode():
            for start in range(0, len(windows), TILE):
                tile = [_padded(part[start : start + TILE]) for part in (windows, center, spread)]
                answer = module(*tile)
                # Filled in place: small results, kept one by one, would tear holes into the heap.
                found = found or [
                    np.empty((len(windows), part.shape[1]), np.float32) for part in answer
                ]
                for into, part in zip(found, answer, strict=True):
                    rows = into[start : start + TILE]
                    rows[:] = part[: len(rows)].numpy()
        return Scores(*found)


def _padded(part: NDArray[np.float32]) -> Tensor:
    full = np.empty((TILE, *part.shape[1:]), np.float32)
    full[: len(part)] = part
    full[len(part) :] = part[:1]
    return torch.from_numpy(full)


def golden(
    scorer: Scripted,
    scale: int,
    windows: NDArray[np.float32],  # [n, 60, F] real ones, n >= 1
    center: NDArray[np.float32],  # [n, F]
    spread: NDArray[np.float32],  # [n, F]
    seed: int = 0,
) -> Golden:
    """Windows and their scores for loaders to compare: real, shifted, and with a spike."""
    rng = np.random.default_rng(seed)
    total = GOLDEN_NORMAL + GOLDEN_SHIFTED + GOLDEN_SPIKY
    rows = rng.choice(len(windows), total, replace=len(windows) < total)
    chosen, width = windows[rows].copy(), spread[rows]
    size = rng.uniform(1.0, 8.0, total).astype(np.float32) * rng.choice((-1, 1), total)
    shifted = np.arange(GOLDEN_NORMAL, GOLDEN_NORMAL + GOLDEN_SHIFTED)
    begin = rng.integers(0, WINDOW, total)
    for row in shifted.tolist():
        chosen[row, begin[row] :] += (size[row] * width[row]).astype(np.float32)
    for row in range(GOLDEN_NORMAL + GOLDEN_SHIFTED, total):
        at = WINDOW - 1 if row % 2 else int(begin[row])
        chosen[row, at] += (5 * size[row] * width[row]).astype(np.float32)
    scores = scorer.score(scale, chosen, center[rows], width).scores
    return Golden(chosen, center[rows], width, scores)


def bundle_files(
    modules: Mapping[int, bytes],
    series: SeriesTable,
    golden_windows: Mapping[int, Golden],
    history: Mapping[int, Sequence[tuple[float, float]]],  # losses: training, validation
) -> dict[str, bytes]:
    """Every file of the bundle but the manifest. No detector reads the history of the losses."""
    losses = {
        str(scale): {"train": [one[0] for one in passes], "validation": [one[1] for one in passes]}
        for scale, passes in history.items()
        if passes
    }
    return {
        **({HISTORY: msgspec.json.encode(losses)} if losses else {}),
        **{module_name(scale): data for scale, data in modules.items()},
        SERIES: series.to_bytes(),
        GOLDEN: golden_to_bytes(golden_windows),
    }


def manifest(
    *,
    created: datetime,
    files: Mapping[str, bytes],
    features: list[str],
    scales: list[int],
    normalisation: Normalisation,
    experts: list[Expert],
    levels: Levels,
    threshold: Threshold,
    model: str,
    metrics: dict[str, float],
    training: TrainingData,
    scales_reason: str = "",
    notes: Sequence[str] = (),
) -> Manifest:
    """The manifest of these files."""
    return Manifest(
        format_version=FORMAT_VERSION,
        version=version_of(created, files),
        created=created.isoformat(timespec="seconds"),
        features=features,
        window=WINDOW,
        scales=scales,
        scales_reason=scales_reason,
        normalisation=normalisation,
        experts=experts,
        levels=levels,
        threshold=threshold,
        model=model,
        metrics=metrics,
        training=training,
        notes=list(notes),
        torch=str(torch.__version__),
    )


def version_of(created: datetime, files: Mapping[str, bytes]) -> str:
    """The name of a bundle: the time of creation and a digest of its files."""
    content = hashlib.sha256()
    for name in sorted(files):
        content.update(files[name])
    return f"{created:%Y%m%dT%H%M%S}-{content.hexdigest()[:8]}"
