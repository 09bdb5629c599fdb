"""What a build does with increments: the source wins, what was deleted stays out, what it lacks is kept or refused.

Ids that were deleted stay out of every build, whatever its source has, until they are added again. Vectors that were
added are kept by every build until they are deleted or a source has their ids: where what embedded the source embedded
them too. Of a source and an increment with the same id the source wins, since its vectors go together; from then on it
is the source's, and goes when a later source lacks it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from recollect.errors import RecollectError
from retrieval.index.changes import Changes
from retrieval.index.increments import lacking, merged
from retrieval.index.sources import VectorSource
from retrieval.index.tables import VectorTable, among
from retrieval.index.vector_index import IndexFacts

MAKER = "maker"
"""The fact of a source that names what embedded its vectors, where it is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MergePolicy:
    """What a build does with increments unless it does as told above."""

    drop_added: bool = False
    """Whether vectors that were added are dropped where the source lacks their ids."""
    restore_deleted: bool = False
    """Whether ids that were deleted come back where the source has them."""


MERGE_ALL = MergePolicy()


@dataclass(frozen=True, kw_only=True, slots=True)
class Merging:
    """What is built, and what of it is not as its source has it."""

    source: VectorSource
    changes: Changes
    """`removed` and `kept` go on to the new version."""
    left_out: int
    """Ids of the source that stay out because they were deleted."""
    dropped: pl.Series
    """Ids that were added and are not kept."""


def merging(source: VectorSource, policy: MergePolicy, live: tuple[IndexFacts, Changes] | None) -> Merging:
    """Merge what was changed in the index that answers, by its facts and changes, into `source`.

    RecollectError where vectors were added that the source lacks, and something else embedded it.
    """
    id_type = source.ids.dtype
    nothing = Changes.none(id_type, source.dimension)
    if live is None:
        return Merging(source=source, changes=nothing, left_out=0, dropped=nothing.removed)
    facts, changes = live
    lacks, removed = lacking(source, changes), changes.removed
    if policy.restore_deleted or removed.dtype != id_type:
        removed = nothing.removed
    kept, dropped = lacks, lacks.ids.clear()
    if policy.drop_added:
        kept, dropped = nothing.kept, lacks.ids
    elif len(lacks):
        _require_one_maker(source, facts, lacks)
    carried = replace(nothing, removed=removed, kept=kept)
    return Merging(
        source=merged(source, carried),
        changes=carried,
        left_out=int(among(source.ids, removed).sum()),
        dropped=dropped,
    )


def maker_of(facts: Mapping[str, Any]) -> str | None:
    """What embedded a source, by its facts; None where nobody told."""
    maker = facts.get(MAKER) or facts.get("model")
    return None if maker is None else str(maker)


def _require_one_maker(source: VectorSource, facts: IndexFacts, lacks: VectorTable) -> None:
    ours, theirs = maker_of(source.facts), maker_of(facts.source)
    if source.dimension == facts.dimension and ours == theirs and source.ids.dtype == lacks.ids.dtype:
        return
    shown = ", ".join(repr(each) for each in lacks.ids.head(3))
    raise RecollectError(
        f"{len(lacks):,} vectors that were added since, such as {shown}, are not in the source and cannot be kept "
        f"beside it: they go with {_told(theirs, facts.dimension, lacks.ids.dtype)}, it has "
        f"{_told(ours, source.dimension, source.ids.dtype)}. Give the source these ids, or build with --drop-added and "
        "add them anew"
    )


def _told(maker: str | None, dimension: int, id_type: pl.DataType) -> str:
    kind = "names" if id_type == pl.String else "numbers"
    return f"vectors of {dimension} of {maker or 'files'}, whose ids are {kind}"
