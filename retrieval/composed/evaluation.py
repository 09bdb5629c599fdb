"""Ask a model every query of a data set and judge its rankings by the data set's own protocol."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from retrieval.composed import metrics as by
from retrieval.composed.datasets.dataset import ComposedDataset, ComposedQuery
from retrieval.composed.encoder import QueryEmbeddings, Tokens
from retrieval.composed.geometry import Floats
from retrieval.errors import ComposedError

_IMAGES = 512
"""Pictures that are embedded, or compared with queries, at once."""
_QUERIES = 128


class Embedder(Protocol):
    """What an evaluation asks of a model; see `retrieval.composed.encoder.ComposedEncoder`."""

    @property
    def vectors(self) -> int:
        """Vectors V of a picture."""
        ...

    @property
    def dimension(self) -> int:
        """Size d of a vector."""
        ...

    def embed_gallery(self, tokens: Tokens) -> Floats:
        """[n, V, d] of unit length."""
        ...

    def embed_queries(
        self, tokens: Tokens, masks: Floats, texts: Sequence[str], *, beta: float | None = None
    ) -> QueryEmbeddings:
        """n queries."""
        ...


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model reached on a split."""

    metrics: dict[str, float]
    """By the data set's protocol, 0 to 1; means over categories where the protocol takes them. Empty where the split
    keeps its targets secret."""
    by_category: dict[str, dict[str, float]]
    by_kind: dict[str, dict[str, float]]
    """For data sets that tell what each text asks for."""
    rankings: tuple[tuple[str, ...], ...]
    """The first 50 pictures for each query, best first, the reference removed where the protocol does."""
    subset_rankings: tuple[tuple[str, ...], ...]
    """CIRR's subsets, best first; empty for other data sets."""
    beta: Floats
    """[Q, 1] or [Q, V]: how strongly each query looked at its box."""
    truncated: int
    """Queries whose text was longer than the model takes."""


def evaluate(
    dataset: ComposedDataset,
    encoder: Embedder,
    *,
    gallery_tokens: Callable[[Sequence[str]], Tokens],
    reference_tokens: Callable[[Sequence[int]], Tokens],
    masks: Callable[[Sequence[int]], Floats],
    beta: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Embed the gallery once, then every query; each picture is compared, its vectors kept in half precision.

    `gallery_tokens` takes names of pictures, `reference_tokens` and `masks` places of queries, so that what is shown of
    a reference may differ from its picture in the gallery. ComposedError where there is no query.
    """
    if not dataset.queries:
        raise ComposedError(f"split {dataset.split!r} of {dataset.name} has no queries to evaluate; give another split")
    names = list(dataset.images)
    vectors = np.empty((len(names), encoder.vectors, encoder.dimension), dtype=np.float16)
    for begin in range(0, len(names), _IMAGES):
        vectors[begin : begin + _IMAGES] = encoder.embed_gallery(gallery_tokens(names[begin : begin + _IMAGES]))
        if progress is not None:
            progress(min(begin + _IMAGES, len(names)), len(names))
    rows = {name: row for row, name in enumerate(names)}
    queries: list[Floats] = []
    betas: list[Floats] = []
    truncated = 0
    for begin in range(0, len(dataset.queries), _QUERIES):
        places = range(begin, min(begin + _QUERIES, len(dataset.queries)))
        texts = [dataset.queries[at].text for at in places]
        embedded = encoder.embed_queries(reference_tokens(places), masks(places), texts, beta=beta)
        queries.append(embedded.vectors)
        betas.append(embedded.beta)
        truncated += int(embedded.truncated.sum())
    asked = np.concatenate(queries)
    rankings = _rankings(dataset, asked, vectors, names, rows)
    subsets = tuple(
        tuple(by.subset_ranking(_scores(asked[at], query.subset, vectors, rows), query.subset))
        for at, query in enumerate(dataset.queries)
        if query.subset
    )
    return Evaluation(
        metrics=_metrics(dataset, rankings, subsets, range(len(dataset.queries))),
        by_category=_split_by(dataset, rankings, subsets, lambda query: query.category),
        by_kind=_split_by(dataset, rankings, subsets, lambda query: query.kind),
        rankings=rankings,
        subset_rankings=subsets,
        beta=np.concatenate(betas),
        truncated=truncated,
    )


def _rankings(
    dataset: ComposedDataset,
    queries: Floats,
    vectors: np.ndarray,
    names: Sequence[str],
    rows: dict[str, int],
) -> tuple[tuple[str, ...], ...]:
    found: dict[int, tuple[str, ...]] = {}
    for category in dict.fromkeys(query.category for query in dataset.queries):
        gallery = np.array([rows[name] for name in dataset.gallery_of(category)])
        own = [at for at, query in enumerate(dataset.queries) if query.category == category]
        for begin in range(0, len(own), _QUERIES):
            places = own[begin : begin + _QUERIES]
            best = _best(queries[places], vectors, gallery)
            for at, ranked in zip(places, best, strict=True):
                query = dataset.queries[at]
                removed = query.reference if dataset.remove_reference else None
                kept = [name for name in (names[row] for row in ranked) if name != removed]
                found[at] = tuple(kept[: by.DEEPEST])
    return tuple(found[at] for at in range(len(dataset.queries)))


def _best(queries: Floats, vectors: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Rows of the best pictures [n, k] of `gallery` for each query, of equal ones the first, one more than are kept."""
    asked = torch.from_numpy(queries)
    scores = []
    for begin in range(0, len(gallery), _IMAGES):
        block = torch.from_numpy(vectors[gallery[begin : begin + _IMAGES]].astype(np.float32))  # [g, V, d]
        scores.append(torch.einsum("nd,gvd->ngv", asked, block).amax(dim=-1))
    every = torch.cat(scores, dim=1)  # [n, G]
    order = every.argsort(dim=1, descending=True, stable=True)[:, : by.DEEPEST + 1]
    ranked: np.ndarray = gallery[order.numpy()]
    return ranked


def _scores(query: Floats, names: Sequence[str], vectors: np.ndarray, rows: dict[str, int]) -> dict[str, float]:
    similarities = (vectors[[rows[name] for name in names]].astype(np.float32) @ query).max(axis=1)
    return dict(zip(names, similarities.tolist(), strict=True))


def _split_by(
    dataset: ComposedDataset,
    rankings: Sequence[by.Ranking],
    subsets: Sequence[by.Ranking],
    key: Callable[[ComposedQuery], str],
) -> dict[str, dict[str, float]]:
    groups: dict[str, list[int]] = {}
    for at, query in enumerate(dataset.queries):
        if key(query):
            groups.setdefault(key(query), []).append(at)
    return {name: _metrics(dataset, rankings, subsets, places) for name, places in sorted(groups.items())}


def _metrics(
    dataset: ComposedDataset, rankings: Sequence[by.Ranking], subsets: Sequence[by.Ranking], places: Sequence[int]
) -> dict[str, float]:
    """The protocol's figures for the queries at `places`; of several categories the mean of each one's."""
    queries = [dataset.queries[at] for at in places]
    if any(query.target is None for query in queries):
        return {}
    categories = [query.category for query in queries]
    if len(set(categories)) > 1:
        return by.mean_over_categories(
            categories, lambda own: _metrics(dataset, rankings, subsets, [places[at] for at in own.tolist()])
        )
    ranked = [rankings[at] for at in places]
    targets = [str(query.target) for query in queries]
    if dataset.name == "circo":
        right = [query.accepted or {str(query.target)} for query in queries]
        return {f"map@{k}": by.mean_average_precision_at(ranked, right, k) for k in by.CIRCO_CUTS}
    if dataset.name == "fashioniq":
        return {f"r@{k}": by.recall_at(ranked, targets, k) for k in by.FASHIONIQ_RECALLS}
    figures = {f"r@{k}": by.recall_at(ranked, targets, k) for k in by.OACIRR_RECALLS}
    if dataset.instances:
        wanted = [dataset.instances.get(target, target) for target in targets]
        for k in by.OACIRR_INSTANCE_RECALLS:
            figures[f"r_id@{k}"] = by.instance_recall_at(ranked, wanted, dataset.instances, k)
    if all(query.subset for query in queries):
        own_subsets = [subsets[at] for at in places]
        for k in by.CIRR_SUBSET_RECALLS:
            figures[f"r_subset@{k}"] = by.recall_at(own_subsets, targets, k)
        figures["mean"] = (figures["r@5"] + figures["r_subset@1"]) / 2
    return figures
