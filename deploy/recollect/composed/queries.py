"""Embed the queries of several calls together, each with a β of its own or the model's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.composed.encoder import ComposedEncoder, Tokens
from retrieval.composed.geometry import Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One query."""

    tokens: Tokens
    """Features [P, C] of its reference."""
    mask: Floats
    """M [P]."""
    text: str
    beta: float | None
    """None: as the model finds right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedQuery:
    """What became of it."""

    vector: Floats
    """[d]."""
    beta: Floats
    """[1], or [V] for a vector modulator."""
    truncated: bool
    """Whether the text was longer than the model takes."""


def embed_together(encoder: ComposedEncoder, queries: Sequence[Query]) -> list[EmbeddedQuery]:
    """Every query, in its order; those that share a β in one pass."""
    found: dict[int, EmbeddedQuery] = {}
    for beta in dict.fromkeys(query.beta for query in queries):
        at = [place for place, query in enumerate(queries) if query.beta == beta]
        embedded = encoder.embed_queries(
            np.stack([queries[place].tokens for place in at]),
            np.stack([queries[place].mask for place in at]),
            [queries[place].text for place in at],
            beta=beta,
        )
        for row, place in enumerate(at):
            found[place] = EmbeddedQuery(
                vector=embedded.vectors[row], beta=embedded.beta[row], truncated=bool(embedded.truncated[row])
            )
    return [found[place] for place in range(len(queries))]
