"""A verified bundle -> a warm ports.Scorer. All that the detector knows of torch is here.

    archive bytes -> load -> golden scores -> ladder of tiles -> warm -> serve

A module that fails one of these is refused with BundleError; nothing of it has served by then.
"""

from __future__ import annotations

import ctypes
import io
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stream_detector.bundle import BundleError, module_name
from stream_detector.ports import Model, Scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from stream_detector.bundle import Bundle, Golden

LADDER = (16, 64, 256)
"""Tile sizes to try. Below 16 rows, matrix products use other kernels and other last bits."""

ABSOLUTE = 1e-3
"""Scores are squared errors in normalised units; smaller ones are compared as if of this size."""

KEPT, LARGEST = 64 << 20, 32 << 20
"""Bytes of freed memory that the allocator keeps, and from which on it maps a request apart.

32 MiB is the most that it takes. Else each tile's large tensors are given back and had again, page
by page: that takes as long as a third of a small module's arithmetic.
"""
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Of glibc's mallopt; malloc.h."""

WARM_CALLS = 4
"""Calls of each rung before serving: the executor profiles the first and compiles in the next."""


def device_of(name: str) -> torch.device:
    """`auto` is the first CUDA device, or the CPU where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BundleError(f"device {name}: there is none here; set `device: auto` or `cpu`")
    return device


def keep_memory() -> bool:
    """Let the process keep what a tile took for the next one; False where the C library can't.

    The environment's MALLOC_TRIM_THRESHOLD_ and its like are overruled.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl, macOS
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST)) and bool(mallopt(TRIM_THRESHOLD, KEPT))


@contextmanager
def _quiet_jit() -> Iterator[None]:
    """TorchScript is the exchange format by decision; its deprecation is known."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=DeprecationWarning)
        yield


class TorchScorer:
    """The modules of one bundle on one device. Not for two threads at once."""

    def __init__(
        self, modules: dict[int, Any], device: torch.device, rungs: tuple[int, ...]
    ) -> None:
        self._modules = modules
        self._device = device
        self._rungs = rungs

    @property
    def rungs(self) -> tuple[int, ...]:
        return self._rungs

    def score(
        self,
        scale: int,
        windows: NDArray[np.float32],  # [B, 60, F], B one of the rungs
        center: NDArray[np.float32],  # [B, F]
        spread: NDArray[np.float32],  # [B, F]
    ) -> Scores:
        with torch.inference_mode():
            given = [self._tensor(part) for part in (windows, center, spread)]
            scores, contribution, expected = self._modules[scale](*given)
            return Scores(scores.cpu().numpy(), contribution.cpu().numpy(), expected.cpu().numpy())

    def _tensor(self, part: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)).to(self._device)


def load_model(bundle: Bundle, device: str = "auto", threads: int | None = 1) -> Model:
    """Load, verify, and warm a bundle's modules. Raises BundleError where one cannot be served.

    `threads` sets torch's CPU threads for the whole process; None leaves them. Rows of a tile are
    bit-identical whatever its size among `rungs` and their place in it; that is shown here, on this
    machine, with the golden windows.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    keep_memory()
    where = device_of(device)
    if where.type == "cuda":  # TF32 would leave only three digits
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    scales = bundle.manifest.scales
    modules = {scale: _load(bundle, scale, where) for scale in scales}
    widest = TorchScorer(modules, where, LADDER[-1:])
    ladder: tuple[int, ...] = LADDER
    for scale in scales:
        golden = bundle.golden(scale)
        _check_shapes(bundle, scale, golden)
        reference = _verify(widest, bundle, scale, golden)
        if len(ladder) > 1 and not _identical(widest, scale, golden, reference, LADDER):
            ladder = LADDER[-1:]
            if not _identical(widest, scale, golden, reference, ladder):
                raise _refusal(bundle, scale, "gives a window another score beside other windows")
    scorer = TorchScorer(modules, where, ladder)
    for scale in scales:
        _warm(scorer, scale, bundle.golden(scale))
    return Model(bundle, scorer)


def _refusal(bundle: Bundle, scale: int, problem: str) -> BundleError:
    return BundleError(
        f"{bundle.path / module_name(scale)}: {problem}; train the bundle again on this version"
    )


def _load(bundle: Bundle, scale: int, device: torch.device) -> Any:
    try:
        with _quiet_jit():
            module = torch.jit.load(  # type: ignore[no-untyped-call]  # torch leaves it untyped
                io.BytesIO(bundle.module(scale)), map_location=device
            )
    except (RuntimeError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        raise _refusal(bundle, scale, f"not a TorchScript module ({reason})") from error
    return module.eval()


def _check_shapes(bundle: Bundle, scale: int, golden: Golden) -> None:
    manifest = bundle.manifest
    count, width = len(golden.windows), len(manifest.features)
    outputs = 1 + max(one.output for one in manifest.experts if one.scale == scale)
    problem = ""
    if not count or golden.windows.shape[1:] != (manifest.window, width):
        problem = f"windows of shape {golden.windows.shape}"
    elif golden.center.shape != (count, width) or golden.scale.shape != (count, width):
        problem = "centre or scale of another shape than the windows"
    elif golden.scores.ndim != 2 or golden.scores.shape[0] != count:
        problem = f"scores of shape {golden.scores.shape}"
    elif golden.scores.shape[1] < outputs:
        problem = f"{golden.scores.shape[1]} scores a window where the manifest uses {outputs}"
    if problem:
        raise _refusal(bundle, scale, f"golden.npz has {problem}")


def _verify(scorer: TorchScorer, bundle: Bundle, scale: int, golden: Golden) -> Scores:
    """The module's answer for the golden windows, after a check that it is that of the export."""
    try:
        found = _scored(scorer, scale, golden, LADDER[-1], 0)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[-200:]
        raise _refusal(bundle, scale, f"does not keep the module contract ({reason})") from error
    count, width = len(golden.windows), golden.windows.shape[2]
    shapes = (found.scores.shape, found.contribution.shape, found.expected.shape)
    if shapes != (golden.scores.shape, (count, width), (count, width)):
        raise _refusal(bundle, scale, f"returns arrays of shapes {shapes}")
    tolerance = bundle.manifest.tolerance
    size = np.maximum(np.abs(golden.scores), ABSOLUTE)
    off = np.abs(found.scores - golden.scores) / size
    if not (off <= tolerance).all():  # NaN is not within any tolerance
        worst = float(np.nanmax(off)) if np.isfinite(off).any() else float("nan")
        raise _refusal(
            bundle,
            scale,
            f"golden scores are off by {worst:.2g} of their size, {tolerance:g} is allowed",
        )
    return found


def _scored(scorer: TorchScorer, scale: int, golden: Golden, rung: int, shift: int) -> Scores:
    """Score all golden windows in tiles of `rung`, each `shift` rows further on than by itself."""
    count = len(golden.windows)
    tiles = -(-count // rung)
    order = (np.arange(tiles * rung) - shift) % count
    parts = [
        scorer.score(scale, golden.windows[rows], golden.center[rows], golden.scale[rows])
        for rows in order.reshape(tiles, rung)
    ]
    back = np.empty(count, np.int64)
    back[order[::-1]] = np.arange(len(order))[::-1]
    return Scores(*(np.concatenate(column)[back] for column in zip(*parts, strict=True)))


def _identical(
    scorer: TorchScorer,
    scale: int,
    golden: Golden,
    reference: Scores,
    rungs: Sequence[int],
) -> bool:
    """Whether every rung gives every golden window the same bits, wherever it lies in the tile."""
    return all(
        np.array_equal(mine, other, equal_nan=True)
        for rung in rungs
        for shift in (0, 1, rung // 2 + 3)
        for mine, other in zip(_scored(scorer, scale, golden, rung, shift), reference, strict=True)
    )


def _warm(scorer: TorchScorer, scale: int, golden: Golden) -> None:
    """Call each rung until its time has settled, so that no real tile is the slow first one."""
    for rung in scorer.rungs:
        rows = np.arange(rung) % len(golden.windows)
        tile = golden.windows[rows], golden.center[rows], golden.scale[rows]
        least = np.inf
        for call in range(4 * WARM_CALLS):
            started = time.perf_counter()
            scorer.score(scale, *tile)
            spent = time.perf_counter() - started
            if call + 1 >= WARM_CALLS and spent < 1.5 * least:
                break
            least = min(least, spent)
