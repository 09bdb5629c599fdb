"""Batches of histories written down as lists."""

from collections.abc import Callable

import pytest
import torch

from recsys.models.batch import Batch


@pytest.fixture(scope="session")
def ragged() -> Callable[[list[list[int]], list[list[int]]], Batch]:
    """`ragged(histories, targets)`: the first target of each history is the positive."""

    def batch(histories: list[list[int]], targets: list[list[int]]) -> Batch:
        labels = torch.zeros(len(targets), len(targets[0]), dtype=torch.uint8)
        labels[:, 0] = 1
        return Batch(
            torch.tensor([row for history in histories for row in history], dtype=torch.int32),
            torch.tensor([0, *(len(history) for history in histories)]).cumsum(0),
            torch.tensor(targets, dtype=torch.int32),
            labels,
            max(map(len, histories), default=0),
        )

    return batch
