"""Train on one thread, since results then depend on nothing but the code; and a shop of more items than a batch."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig
from recsys.training.config import TrainConfig


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def wide_store(store_of: Callable[..., EventStore]) -> EventStore:
    """2,000 items, of which a batch of two histories holds a few: 20 users of 30 events."""
    generator = np.random.default_rng(3)
    log = {
        f"u{user:02}": [(int(1 + 1_999 * generator.random() ** 3), 1_000 * (at + 1)) for at in range(30)]
        for user in range(20)
    }
    return store_of(log, items=2_000, name="wide")


@pytest.fixture
def wide_config() -> TrainConfig:
    """Small steps on it."""
    protocol = LeaveLastOut(min_events=20, train_first=3, train_last=18, train_stride=1)
    return TrainConfig(samples=SampleConfig(protocol=protocol), attention_dim=4, representation_dim=4, batch_size=12)
