"""What is told of a version of an index without opening it: what it holds, what it was made of, how it was judged."""

import json
from dataclasses import dataclass
from typing import Any

from recollect.artifacts import Artifact
from recollect.errors import VersionDamaged
from recollect.indexes.building import INDEX_DIRECTORY, VERDICT_FILE
from retrieval.errors import IndexingError
from retrieval.index.quality import Check, Verdict
from retrieval.index.vector_index import IndexFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionFacts:
    """One version, as it was built."""

    index: IndexFacts
    verdict: Verdict
    """How it was judged then."""

    @property
    def factory(self) -> str:
        """The index as FAISS names it."""
        return self.index.spec.factory(self.index.dimension)

    @property
    def spec(self) -> str:
        """The same for a person, and what a search looks through."""
        return self.factory + (f" · {self.index.spec.probes}" if self.index.spec.probes else "")


def holds_an_index(artifact: Artifact) -> bool:
    """Whether it is a version of an index, and not of a gallery."""
    return (artifact.directory / INDEX_DIRECTORY).is_dir()


def facts_of(artifact: Artifact) -> VersionFacts:
    """Of a version whose files nobody has checked; VersionDamaged where they cannot be read."""
    try:
        manifest = json.loads((artifact.directory / INDEX_DIRECTORY / "manifest.json").read_text())
        verdict: dict[str, Any] = json.loads((artifact.directory / VERDICT_FILE).read_text())
        return VersionFacts(
            index=IndexFacts.from_json(manifest["facts"]),
            verdict=Verdict(checks=tuple(Check(**check) for check in verdict["checks"])),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexingError) as error:
        raise VersionDamaged(f"{artifact.directory} cannot be read: {error!r}; use another version") from error
