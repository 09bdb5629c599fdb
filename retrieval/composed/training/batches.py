"""Decide which queries are told apart in one step: at random, or so that look-alikes meet."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from retrieval.composed.training.examples import Positions


def random_batches(count: int, size: int, generator: np.random.Generator) -> list[Positions]:
    """All of `count` queries in batches of `size`, in a new order; a rest too small to tell apart joins the last."""
    order = generator.permutation(count)
    batches = [order[begin : begin + size] for begin in range(0, count, size)]
    if len(batches) > 1 and len(batches[-1]) < size:
        # A small batch is an easier question, whose step would count as much.
        batches = batches[:-1]
    return batches


def hard_batches(
    targets: Float[Tensor, "q d"],
    instances: Positions,
    size: int,
    share: float,
    generator: np.random.Generator,
) -> list[Positions]:
    """Batches of which `share` are queries whose targets look like those of the rest.

    `targets` is one vector of unit length for each query's target. As many batches as `random_batches` makes; a
    query may be in several and another in none, since those that look like others are asked more often.
    """
    followers = int(size * share)
    batches = []
    for leaders in random_batches(len(targets), size, generator)[: len(targets) // size or 1]:
        if followers:
            leaders = leaders[: size - followers]
            leaders = _joined(leaders, followers, targets, instances)
        batches.append(leaders)
    return batches


def _joined(leaders: Positions, followers: int, targets: Tensor, instances: Positions) -> Positions:
    """`leaders` with the nearest targets of other instances, one for each in turn until there are enough."""
    closeness = targets[torch.from_numpy(leaders)] @ targets.T  # [b, Q]
    closeness[torch.from_numpy(instances[leaders][:, None] == instances)] = -2.0
    closeness[:, torch.from_numpy(leaders)] = -2.0
    nearest = closeness.topk(min(1 + followers // len(leaders), closeness.shape[1]), dim=1).indices.numpy()
    chosen = dict.fromkeys(int(at) for at in nearest.T.reshape(-1) if at not in set(leaders.tolist()))
    return np.concatenate([leaders, np.array(list(chosen)[:followers], dtype=np.int64)])
