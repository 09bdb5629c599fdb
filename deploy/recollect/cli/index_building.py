"""What the commands of `recollect index` share: who builds, and how an index and what it is worth are shown."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from recollect.cli.console import progress, show_table
from recollect.settings import Settings

if TYPE_CHECKING:
    from recollect.artifacts import Artifact
    from recollect.indexes.building import IndexBuilder
    from retrieval.index.quality import Verdict


@contextmanager
def index_builder(settings: Settings, label: str | None, aim: float, *, on_ray: bool) -> "Iterator[IndexBuilder]":
    """A builder that tells how far it is; with `on_ray` shards are made on the cluster."""
    from recollect.embedded.ray import ray_cluster
    from recollect.indexes.building import IndexBuilder
    from recollect.indexes.on_ray import apply_on_ray

    with progress() as bar:
        tasks: dict[str, Any] = {}

        def told(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=None)
            bar.update(tasks[step], completed=done, total=total)

        def shards(function: Any, given: Any, /) -> Iterator[None]:
            given = list(given)
            if given and on_ray:
                with ray_cluster(settings):
                    yield from apply_on_ray(function, given)

        yield IndexBuilder(
            root=settings.var.resolve() / "indexes",
            thresholds=settings.index_thresholds,
            label=label,
            aim=aim,
            apply=shards,
            threads=os.cpu_count() or 1,
            told=told,
        )


def shown_spec(artifact: "Artifact") -> str:
    """The index as FAISS names it, and what a search looks through."""
    import json

    from recollect.indexes.building import INDEX_DIRECTORY
    from retrieval.index.vector_index import IndexFacts

    manifest = json.loads((artifact.directory / INDEX_DIRECTORY / "manifest.json").read_text())
    facts = IndexFacts.from_json(manifest["facts"])
    return facts.spec.factory(facts.dimension) + (f" · {facts.spec.probes}" if facts.spec.probes else "")


def show_verdict(verdict: "Verdict") -> None:
    """A row a check."""
    rows = [(check.name, "yes" if check.passed else "NO", check.reason) for check in verdict.checks]
    show_table("", ["check", "passed", "why"], rows)
