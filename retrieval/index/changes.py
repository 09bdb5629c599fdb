"""What was added to an index and deleted from it since its base was built, and what the next build must know of that.

added.parquet     id and vector as given: found beside the base, and instead of what it has of the same ids
removed.parquet   ids that were deleted and not added again since: never found, and left out of builds
kept.parquet      id and vector as given: part of the base, whose source lacked them, so that the next build keeps them
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from retrieval.errors import IndexingError
from retrieval.index.files import Manifest
from retrieval.index.tables import ID_COLUMN, VectorTable, among, write_table

FILES = {"added": "added.parquet", "removed": "removed.parquet", "kept": "kept.parquet"}
"""Role in the manifest → file; a role that would hold nothing is left out."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Of one index; ids are of its own type. No id is both added and removed."""

    added: VectorTable
    """Ids ascending."""
    removed: pl.Series
    """Ascending."""
    kept: VectorTable
    """Ids ascending; some may have been removed, or added anew, since."""

    @classmethod
    def none(cls, id_type: pl.DataType, dimension: int) -> "Changes":
        """Of an index that nothing was ever added to or deleted from."""
        nothing = VectorTable.empty(id_type, dimension)
        return cls(nothing, nothing.ids, nothing)

    @classmethod
    def read(cls, manifest: Manifest, id_type: pl.DataType, dimension: int) -> "Changes":
        """What `write` wrote; IndexingError where it cannot be read or is of another type or dimension."""
        nothing = VectorTable.empty(id_type, dimension)
        try:
            added, kept = (
                VectorTable.read(manifest.path(role), dimension) if role in manifest.roles else nothing
                for role in ("added", "kept")
            )
            removed = nothing.ids
            if "removed" in manifest.roles:
                removed = pl.read_parquet(manifest.path("removed"), glob=False)[ID_COLUMN]
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            raise IndexingError(f"the changes in {manifest.directory} cannot be read: {error}; restore them") from error
        if {added.ids.dtype, kept.ids.dtype, removed.dtype} != {id_type}:
            raise IndexingError(f"the changes in {manifest.directory} must have ids of {id_type}; restore them")
        return cls(added, removed, kept)

    def write(self, directory: Path) -> dict[str, str]:
        """Write what there is into `directory`; role → file."""
        parts: dict[str, tuple[int, Callable[[Path], object]]] = {
            "added": (len(self.added), self.added.write),
            "removed": (len(self.removed), partial(write_table, self.removed.alias(ID_COLUMN).to_frame())),
            "kept": (len(self.kept), self.kept.write),
        }
        roles = {role: FILES[role] for role, (count, _) in parts.items() if count}
        for role, file in roles.items():
            parts[role][1](directory / file)
        return roles

    def with_added(self, new: VectorTable) -> "Changes":
        """And `new`, whose ids are distinct: of ids that were added before the new vector counts."""
        added = self.added.without(new.ids).joined(new)
        return replace(self, added=added, removed=self.removed.filter(pl.Series(~among(self.removed, new.ids))))

    def with_removed(self, ids: pl.Series) -> "Changes":
        """And without `ids`."""
        removed = pl.concat([self.removed, ids.alias(ID_COLUMN)]).unique().sort()
        return replace(self, added=self.added.without(ids), removed=removed)

    @property
    def wanted(self) -> VectorTable:
        """What was ever added and is there still though the source of the base lacked it, or had another vector."""
        return self.kept.without(self.removed).without(self.added.ids).joined(self.added)

    @property
    def digest(self) -> str:
        """Hex digest of what a build takes from here."""
        said = [self.removed.to_list(), self.wanted.ids.to_list()]
        return hashlib.sha256(json.dumps(said).encode() + self.wanted.vectors.tobytes()).hexdigest()

    def __bool__(self) -> bool:
        return bool(len(self.added) or len(self.removed) or len(self.kept))


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseFacts:
    """What an index that was changed since says of its base."""

    version: str
    """Which version was built whole."""
    count: int
    """N, its vectors, those among them that are not found any more."""
    norm_mean: float
    """Of its vectors as given."""
    norm_std: float

    @classmethod
    def from_json(cls, values: dict[str, Any] | None) -> "BaseFacts | None":
        """What `asdict` made, or None; TypeError where something is missing."""
        return None if values is None else cls(**values)
