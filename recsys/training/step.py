"""One training step in plain torch, for one worker or for many."""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn

from recsys.models.batch import Batch, used_items
from recsys.models.embeddings import ItemEmbeddings
from recsys.models.model import Model
from recsys.training.rowwise_adam import RowwiseAdam
from recsys.training.workers import add_gradients_up, rows_of_all_workers, several

OptimizerName = Literal["adam", "rowwise-adam"]
OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)
PrecisionName = Literal["fp32", "bf16"]
PRECISIONS: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def make_optimizer(model: Model, learning_rate: float, name: OptimizerName = "adam") -> torch.optim.Adam:
    """Dense Adam, as published, in its fused form, which reads each table once a step instead of once an operation; or
    the same by rows of the items' tables, which it makes give sparse gradients."""
    if name == "adam":
        return torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    tables: list[nn.Parameter] = []
    for module in model.modules():
        if isinstance(module, ItemEmbeddings):
            module.item.sparse = True
            assert isinstance(module.item.weight, nn.Parameter)
            tables.append(module.item.weight)
    others = [parameter for parameter in model.parameters() if not any(parameter is table for table in tables)]
    return RowwiseAdam(tables, others, learning_rate=learning_rate)


def train_step(
    model: Model,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    l2: float,
    samples_of_all_workers: int,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Update `model` with this worker's share of a step and return the loss of all workers, the same on each of them.

    Shares may differ in size: each weighs in with its part of `samples_of_all_workers`, so that N workers take the step
    that one would take, if `normalise_over_all_workers` has been told of the model. The step is taken where the model
    is. With a row-wise optimizer, `settle` brings the tables up to date before anything else reads them.
    """
    batch = batch.to(next(model.parameters()).device)
    if isinstance(optimizer, RowwiseAdam):
        rows = model.config.n_items + 1
        batch = batch._replace(used=(used := used_items(batch, rows)))
        optimizer.read(rows_of_all_workers(used.items, rows))
    optimizer.zero_grad(set_to_none=True)
    loss = model.loss(batch, l2=l2, precision=precision)
    weighted = loss * (batch.n_samples / samples_of_all_workers)
    weighted.backward()  # type: ignore[no-untyped-call]
    total = weighted.detach()
    if several():
        add_gradients_up(model, optimizer)
        dist.all_reduce(total)
    optimizer.step()
    return total


def settle(optimizer: torch.optim.Optimizer) -> None:
    """Let the model be what its steps have made of it: a row-wise optimizer owes some to rows that it has not read."""
    if isinstance(optimizer, RowwiseAdam):
        optimizer.settle()
