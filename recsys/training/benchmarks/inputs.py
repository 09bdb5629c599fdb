"""Made samples that cost what real ones cost: full histories of items of skewed popularity."""

from typing import Any

import torch
from torch import Tensor

from recsys.models.batch import Batch
from recsys.models.kinds import has_attention_size, model_kind
from recsys.models.model import Model

K, TARGETS, CATEGORIES, BATCH, L2 = 20, 3, 9_400, 2_046, 1e-6
"""Behaviours kept, targets a history, categories, samples a step, penalty: those of the published recipe on Taobao."""


def categories_of(items: int, generator: torch.Generator) -> Tensor:
    """A category row for each of `items` + 1 item rows."""
    categories = torch.randint(1, CATEGORIES + 1, (items + 1,), generator=generator)
    categories[0] = 0
    return categories


def made_batch(items: int, history: int, generator: torch.Generator) -> Batch:
    """BATCH samples of `history` behaviours each."""
    groups = BATCH // TARGETS
    skewed = torch.rand(groups * (history + TARGETS), generator=generator).pow(3)  # popular rows are small numbers
    ids = (1 + skewed * (items - 1)).to(torch.int32)
    labels = torch.zeros(groups, TARGETS, dtype=torch.uint8)
    labels[:, 0] = 1
    offsets = torch.arange(groups + 1) * history
    return Batch(ids[: groups * history], offsets, ids[groups * history :].view(groups, TARGETS), labels, history)


def made_model(kind: str, items: int, d: int, history: int, categories: Tensor, generator: torch.Generator) -> Model:
    """A new model whose embeddings are all of size `d`."""
    model = model_kind(kind)
    attention: dict[str, Any] = {"attention_dim": d} if has_attention_size(model) else {}
    sizes = model.sizes(
        n_items=items,
        n_categories=CATEGORIES,
        representation_dim=d,
        n_positions=history,
        search_k=K,
        **attention,
    )
    return model(sizes, categories, generator=generator)
