"""Turn the client's records of composed retrieval into protobuf messages and back."""

from pathlib import Path

from recollect_api.channel import MAX_MESSAGE_BYTES
from recollect_api.classification_wire import Image
from recollect_api.composed_records import (
    ComposedHit,
    ComposedResults,
    Galleries,
    GalleryStatus,
    SearchExplanation,
    SearchWarning,
    SearchWarningKind,
    WordImportance,
)
from recollect_api.metadata_wire import Filters, metadata_filters
from recollect_api.v1 import composed_retrieval_pb2
from recollect_api.wire import made, member

BoxSides = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the reference."""


def search_request(
    text: str,
    *,
    gallery: str,
    image: Image | None,
    image_id: str | None,
    box: BoxSides | None,
    k: int,
    filters: Filters | None,
    explain: bool,
    beta: float | None,
    request_id: str,
) -> composed_retrieval_pb2.ComposedRetrievalSearchRequest:
    """The message of a search, the file read; ValueError or InvalidRequest where it cannot be sent."""
    if (image is None) == (image_id is None):
        raise ValueError("give either image or image_id")
    request = made(
        composed_retrieval_pb2.ComposedRetrievalSearchRequest,
        gallery=gallery,
        box=None if box is None else _box(box),
        text=text,
        k=k,
        filters=metadata_filters(filters or {}),
        explain=explain,
        beta=beta,
        request_id=request_id,
    )
    if image is None:
        request.image_id = image_id or ""
    else:
        request.image = image if isinstance(image, bytes) else Path(image).read_bytes()
    if request.ByteSize() > MAX_MESSAGE_BYTES:
        raise ValueError(
            f"image must be at most {MAX_MESSAGE_BYTES:,} bytes with the rest of the call, got "
            f"{request.ByteSize():,}; send a smaller one"
        )
    return request


def results(response: composed_retrieval_pb2.ComposedRetrievalSearchResponse) -> ComposedResults:
    """The answer to a search."""
    return ComposedResults(
        hits=tuple(map(_hit, response.hits)),
        beta=tuple(response.beta),
        gallery=response.gallery,
        gallery_version=response.gallery_version,
        model_name=response.model_name,
        model_fingerprint=response.model_fingerprint,
        warnings=tuple(
            SearchWarning(kind=member(SearchWarningKind, each.kind), message=each.message) for each in response.warnings
        ),
        explanation=_explanation(response.explanation) if response.HasField("explanation") else None,
        request_id=response.request_id,
    )


def galleries(response: composed_retrieval_pb2.ListGalleriesResponse) -> Galleries:
    """The answer to a list of galleries."""
    return Galleries(
        galleries=tuple(map(_gallery, response.galleries)),
        model_name=response.model_name,
        model_fingerprint=response.model_fingerprint,
    )


def _box(box: BoxSides) -> composed_retrieval_pb2.BoundingBox:
    if len(box) != 4:
        raise ValueError(f"box must be x1, y1, x2, y2 in pixels, got {len(box)} numbers")
    x1, y1, x2, y2 = box
    return composed_retrieval_pb2.BoundingBox(x1=x1, y1=y1, x2=x2, y2=y2)


def _hit(found: composed_retrieval_pb2.ComposedHit) -> ComposedHit:
    return ComposedHit(
        image_id=found.image_id,
        score=found.score,
        metadata=dict(found.metadata),
        matched_vector=found.matched_vector if found.HasField("matched_vector") else None,
    )


def _explanation(found: composed_retrieval_pb2.SearchExplanation) -> SearchExplanation:
    return SearchExplanation(
        base_attention=found.base_attention,
        modulated_attention=found.modulated_attention,
        base_box_share=found.base_box_share,
        modulated_box_share=found.modulated_box_share,
        words=tuple(WordImportance(word=each.word, importance=each.importance) for each in found.words),
    )


def _gallery(found: composed_retrieval_pb2.GalleryStatus) -> GalleryStatus:
    return GalleryStatus(
        name=found.name,
        version=found.version,
        images=found.images,
        vectors=found.vectors,
        dimension=found.dimension,
        storage=found.storage,
        columns=tuple(found.columns),
        model_name=found.model_name,
        model_fingerprint=found.model_fingerprint,
        problem=found.problem,
    )
