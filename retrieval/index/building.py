"""Build an index in steps that are kept: a killed build goes on where it was, and shards are made side by side.

<work>/vectors.npy, ids.parquet    what the source gave, in order of id
<work>/trained.faiss               trained on a sample
<work>/shard-<i>.faiss             a part of the vectors each
<work>/index/                      the index, whole when its manifest is there
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from retrieval.errors import IndexingError
from retrieval.index import steps
from retrieval.index.build import add_vectors, empty_index, train_index
from retrieval.index.files import write_manifest
from retrieval.index.search import Floats, plain_index, refining_index, use_threads
from retrieval.index.sources import VectorSource, ordered_ids, write_ordered
from retrieval.index.spec import IndexSpec, Storage
from retrieval.index.tables import write_table
from retrieval.index.vector_index import IDS_FILE, INDEX_FILE, VECTORS_FILE, IndexFacts, VectorIndex, as_compared, norms

_TRAINED_FILE, _INDEX_DIRECTORY = "trained.faiss", "index"
_SHARD = 250_000
"""Vectors of a shard, at most."""
_BLOCK = 65_536
"""Vectors that are read at once."""
_MOST_HALF = float(np.finfo(np.float16).max)

Told = Callable[[str, int, int], None]
"""Hears which step has done how much of how much."""


class Apply(Protocol):
    """Calls a function with every task: here one after the other, or elsewhere side by side."""

    def __call__(self, function: Callable[[Any], None], tasks: Iterable[Any], /) -> Iterator[None]:
        """A result a task, as they are done."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildPlan:
    """What is made of a source's vectors."""

    choose: Callable[[int, int], IndexSpec]
    """Number of vectors, numbers of each → the index to build."""
    normalized: bool = True
    """Whether vectors are brought to unit length, so that similarity is their cosine."""
    seed: int = 0
    """Of the sample that is trained on."""


def build_vector_index(
    source: VectorSource,
    plan: BuildPlan,
    work: Path,
    *,
    apply: Apply = map,
    threads: int = 1,
    told: Told = lambda _step, _done, _of: None,
) -> VectorIndex:
    """The index of what `source` gives, in `work`/index; the same for the same source and plan, whoever builds it.

    Called again after a kill, it goes on after the last step that is whole. Where `apply` computes elsewhere, `work`
    must be on storage that all see. `threads` train, and add where there are no shards; a graph (HNSW) built by several
    differs from build to build. IndexingError for vectors that cannot be indexed.
    """
    ids, rows = ordered_ids(source)
    count, dimension = len(ids), source.dimension
    spec = plan.choose(count, dimension)
    job = {"source": source.facts, "count": count, "spec": spec.as_json(), "normalized": plan.normalized}
    steps.begin(work, job | {"seed": plan.seed})
    steps.make(work / IDS_FILE, partial(write_table, ids.to_frame()))
    steps.make(work / VECTORS_FILE, partial(write_ordered, source=source, rows=rows, told=partial(told, "reading")))
    vectors = _Given(np.load(work / VECTORS_FILE, mmap_mode="r"), normalized=plan.normalized)
    if not plan.normalized and Storage.FP16 in (spec.storage, spec.refine):
        _require_halves(vectors, ids)
    use_threads(threads)
    told("training", 0, 1)
    steps.make(work / _TRAINED_FILE, partial(_train, spec=spec, vectors=vectors, seed=plan.seed))
    told("training", 1, 1)
    shards = _shards(work, spec, plan, count)
    directory = work / _INDEX_DIRECTORY
    try:
        return VectorIndex.open(directory)
    except IndexingError:
        shutil.rmtree(directory, ignore_errors=True)  # not there yet, or half of it taken away by a killed move
    missing = [shard for shard in shards if not steps.is_whole(shard.path)]
    for done, _ in enumerate(apply(make_shard, missing), start=len(shards) - len(missing) + 1):
        told("adding", done, len(shards))
    _assemble(work, vectors, shards, told)
    lengths = np.concatenate([norms(vectors.as_given(part)) for part in _blocks(count)])
    facts = IndexFacts(
        spec=spec,
        count=count,
        dimension=dimension,
        normalized=plan.normalized,
        norm_mean=float(lengths.mean()),
        norm_std=float(lengths.std()),
        source=source.facts,
        seed=plan.seed,
    )
    files = {"index": INDEX_FILE, "ids": IDS_FILE, "vectors": VECTORS_FILE}
    write_manifest(directory, files, facts.as_json())
    return VectorIndex.open(directory)


def with_probes(index: VectorIndex, probes: int) -> VectorIndex:
    """The same index with another number of lists to look through unless told (HNSW: candidates in view)."""
    manifest, spec = index.manifest, replace(index.facts.spec, probes=probes)
    facts = replace(index.facts, spec=spec).as_json()
    write_manifest(manifest.directory, manifest.roles, facts, before=manifest)
    return VectorIndex.open(manifest.directory)


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows begin … end − 1 of the work's vectors, added to a copy of the trained index."""

    path: Path
    begin: int
    end: int
    normalized: bool


def make_shard(shard: Shard) -> None:
    """Write one shard; may run in a process of its own."""
    use_threads(1)
    work = shard.path.parent
    whole = _read_index(work / _TRAINED_FILE)
    plain = plain_index(whole)  # which lives as long as the whole
    vectors = _Given(np.load(work / VECTORS_FILE, mmap_mode="r"), normalized=shard.normalized)
    add_vectors(plain, vectors, begin=shard.begin, end=shard.end)
    steps.make(shard.path, partial(_write_index, plain))


def _shards(work: Path, spec: IndexSpec, plan: BuildPlan, count: int) -> list[Shard]:
    """The parts to make side by side; none where the kind cannot be merged, or there is too little to share."""
    if not spec.mergeable or count <= _SHARD:
        return []
    bounds = np.linspace(0, count, -(-count // _SHARD) + 1).round().astype(int).tolist()
    return [
        Shard(work / f"shard-{number:04d}.faiss", begin, end, plan.normalized)
        for number, (begin, end) in enumerate(pairwise(bounds))
    ]


def _require_halves(vectors: "_Given", ids: pl.Series) -> None:
    """IndexingError names the first vector of which fp16 cannot hold a number, and would keep infinity instead."""
    for part in _blocks(vectors.shape[0]):
        largest = np.abs(vectors.as_given(part)).max(axis=1)
        beyond = np.flatnonzero(largest > _MOST_HALF)
        if len(beyond):
            row = int(beyond[0])
            raise IndexingError(
                f"vectors must be within ±{_MOST_HALF:,.0f} to be kept as fp16, that of id {ids[part.start + row]!r} "
                f"has {largest[row]:,.0f}; keep fp32 or sq8, or scale all of them down"
            )


def _train(path: Path, *, spec: IndexSpec, vectors: "_Given", seed: int) -> None:
    index = empty_index(spec, vectors.shape[1])
    train_index(index, spec, vectors, seed)
    _write_index(index, path)


def _assemble(work: Path, vectors: "_Given", shards: list[Shard], told: Told) -> None:
    """The files of the index directory: shards behind one another, and the vectors as they are compared."""
    directory = work / _INDEX_DIRECTORY
    directory.mkdir()
    index = _read_index(work / _TRAINED_FILE)
    plain, refining = plain_index(index), refining_index(index)
    if not shards:
        add_vectors(plain, vectors, progress=partial(told, "adding"))
    for number, shard in enumerate(shards, start=1):
        plain.merge_from(_read_index(shard.path), 0)
        told("merging", number, len(shards))
    if refining is not None:
        add_vectors(refining, vectors)
        index.ntotal = plain.ntotal
    _write_index(index, directory / INDEX_FILE)
    header = {"descr": vectors.kept.str, "fortran_order": False, "shape": vectors.shape}
    with (directory / VECTORS_FILE).open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in _blocks(vectors.shape[0]):
            file.write(np.ascontiguousarray(vectors[part], dtype=vectors.kept).data)
    shutil.copyfile(work / IDS_FILE, directory / IDS_FILE)


def _write_index(index: Any, path: Path) -> None:
    import faiss

    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:
        # FAISS tells of a full disk so.
        raise IndexingError(f"{path} cannot be written: {error}; make room and build again") from error


def _read_index(path: Path) -> Any:
    """What a step wrote; its hash first, since FAISS trusts what it reads."""
    import faiss

    if not steps.is_whole(path):
        raise IndexingError(f"{path} is altered since it was written; build again")
    return faiss.read_index(str(path))


def _blocks(count: int) -> Iterator[slice]:
    return (slice(begin, min(begin + _BLOCK, count)) for begin in range(0, count, _BLOCK))


class _Given:
    """Vectors [N, d] of a file as they are compared: given, or brought to unit length and rounded to halves."""

    def __init__(self, vectors: npt.NDArray[np.float32], *, normalized: bool) -> None:
        self._vectors, self._normalized = vectors, normalized
        self.shape: tuple[int, ...] = vectors.shape
        self.kept: np.dtype[Any] = np.dtype("<f2" if normalized else "<f4")

    def __getitem__(self, rows: Any) -> Floats:
        return as_compared(self.as_given(rows), normalized=self._normalized)

    def as_given(self, rows: Any) -> Floats:
        """Some rows as the source gave them."""
        return np.asarray(self._vectors[rows], dtype=np.float32)
