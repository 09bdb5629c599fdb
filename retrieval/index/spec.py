"""Say what a FAISS index is like: how it finds candidates, and in how many bytes it keeps a vector."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from retrieval.errors import IndexingError

_TRAINING_A_LIST = 64
"""Vectors that k-means sees for each list."""
_FLAT_UP_TO = 20_000
"""Vectors that are compared one by one faster than lists are looked up."""
_MEMORY_BYTES = 4 << 30
_CODES = (64, 32, 16, 8, 4, 2)
"""Parts of a vector that PQ may code, most first."""


class Kind(StrEnum):
    """How candidates are found."""

    FLAT = "flat"
    """All vectors are compared."""
    IVF = "ivf"
    """Vectors lie in lists round centres; the nearest lists are compared."""
    HNSW = "hnsw"
    """A graph of neighbours is walked."""


class Storage(StrEnum):
    """What a vector is kept as."""

    FP32 = "fp32"
    FP16 = "fp16"
    SQ8 = "sq8"
    """A byte a dimension."""
    PQ = "pq"
    """`IndexSpec.codes` codes of `IndexSpec.bits` bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexSpec:
    """One index; similarity is the inner product, so that vectors of unit length are compared by their cosine."""

    kind: Kind = Kind.FLAT
    """How candidates are found."""
    storage: Storage = Storage.FP32
    """What a vector is kept as."""
    lists: int = 0
    """Lists of IVF; 0 for other kinds."""
    links: int = 32
    """Neighbours that HNSW keeps of each vector."""
    codes: int = 32
    """Parts of a vector that PQ codes, each by itself; divides the dimension."""
    bits: int = 8
    """Bits of a PQ code: 8, or 4 to be read by fast-scan."""
    refine: Storage | None = None
    """What vectors are kept as a second time (fp32, fp16 or sq8), to compare the best candidates again; None: not."""
    probes: int = 0
    """Lists that a search looks through unless it says otherwise; for HNSW, how many candidates it keeps in view."""

    def __post_init__(self) -> None:
        if self.kind is Kind.IVF and (self.lists < 1 or not 1 <= self.probes <= self.lists):
            raise IndexingError(
                f"IVF must have at least one list and probe 1 to all of them, got {self.lists} lists and "
                f"{self.probes} probes"
            )
        if self.kind is not Kind.IVF and self.lists:
            raise IndexingError(f"lists must be 0 for kind {self.kind}, got {self.lists}; use kind ivf for lists")
        if self.kind is Kind.HNSW and (self.links < 2 or self.probes < 1):
            raise IndexingError(
                f"HNSW must have at least 2 links and a view of at least 1, got {self.links} and {self.probes}"
            )
        if self.kind is Kind.HNSW and self.storage is Storage.PQ:
            raise IndexingError("HNSW keeps fp32, fp16 or sq8, got pq; use kind ivf for codes")
        if self.codes < 1:
            raise IndexingError(f"codes must be at least 1, got {self.codes}")
        if self.bits not in (4, 8):
            raise IndexingError(f"bits must be 4 or 8, got {self.bits}")
        if self.storage is Storage.PQ and self.bits == 4 and self.kind is not Kind.IVF:
            # FAISS's flat fast-scan index takes no id selector, so that it could not be filtered.
            raise IndexingError(f"codes of 4 bits must be in lists, got kind {self.kind}; use kind ivf, or 8 bits")
        if self.refine is Storage.PQ:
            raise IndexingError("refine must be fp32, fp16 or sq8, got pq; codes are what it makes up for")

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """What `as_json` made; IndexingError where it says something else."""
        try:
            refine = values["refine"]
            return cls(
                kind=Kind(values["kind"]),
                storage=Storage(values["storage"]),
                lists=int(values["lists"]),
                links=int(values["links"]),
                codes=int(values["codes"]),
                bits=int(values["bits"]),
                refine=None if refine is None else Storage(refine),
                probes=int(values["probes"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise IndexingError(f"the spec {values!r} cannot be read: {error!r}; build the index again") from error

    def as_json(self) -> dict[str, str | int | None]:
        """To be kept beside the index."""
        return {
            "kind": self.kind.value,
            "storage": self.storage.value,
            "lists": self.lists,
            "links": self.links,
            "codes": self.codes,
            "bits": self.bits,
            "refine": None if self.refine is None else self.refine.value,
            "probes": self.probes,
        }

    def factory(self, dimension: int) -> str:
        """FAISS's own name of the index. IndexingError where the dimension does not suit it."""
        if self.storage is Storage.PQ and dimension % self.codes:
            raise IndexingError(
                f"codes must divide the dimension {dimension}, got {self.codes}; such as "
                f"{math.gcd(dimension, self.codes)}"
            )
        kept = {
            Storage.FP32: "Flat",
            Storage.FP16: "SQfp16",
            Storage.SQ8: "SQ8",
            # np: codes are not put in an order by which they could be compared as bits, which takes minutes.
            Storage.PQ: f"PQ{self.codes}np" if self.bits == 8 else f"PQ{self.codes}x4fs",
        }
        prefix = {Kind.FLAT: "", Kind.IVF: f"IVF{self.lists},", Kind.HNSW: f"HNSW{self.links},"}[self.kind]
        again = "" if self.refine is None else f",Refine({kept[self.refine]})"
        return f"{prefix}{kept[self.storage]}{again}"

    def bytes_a_vector(self, dimension: int) -> int:
        """Memory of one vector, links and ids included."""
        kept = {
            Storage.FP32: 4 * dimension,
            Storage.FP16: 2 * dimension,
            Storage.SQ8: dimension,
            Storage.PQ: math.ceil(self.codes * self.bits / 8),
        }
        again = 0 if self.refine is None else kept[self.refine]
        return kept[self.storage] + again + {Kind.FLAT: 0, Kind.IVF: 8, Kind.HNSW: 8 * self.links}[self.kind]

    @property
    def mergeable(self) -> bool:
        """Whether parts of it can be built apart and put together: not graphs, nor codes packed for fast-scan."""
        return self.kind is not Kind.HNSW and not (self.storage is Storage.PQ and self.bits == 4)

    @property
    def training_vectors(self) -> int:
        """Vectors that training should see."""
        codes = 2**self.bits * _TRAINING_A_LIST if self.storage is Storage.PQ else 0
        ranges = 256 * _TRAINING_A_LIST if Storage.SQ8 in (self.storage, self.refine) else 0
        return max(self.lists * _TRAINING_A_LIST, codes, ranges)


def choose_spec(
    count: int,
    dimension: int,
    *,
    kind: Kind | None = None,
    storage: Storage | None = None,
    refine: Storage | None = None,
    memory_bytes: int | None = None,
) -> IndexSpec:
    """An index for `count` vectors: all compared where they are few, otherwise in about √count lists.

    `kind` overrules that. Without a `storage`, the least compressed one that fits into `memory_bytes` (4 GiB unless
    told). IndexingError where none does.
    """
    limit = _MEMORY_BYTES if memory_bytes is None else memory_bytes
    # FAISS trains codes of single numbers by a search for the best split, which takes minutes: four numbers a code.
    codes = next((codes for codes in _CODES if dimension % (4 * codes) == 0), 1)
    if kind is None:
        kind = Kind.FLAT if count <= _FLAT_UP_TO else Kind.IVF
    lists = max(1, 2 ** round(math.log2(math.sqrt(count)))) if kind is Kind.IVF else 0
    probes = {Kind.FLAT: 0, Kind.IVF: min(lists, max(4, lists // 32)), Kind.HNSW: 64}[kind]
    tried = [storage] if storage is not None else [each for each in Storage if kind is not Kind.HNSW or each != "pq"]
    for each in tried:
        spec = IndexSpec(kind=kind, storage=each, lists=lists, probes=probes, codes=codes, refine=refine)
        if count * spec.bytes_a_vector(dimension) <= limit:
            return spec
    raise IndexingError(
        f"{count:,} vectors of {dimension} take more than the {limit >> 20} MiB allowed, even as "
        f"{tried[-1]}; allow more memory, or index fewer"
    )
