"""Which parameters AdamW decays."""

from collections.abc import Iterable
from typing import Any

from torch import nn


def groups(parameters: Iterable[nn.Parameter], weight_decay: float, **options: Any) -> list[dict[str, Any]]:
    """Groups for an optimizer: matrices are decayed; biases, norms and scales are not. Both have `options` as well."""
    every = list(parameters)
    matrices = [parameter for parameter in every if parameter.ndim > 1]
    others = [parameter for parameter in every if parameter.ndim <= 1]
    return [
        {"params": own, "weight_decay": decay, **options}
        for own, decay in ((matrices, weight_decay), (others, 0.0))
        if own
    ]
