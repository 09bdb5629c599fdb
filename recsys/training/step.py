"""One training step in plain torch, for one worker or for many."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from recsys.models.batch import Batch
from recsys.models.model import Model


def make_optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Dense Adam, as published; the fused form reads each table once a step instead of once an operation."""
    return torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)


def train_step(
    model: Model, optimizer: torch.optim.Optimizer, batch: Batch, *, l2: float, samples_of_all_workers: int
) -> Tensor:
    """Update `model` with this worker's share of a step and return the loss of all workers, the same on each of them.

    Shares may differ in size: each weighs in with its part of `samples_of_all_workers`, so that N workers take the step
    that one would take, except that each normalises its own share (BatchNorm). The step is taken where the model is.
    """
    batch = batch.to(next(model.parameters()).device)
    optimizer.zero_grad(set_to_none=True)
    loss = model.loss(batch, l2=l2)
    weighted = loss * (batch.n_samples / samples_of_all_workers)
    weighted.backward()  # type: ignore[no-untyped-call]
    total = weighted.detach()
    if dist.is_initialized() and dist.get_world_size() > 1:
        _synchronise(model)
        dist.all_reduce(total)
    optimizer.step()
    return total


def _synchronise(model: nn.Module) -> None:
    """Add the workers' weighted gradients up and average their BatchNorm statistics."""
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            for statistic in (module.running_mean, module.running_var):
                assert statistic is not None
                dist.all_reduce(statistic)
                statistic /= dist.get_world_size()
