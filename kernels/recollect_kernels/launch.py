"""What every launch needs: memory, the size of a tile, and the device that the tensors are on."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def empty(*shape: int, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Memory that a kernel fills, on the device of `like`; allocated here alone, so that tests can poison it."""
    return torch.empty(shape, dtype=dtype, device=like.device)


def padded(width: int, least: int = 1) -> int:
    """The power of two, at least `least`, that a tile needs to hold `width`."""
    return max(least, 1 << (max(width, 1) - 1).bit_length())


def on_device_of(tensor: Tensor) -> AbstractContextManager[None]:
    """Kernels run on the current device, which is not always that of their arguments."""
    guard: AbstractContextManager[None] = torch.cuda.device_of(tensor)  # type: ignore[no-untyped-call]
    return guard
