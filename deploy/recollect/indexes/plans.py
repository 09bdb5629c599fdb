"""Say what is built of vectors whose number is not known yet: what was asked for, and the rest as it then suits."""

from dataclasses import dataclass

from retrieval.index.building import BuildPlan
from retrieval.index.spec import IndexSpec, Kind, Storage, choose_spec

DEFAULT_MEMORY_BYTES = 4 << 30
"""Memory that a chosen storage may use, where nobody says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecWanted:
    """What was asked for of an index; None leaves it to be chosen."""

    kind: Kind | None = None
    storage: Storage | None = None
    refine: Storage | None = None
    """None: vectors are not kept a second time."""
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    """What a chosen storage may use."""
    normalized: bool = True
    """Whether vectors are compared by their cosine, rather than by their inner product as given."""
    seed: int = 0
    """Of the sample that is trained on."""

    def plan(self) -> BuildPlan:
        """What is built, for any number of vectors of any length."""
        return BuildPlan(choose=self._choose, normalized=self.normalized, seed=self.seed)

    def _choose(self, count: int, dimension: int) -> IndexSpec:
        return choose_spec(
            count,
            dimension,
            kind=self.kind,
            storage=self.storage,
            refine=self.refine,
            memory_bytes=self.memory_bytes,
        )
