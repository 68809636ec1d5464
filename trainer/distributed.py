"""The processes that torchrun starts to fit one model together; alone, all of this does nothing.

Every process reads the same data and draws the same windows, then takes its share of each batch.
What they must agree on is summed over all of them.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import distributed

from stream_detector.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


@contextmanager
def joined() -> Iterator[bool]:
    """Join the processes that torchrun started, if it did. Yields whether this one writes."""
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield True
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield rank() == 0
    finally:
        distributed.destroy_process_group()


def several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    return distributed.get_rank() if several() else 0


def size() -> int:
    return distributed.get_world_size() if several() else 1


def total(tensor: Tensor) -> Tensor:
    """The sum over all processes, the same bits in each."""
    if several():
        distributed.all_reduce(tensor)
    return tensor


def device_of(name: str) -> torch.device:
    """`auto` is a CUDA device, each process its own, or the CPU where there are too few.

    Raises ConfigError where `cuda` is asked for and there is none, or not one for each process.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    needed = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if several() else 1
    if name == "auto":
        name = "cuda" if there >= needed else "cpu"
    device = torch.device(name)
    if device.type == "cpu":
        return device
    if device.index is None and several():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    elif several() and needed > 1:
        raise ConfigError(f"fit.device: {name} is one device for {needed} processes; set cuda")
    if max(device.index or 0, needed - 1) >= there:
        raise ConfigError(
            f"fit.device: {name} needs {max((device.index or 0) + 1, needed)} CUDA devices here, "
            f"there are {there}; set cpu or auto"
        )
    return device
