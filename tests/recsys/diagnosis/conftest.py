"""Models whose attention was set by hand, and samples and counts that were written down."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from recsys.data.event_store import EventStore
from recsys.data.samples import SampleSet
from recsys.diagnosis.relevance import Relevance, RelevanceConfig
from recsys.models.dare import Dare, DareConfig
from recsys.models.kinds import build_model
from recsys.models.twin import Twin

K = 4


@pytest.fixture
def by_category() -> Callable[[EventStore], Dare]:
    """A DARE that looks at behaviours of the target's category, then at the latest."""

    def make(store: EventStore) -> Dare:
        sizes = DareConfig(
            n_items=store.catalogue.n_items,
            n_categories=store.catalogue.n_categories,
            attention_dim=4,
            representation_dim=4,
            n_positions=100,
            search_k=K,
        )
        model = build_model(Dare, sizes, store.catalogue, seed=0)
        assert isinstance(model, Dare)
        with torch.no_grad():
            model.attention.item.weight.zero_()
            model.attention.category.weight.copy_(30 * torch.eye(4))
            model.attention.category.weight[0] = 0
            prefer_the_latest(model.attention.position.weight)
        return model.eval()

    return make


@pytest.fixture
def by_recency() -> Callable[[EventStore], Twin]:
    """A TWIN that looks at the latest behaviours, whatever they are."""

    def make(store: EventStore) -> Twin:
        sizes = Twin.sizes(
            n_items=store.catalogue.n_items,
            n_categories=store.catalogue.n_categories,
            representation_dim=4,
            n_positions=100,
            search_k=K,
        )
        model = build_model(Twin, sizes, store.catalogue, seed=0)
        assert isinstance(model, Twin)
        with torch.no_grad():
            model.shared.item.weight.mul_(1e-3)
            model.shared.category.weight.mul_(1e-3)
            prefer_the_latest(model.shared.position.weight)
        return model.eval()

    return make


def prefer_the_latest(positions: torch.Tensor) -> None:
    """Let the score fall by a little with every position."""
    positions.zero_()
    positions[0, 0] = 1
    positions[1:, 0] = -torch.arange(1.0, len(positions))


@pytest.fixture(scope="session")
def samples() -> Callable[..., SampleSet]:
    """`samples((user, begin, end, targets), …)`: the first target of each group is the positive."""
    return samples_of


@pytest.fixture(scope="session")
def relevance() -> Callable[..., Relevance]:
    """`relevance(counts, categories, bins=…)`: counts [R, C + 1, P, 2] as if both halves of the users had them."""
    return relevance_of


def samples_of(*groups: tuple[int, int, int, list[int]]) -> SampleSet:
    targets = np.array([group[3] for group in groups], dtype=np.int32)
    labels = np.zeros(targets.shape, dtype=np.uint8)
    labels[:, 0] = 1
    users, begins, ends = (np.array([group[at] for group in groups]) for at in range(3))
    return SampleSet(
        users=users.astype(np.int32),
        begins=begins.astype(np.int64),
        ends=ends.astype(np.int64),
        times=np.zeros(len(groups), dtype=np.int64),
        targets=targets,
        labels=labels,
    )


def relevance_of(counts: npt.ArrayLike, categories: list[int], *, bins: tuple[int, ...] = (1,)) -> Relevance:
    array = np.array(counts, dtype=np.int64)
    place = np.full(array.shape[1], -1, dtype=np.int64)
    place[categories] = np.arange(len(categories))
    return Relevance(
        config=RelevanceConfig(bins=bins, min_samples=1, min_count=1),
        categories=np.array(categories, dtype=np.int64),
        place=place,
        samples=array.sum(axis=(1, 2, 3)),
        halves=(array, array),
    )
