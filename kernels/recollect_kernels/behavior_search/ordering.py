"""One total order of scored behaviours, the same on every backend.

Higher scores come first, the lower position wins a tie, -0 ties with +0, and NaN loses to everything, -inf included.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

PADDING_KEY = torch.iinfo(torch.int64).min
"""Below the key of every behaviour, so that padding is never selected."""
_LARGEST_POSITION = 0x7FFFFFFF


def sort_key(
    scores: Float[Tensor, "*dims l"], position: Int64[Tensor, "*#dims l"] | None = None
) -> Int64[Tensor, "*dims l"]:
    """Integers that sort as the behaviours do: order-preserving fp32 bits above the reversed position.

    `position` is that in the last dimension unless it is given.
    """
    bits = (scores.float() + 0.0).view(torch.int32)  # adding +0 turns -0 into +0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # negative floats sort backwards as integers
    ordered = torch.where(scores.isnan(), torch.iinfo(torch.int32).min, ordered)
    if position is None:
        position = torch.arange(scores.shape[-1], device=scores.device)
    return (ordered.long() << 32) | (_LARGEST_POSITION - position)


def position_of_key(key: Int64[Tensor, "*dims"]) -> Int64[Tensor, "*dims"]:
    """The position that went into a key."""
    return _LARGEST_POSITION - (key & 0xFFFFFFFF)
