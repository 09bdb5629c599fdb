"""Answer Classifier: check the request, have it classified, put the results and their reasons on the wire."""

import asyncio

import grpc.aio  # type: ignore[import-untyped]

from recollect.classification.calls import ClassificationBackend, ClassifyAnswer, ClassifyCall, RefusedImage
from recollect.gateway.classification_checks import DEFAULT_TOP_K, check_classify
from recollect.gateway.errors import NotServed
from recollect.gateway.workers import require_time
from recollect_api.v1 import classifier_pb2, classifier_pb2_grpc
from retrieval.descriptors.classifier import ClassHit, Classification, Contrast


class ClassifierServicer(classifier_pb2_grpc.ClassifierServicer):
    """Classifies by `backend`; without one, every call says how to get one."""

    def __init__(self, backend: ClassificationBackend | None, *, max_images: int) -> None:
        self._backend = backend
        self._max_images = max_images

    async def Classify(  # noqa: N802 - gRPC's name
        self, request: classifier_pb2.ClassifyRequest, context: grpc.aio.ServicerContext
    ) -> classifier_pb2.ClassifyResponse:
        """Classify every image of `request`, in their order."""
        backend = required(self._backend)
        classes, scoring = check_classify(request, max_images=self._max_images)
        require_time(context)
        answer = await backend.classify(
            ClassifyCall(
                images=tuple(request.images),
                classes=classes,
                top_k=request.top_k or DEFAULT_TOP_K,
                explain=request.explain,
                contrast_with=request.contrast_with or None,
                scoring=scoring,
                timeout_s=context.time_remaining(),
            )
        )
        # A hundred explained classes of each image take tens of milliseconds.
        results = await asyncio.to_thread(_results, answer) if request.explain else _results(answer)
        return classifier_pb2.ClassifyResponse(
            results=results,
            encoder_name=answer.encoder_name,
            encoder_fingerprint=answer.encoder_fingerprint,
            descriptor_set=request.descriptor_set,
            descriptor_set_etag=answer.etag,
            request_id=request.request_id,
        )


def required(backend: ClassificationBackend | None) -> ClassificationBackend:
    """`backend`, or NotServed where the service was started without one."""
    if backend is None:
        raise NotServed(
            "this service was started without classification; start it without --no-classification "
            "(RECOLLECT_CLASSIFICATION=true)"
        )
    return backend


def _results(answer: ClassifyAnswer) -> list[classifier_pb2.ImageResult]:
    return list(map(_result, answer.images))


def _result(image: Classification | RefusedImage) -> classifier_pb2.ImageResult:
    if isinstance(image, RefusedImage):
        reason = classifier_pb2.RefusalReason.Value(f"REFUSAL_REASON_{image.reason.name}")
        return classifier_pb2.ImageResult(refusal=classifier_pb2.Refusal(reason=reason, message=image.message))
    return classifier_pb2.ImageResult(
        classification=classifier_pb2.Classification(
            hits=map(_hit, image.hits), contrast=None if image.contrast is None else _contrast(image.contrast)
        )
    )


def _hit(hit: ClassHit) -> classifier_pb2.ClassHit:
    return classifier_pb2.ClassHit(
        class_name=hit.name,
        score=hit.score,
        probability=hit.probability,
        reasons=[
            classifier_pb2.Reason(
                descriptor=reason.descriptor, similarity=reason.similarity, contribution=reason.contribution
            )
            for reason in hit.reasons
        ],
    )


def _contrast(contrast: Contrast) -> classifier_pb2.Contrast:
    return classifier_pb2.Contrast(
        winner=contrast.winner,
        rival=contrast.rival,
        difference=contrast.difference,
        terms=[
            classifier_pb2.ContrastTerm(
                class_name=term.class_name, descriptor=term.descriptor, contribution=term.contribution
            )
            for term in contrast.terms
        ],
    )
