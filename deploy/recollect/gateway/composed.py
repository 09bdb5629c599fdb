"""Answer ComposedRetrieval: check the request, have it searched for, put the hits and their reasons on the wire."""

import grpc.aio  # type: ignore[import-untyped]

from recollect.composed.calls import ComposedBackend, FoundPicture, GalleryStanding, SearchAnswer, SearchReasons
from recollect.gateway.composed_checks import check_search
from recollect.gateway.errors import ComposedNotServed
from recollect.gateway.workers import require_time
from recollect_api.v1 import composed_retrieval_pb2, composed_retrieval_pb2_grpc


class ComposedRetrievalServicer(composed_retrieval_pb2_grpc.ComposedRetrievalServicer):
    """Searches by `backend`; without one, every call says how to get one."""

    def __init__(self, backend: ComposedBackend | None) -> None:
        self._backend = backend

    async def Search(  # noqa: N802 - gRPC's name, here and below
        self, request: composed_retrieval_pb2.ComposedRetrievalSearchRequest, context: grpc.aio.ServicerContext
    ) -> composed_retrieval_pb2.ComposedRetrievalSearchResponse:
        """Search one gallery."""
        backend = self._required()
        call = check_search(request, timeout_s=context.time_remaining())
        require_time(context)
        return search_response(request, await backend.search(call))

    async def ListGalleries(  # noqa: N802
        self,
        request: composed_retrieval_pb2.ListGalleriesRequest,  # noqa: ARG002 - it has no fields
        context: grpc.aio.ServicerContext,
    ) -> composed_retrieval_pb2.ListGalleriesResponse:
        """All galleries."""
        backend = self._required()
        require_time(context)
        found = await backend.galleries()
        return composed_retrieval_pb2.ListGalleriesResponse(
            galleries=map(_status, found.galleries),
            model_name=found.model_name,
            model_fingerprint=found.model_fingerprint,
        )

    def _required(self) -> ComposedBackend:
        if self._backend is None:
            raise ComposedNotServed(
                "this service was started without composed retrieval; start it with `recollect serve --composed MODEL` "
                "(RECOLLECT_COMPOSED_MODEL)"
            )
        return self._backend


def search_response(
    request: composed_retrieval_pb2.ComposedRetrievalSearchRequest, answer: SearchAnswer
) -> composed_retrieval_pb2.ComposedRetrievalSearchResponse:
    """`answer` as it crosses the wire."""
    return composed_retrieval_pb2.ComposedRetrievalSearchResponse(
        hits=[_hit(hit, explain=request.explain) for hit in answer.hits],
        beta=answer.beta,
        gallery=request.gallery,
        gallery_version=answer.version,
        model_name=answer.model_name,
        model_fingerprint=answer.model_fingerprint,
        warnings=[
            composed_retrieval_pb2.SearchWarning(
                kind=composed_retrieval_pb2.SearchWarningKind.Value(f"SEARCH_WARNING_KIND_{note.kind.name}"),
                message=note.message,
            )
            for note in answer.notes
        ],
        explanation=None if answer.reasons is None else _explanation(answer.reasons),
        request_id=request.request_id,
    )


def _hit(hit: FoundPicture, *, explain: bool) -> composed_retrieval_pb2.ComposedHit:
    return composed_retrieval_pb2.ComposedHit(
        image_id=hit.image_id,
        score=hit.score,
        metadata=hit.metadata,
        matched_vector=hit.vector if explain else None,
    )


def _explanation(reasons: SearchReasons) -> composed_retrieval_pb2.SearchExplanation:
    return composed_retrieval_pb2.SearchExplanation(
        base_attention=reasons.base_attention,
        modulated_attention=reasons.modulated_attention,
        base_box_share=reasons.base_box_share,
        modulated_box_share=reasons.modulated_box_share,
        words=[
            composed_retrieval_pb2.WordImportance(word=word, importance=importance)
            for word, importance in reasons.words
        ],
    )


def _status(standing: GalleryStanding) -> composed_retrieval_pb2.GalleryStatus:
    return composed_retrieval_pb2.GalleryStatus(
        name=standing.name,
        version=standing.version,
        images=standing.images,
        vectors=standing.vectors,
        dimension=standing.dimension,
        storage=standing.storage,
        columns=standing.columns,
        model_name=standing.model_name,
        model_fingerprint=standing.model_fingerprint,
        problem=standing.problem,
    )
