"""Keep an op in its own precision: a caller's autocast is for products that may be rounded, not for a search."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def in_own_precision(op: Callable[Concatenate[Tensor, P], R]) -> Callable[Concatenate[Tensor, P], R]:
    """`op`, whose first argument is a tensor, computing in the types that it is given whatever autocast says."""

    @wraps(op)
    def run(first: Tensor, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not torch.is_autocast_enabled(first.device.type):
            return op(first, *args, **kwargs)
        with torch.autocast(first.device.type, enabled=False):
            return op(first, *args, **kwargs)

    return run
