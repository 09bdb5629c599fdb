"""Let N workers take the step that one would take: what they share, in an order that is the same each time."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Int64
from torch import Tensor, nn

from recsys.training.rowwise_adam import RowwiseAdam


class AllWorkersBatchNorm(nn.BatchNorm1d):
    """BatchNorm over the shares of all workers; in evaluation mode like any other."""

    def forward(self, input: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        """Normalise this worker's rows by mean and variance of all workers' rows."""
        if not self.training:
            return super().forward(input)
        rows = input.new_full((1,), len(input))
        sums = _Summed.apply(torch.cat([input.sum(0), rows]))  # type: ignore[no-untyped-call]
        count = sums[-1].detach()
        mean = sums[:-1] / count
        apart = input - mean
        variance = _Summed.apply(apart.square().sum(0)) / count  # type: ignore[no-untyped-call]
        assert self.running_mean is not None, "heads keep statistics"
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        normal: Tensor = apart * torch.rsqrt(variance + self.eps) * self.weight + self.bias
        return normal


class _Summed(torch.autograd.Function):
    """The sum over all workers, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(_ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def several() -> bool:
    """Whether this process is one of several that share each step."""
    return dist.is_initialized() and dist.get_world_size() > 1


def normalise_over_all_workers(model: nn.Module) -> None:
    """Let every BatchNorm of `model` see the whole batch, where several workers share it."""
    if not several():
        return
    for parent in model.modules():
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.BatchNorm1d):
                wide = AllWorkersBatchNorm(module.num_features, eps=module.eps, momentum=module.momentum)
                wide.load_state_dict(module.state_dict())
                setattr(parent, name, wide.to(module.weight.device))


def rows_of_all_workers(rows: Int64[Tensor, " u"] | None, n_rows: int) -> Int64[Tensor, " w"] | None:
    """The rows, of `n_rows`, that any worker reads, ascending and each once; None where one reads all."""
    if not several():
        return rows
    none = torch.empty(0, dtype=torch.int64)
    own = none if rows is None else rows.cpu()
    count = torch.tensor([n_rows if rows is None else len(own)])
    counts = [torch.empty_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    longest = int(max(counts))
    if longest >= n_rows:
        return None
    own = nn.functional.pad(own, (0, longest - len(own)))
    everyones = [torch.empty_like(own) for _ in counts]
    dist.all_gather(everyones, own)
    together = torch.cat([each[: int(number)] for each, number in zip(everyones, counts, strict=True)])
    distinct: Tensor = torch.unique(together)
    return distinct if rows is None else distinct.to(rows.device)


def add_gradients_up(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Let every worker have the sum of all workers' gradients."""
    by_rows = optimizer.tables if isinstance(optimizer, RowwiseAdam) else []
    for parameter in model.parameters():
        if any(parameter is table for table in by_rows):
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
    if isinstance(optimizer, RowwiseAdam):
        optimizer.share_rows(dist.all_reduce)
