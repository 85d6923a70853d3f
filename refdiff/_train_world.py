"""One process or several: which rows of a batch are this one's, and what they add up to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """The processes that train together.

    Args:
        device: of this process.
        rank: number of this process, from 0.
        size: number of processes.
    """

    device: torch.device = CPU
    rank: int = 0
    size: int = 1

    def rows(self, batch: int) -> range:
        """The rows of a batch that are this process's."""
        if batch % self.size:
            raise ValueError(f"batch must be a multiple of {self.size} processes, got {batch}")
        share = batch // self.size
        return range(self.rank * share, (self.rank + 1) * share)

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model whose gradients are means over the processes; for one process, the model."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, [self.device] if self.device.type == "cuda" else None)

    def apart(self, wrapped: nn.Module, apart: bool) -> AbstractContextManager[object]:
        """Whether the gradients of what is done here stay with their process for now."""
        if apart and isinstance(wrapped, DistributedDataParallel):
            return wrapped.no_sync()
        return nullcontext()

    def sum(self, value: Tensor) -> float:
        """The sum over the processes."""
        if self.size > 1:
            distributed.all_reduce(value)
        return float(value)


@contextmanager
def launched(device: str) -> Iterator[World]:
    """The world that torchrun made, or this process alone.

    Args:
        device: "cpu" or "cuda"; with several processes each takes the GPU of its local rank, and they talk
            by NCCL, else by gloo.

    Raises:
        ValueError: a device that is not there.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(_device(device))
        return
    place = _device(device)
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield World(place, distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def _device(name: str) -> torch.device:
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device must be one of this machine, got {name!r}: {error}") from None
    return found
