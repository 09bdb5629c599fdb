"""Processes that share each step of a run: their places, and how their gradients become one."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """This process's place among those that train together."""

    rank: int = 0
    """0 writes files and validates."""
    world_size: int = 1
    """Processes that share each step."""


ALONE = Worker()
"""A process that trains by itself."""


def average(model: nn.Module, loss: Tensor, worker: Worker) -> None:
    """Average gradients, floating buffers (BatchNorm's statistics) and the loss over the workers, in one round."""
    if worker.world_size == 1 or not dist.is_initialized():
        return
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    shared = [parameter.grad for parameter in trained if parameter.grad is not None]
    shared += [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    flat = torch.cat([tensor.reshape(-1) for tensor in (*shared, loss)])
    dist.all_reduce(flat)
    flat /= worker.world_size
    sizes = [tensor.numel() for tensor in (*shared, loss)]
    for tensor, mean in zip((*shared, loss), torch.split(flat, sizes), strict=True):
        tensor.copy_(mean.view_as(tensor))


def wait_for(worker: Worker) -> None:
    """Go on when all workers have come here."""
    if worker.world_size > 1 and dist.is_initialized():
        dist.barrier()
