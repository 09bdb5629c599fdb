"""Search a gallery in this process, with the checks and the answer that the service would give."""

import asyncio
from dataclasses import replace

from recollect.artifacts import GALLERIES, Artifact, ArtifactStore, indexes_of
from recollect.composed.galleries import MadeWith
from recollect.errors import RecollectError
from recollect.gateway.composed import search_response
from recollect.gateway.composed_checks import check_search
from recollect.gateway.errors import InvalidCall
from recollect.serve_config import composed_config
from recollect.settings import Settings
from recollect_api import composed_wire
from recollect_api.composed_records import ComposedResults
from recollect_api.v1 import composed_retrieval_pb2


def gallery_store(settings: Settings) -> ArtifactStore:
    """The galleries of this deployment."""
    return indexes_of(settings, GALLERIES)


def labelled_gallery(settings: Settings, name: str, label: str) -> Artifact:
    """The version of gallery `name` that `label` points at, its hashes checked; ArtifactError says what there is."""
    return gallery_store(settings).resolve(f"{name}@{label}")


def search_here(
    settings: Settings,
    request: composed_retrieval_pb2.ComposedRetrievalSearchRequest,
    *,
    model: str | None,
    label: str,
) -> ComposedResults:
    """The answer to `request` from a gallery of this machine, by `model` or else by the one that made the gallery.

    RecollectError says what is wrong with the request.
    """
    from recollect.composed.service import ComposedService

    try:
        call = check_search(request, timeout_s=None)
        chosen = model or MadeWith.read(labelled_gallery(settings, request.gallery, label).directory).model
        service = ComposedService.load(replace(composed_config(settings, chosen), label=label))

        async def ask() -> ComposedResults:
            try:
                return composed_wire.results(search_response(request, await service.search(call)))
            finally:
                await service.stop()

        return asyncio.run(ask())
    except InvalidCall as error:
        # A description may begin with its field, as that of a box does.
        wrong = "; ".join(
            f"{violation.field} {violation.description.removeprefix(f'{violation.field} ')}"
            for violation in error.violations
        )
        raise RecollectError(wrong) from error
