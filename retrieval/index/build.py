"""Build a FAISS index: train on a sample, add in parts, the same index for the same seed."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from retrieval.errors import IndexingError
from retrieval.index.gpu import train_on_gpus
from retrieval.index.search import Floats, plain_index, set_own_probes
from retrieval.index.spec import IndexSpec, Kind, Storage

_SEEDS = 2**31 - 1
"""FAISS takes seeds below."""
_PART = 65_536
"""Vectors that are added at once."""

Progress = Callable[[int, int], None]
"""Told how many vectors of how many are in the index."""


class Vectors(Protocol):
    """[N, d] of any floating type: an array, memory-mapped perhaps, or what reads its rows from a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N and d."""

    def __getitem__(self, rows: Any, /) -> Any:
        """Some rows, by a slice or an array of their numbers."""


def build_index(spec: IndexSpec, vectors: Vectors, *, seed: int = 0, progress: Progress | None = None) -> Any:
    """The faiss.Index of `vectors`, whose ids are their rows.

    Uses the threads that FAISS was given. IndexingError where there are too few vectors to train on, or one of them is
    not finite.
    """
    index = empty_index(spec, vectors.shape[1])
    train_index(index, spec, vectors, seed)
    add_vectors(index, vectors, progress=progress)
    return index


def empty_index(spec: IndexSpec, dimension: int) -> Any:
    """A faiss.Index of vectors of `dimension` numbers, neither trained nor filled."""
    import faiss

    index = faiss.index_factory(dimension, spec.factory(dimension), faiss.METRIC_INNER_PRODUCT)
    set_own_probes(index, spec.probes)
    return index


def add_vectors(
    index: Any, vectors: Vectors, *, begin: int = 0, end: int | None = None, progress: Progress | None = None
) -> None:
    """Add the `vectors` of rows `begin` … `end` − 1 (the last unless told) in parts.

    Lists take the rows as ids; other kinds count what they hold. IndexingError names the first row that is not finite.
    """
    import faiss

    count = vectors.shape[0] if end is None else end
    for at in range(begin, count, _PART):
        until = min(at + _PART, count)
        part = finite(vectors[at:until], first=at)
        if isinstance(faiss.downcast_index(index), faiss.IndexIVF):
            index.add_with_ids(part, np.arange(at, until))
        else:
            index.add(part)
        if progress is not None:
            progress(until, count)


def finite(vectors: Any, *, first: int = 0) -> Floats:
    """The vectors [n, d] as FAISS takes them; IndexingError names the first row that is not finite, from `first` on."""
    taken: Floats = np.ascontiguousarray(vectors, dtype=np.float32)
    if not np.isfinite(taken).all():
        bad = np.flatnonzero(~np.isfinite(taken).all(axis=1))
        raise IndexingError(f"vectors must be finite, row {first + int(bad[0])} is not; embed it again or leave it out")
    return taken


def train_index(index: Any, spec: IndexSpec, vectors: Vectors, seed: int = 0) -> None:
    """Train on a sample of `vectors`; nothing for an index that needs none. IndexingError where they are too few.

    The centres of lists are found on GPUs where FAISS sees any that can.
    """
    if index.is_trained:
        return
    count = vectors.shape[0]
    least = max(spec.lists, 2**spec.bits if spec.storage is Storage.PQ else 1)
    if count < least:
        raise IndexingError(
            f"{spec.factory(vectors.shape[1])} must be trained on at least {least} vectors, got {count}; use fewer "
            "lists, or kind flat with fp16"
        )
    plain = plain_index(index)
    # FAISS warns on the standard output of centres with few points; the sample is as large as there are vectors.
    if spec.kind is Kind.IVF:
        plain.cp.seed = (seed + 1) % _SEEDS
        plain.cp.min_points_per_centroid = 1
    if hasattr(plain, "pq"):
        plain.pq.cp.seed = (seed + 1) % _SEEDS
        plain.pq.cp.min_points_per_centroid = 1
    wanted = min(count, spec.training_vectors)
    rows = np.sort(np.random.default_rng(seed).choice(count, wanted, replace=False))
    sample = finite(vectors[rows])
    if spec.kind is Kind.IVF:
        train_on_gpus(index, plain, sample)
    if not index.is_trained:
        index.train(sample)
