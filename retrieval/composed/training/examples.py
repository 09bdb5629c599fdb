"""What a step of AdaFocal's training reads: frozen features of references and targets, masks, texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from retrieval.composed.features import FrozenFeatures
from retrieval.composed.geometry import Floats
from retrieval.composed.text import TextRows, TextTokenizer
from retrieval.errors import ComposedError

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """Q queries with their targets."""

    references: FrozenFeatures
    """Features of what is shown of the references."""
    pictures: FrozenFeatures
    """Features of the targets."""
    reference_rows: Positions
    """[Q] rows of `references`."""
    target_rows: Positions
    """[Q] rows of `pictures`."""
    masks: Floats
    """[Q, P] M of each query's box."""
    texts: TextRows
    """Q texts."""
    instances: Positions
    """[Q] number of the instance that a query is about; queries of unknown instance have one each."""

    def __len__(self) -> int:
        return len(self.reference_rows)

    def seen(self, at: Positions) -> tuple[Float[Tensor, "b p c"], Float[Tensor, "b p"], TextRows]:
        """Reference features, masks and texts of the queries at `at`."""
        tokens = torch.from_numpy(np.asarray(self.references.tokens[self.reference_rows[at]])).float()
        return tokens, torch.from_numpy(self.masks[at]), self.texts.take(torch.from_numpy(at))

    def targets(self, at: Positions) -> Float[Tensor, "b p c"]:
        """Features of the targets of the queries at `at`."""
        return torch.from_numpy(np.asarray(self.pictures.tokens[self.target_rows[at]])).float()


def examples(
    *,
    references: FrozenFeatures,
    pictures: FrozenFeatures,
    reference_names: Sequence[str],
    target_names: Sequence[str],
    masks: Floats,
    texts: Sequence[str],
    instances: Sequence[str],
    tokenizer: TextTokenizer,
) -> Examples:
    """Put Q queries together; ComposedError where there are fewer than two, or a picture has no features."""
    if len(texts) < 2:
        raise ComposedError(f"there must be at least two queries to train on, got {len(texts)}")
    numbers = {instance: number for number, instance in enumerate(sorted(set(instances)))}
    return Examples(
        references=references,
        pictures=pictures,
        reference_rows=np.array(references.rows(reference_names), dtype=np.int64),
        target_rows=np.array(pictures.rows(target_names), dtype=np.int64),
        masks=masks,
        texts=tokenizer.rows(texts),
        instances=np.array([numbers[instance] for instance in instances], dtype=np.int64),
    )
