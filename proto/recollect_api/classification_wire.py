"""Turn the client's records of classification into protobuf messages and back."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from recollect_api.channel import MAX_MESSAGE_BYTES
from recollect_api.classification_records import (
    ClassHit,
    Classifications,
    ClassifiedImage,
    Contrast,
    ContrastTerm,
    DescriptorSetPage,
    DescriptorSetRevision,
    DescriptorWarning,
    Reason,
    RefusalReason,
    RefusedImage,
    RevisionState,
    Scoring,
    StoredDescriptorSet,
)
from recollect_api.v1 import classifier_pb2, descriptor_sets_pb2
from recollect_api.wire import made, member

Image = bytes | str | Path
"""Encoded bytes, or the path of a file that has them."""
Classes = Mapping[str, Sequence[str]]
"""Class name → descriptors."""


def classify_request(
    images: Sequence[Image],
    *,
    descriptor_set: str | None,
    classes: Classes | None,
    prefix: str,
    suffix: str,
    top_k: int,
    explain: bool,
    contrast_with: str | None,
    scoring: Scoring,
    request_id: str,
) -> classifier_pb2.ClassifyRequest:
    """The message of a Classify call, files read; ValueError or InvalidRequest where it cannot be sent."""
    if isinstance(images, bytes | str):
        raise ValueError(f"images must be a list of bytes or paths, got {type(images).__name__}; put it into a list")
    if (descriptor_set is None) == (classes is None):
        raise ValueError("give either descriptor_set or classes")
    if classes is None and (prefix or suffix):
        raise ValueError("prefix and suffix frame the texts of classes; a descriptor set has its own")
    request = made(
        classifier_pb2.ClassifyRequest,
        images=[image if isinstance(image, bytes) else Path(image).read_bytes() for image in images],
        top_k=top_k,
        explain=explain,
        contrast_with=contrast_with or "",
        scoring=classifier_pb2.Scoring.ValueType(int(scoring)),
        request_id=request_id,
    )
    if classes is None:
        request.descriptor_set = descriptor_set or ""
    else:
        inline = classifier_pb2.InlineClasses(classes=_described(classes), prefix=prefix, suffix=suffix)
        request.inline_classes.CopyFrom(inline)
    if request.ByteSize() > MAX_MESSAGE_BYTES:
        raise ValueError(
            f"the images of one call must be at most {MAX_MESSAGE_BYTES:,} bytes together, got "
            f"{request.ByteSize():,}; split them over several calls, or send smaller ones"
        )
    return request


def classifications(response: classifier_pb2.ClassifyResponse) -> Classifications:
    """The answer to a Classify call."""
    return Classifications(
        images=tuple(map(_image, response.results)),
        encoder_name=response.encoder_name,
        encoder_fingerprint=response.encoder_fingerprint,
        descriptor_set=response.descriptor_set,
        descriptor_set_etag=response.descriptor_set_etag,
        request_id=response.request_id,
    )


def descriptor_set_message(
    name: str, classes: Classes, *, prefix: str, suffix: str
) -> descriptor_sets_pb2.DescriptorSet:
    """A set as Create and Update send it."""
    return descriptor_sets_pb2.DescriptorSet(name=name, classes=_described(classes), prefix=prefix, suffix=suffix)


def revision(
    name: str,
    found: descriptor_sets_pb2.Revision,
    warnings: Iterable[descriptor_sets_pb2.DescriptorWarning] = (),
) -> DescriptorSetRevision:
    """A revision of the set `name`."""
    return DescriptorSetRevision(
        name=name,
        etag=found.etag,
        state=member(RevisionState, found.state),
        class_count=found.classes,
        text_count=found.texts,
        texts_embedded=found.texts_embedded,
        serving_etag=found.serving_etag,
        shipped=found.shipped,
        warnings=tuple(map(_warning, warnings)),
    )


def stored_descriptor_set(response: descriptor_sets_pb2.DescriptorSetsGetResponse) -> StoredDescriptorSet:
    """A set with its content."""
    content, found = response.descriptor_set, response.revision
    return StoredDescriptorSet(
        name=content.name,
        etag=found.etag,
        state=member(RevisionState, found.state),
        class_count=found.classes,
        text_count=found.texts,
        texts_embedded=found.texts_embedded,
        serving_etag=found.serving_etag,
        shipped=found.shipped,
        warnings=tuple(map(_warning, response.warnings)),
        classes={each.name: tuple(each.descriptors) for each in content.classes},
        prefix=content.prefix,
        suffix=content.suffix,
    )


def descriptor_set_page(response: descriptor_sets_pb2.DescriptorSetsListResponse) -> DescriptorSetPage:
    """One page of sets."""
    return DescriptorSetPage(
        descriptor_sets=tuple(revision(each.name, each.revision) for each in response.descriptor_sets),
        next_page_token=response.next_page_token,
    )


def _described(classes: Classes) -> list[descriptor_sets_pb2.DescribedClass]:
    for name, descriptors in classes.items():
        if isinstance(descriptors, str):
            raise ValueError(f"classes[{name!r}] must be a list of descriptors, got a text; put it into a list")
    return [
        descriptor_sets_pb2.DescribedClass(name=name, descriptors=descriptors) for name, descriptors in classes.items()
    ]


def _image(result: classifier_pb2.ImageResult) -> ClassifiedImage | RefusedImage:
    if result.HasField("refusal"):
        return RefusedImage(reason=member(RefusalReason, result.refusal.reason), message=result.refusal.message)
    found = result.classification
    return ClassifiedImage(
        hits=tuple(
            ClassHit(
                name=hit.class_name,
                score=hit.score,
                probability=hit.probability,
                reasons=tuple(
                    Reason(descriptor=each.descriptor, similarity=each.similarity, contribution=each.contribution)
                    for each in hit.reasons
                ),
            )
            for hit in found.hits
        ),
        contrast=_contrast(found.contrast) if found.HasField("contrast") else None,
    )


def _contrast(found: classifier_pb2.Contrast) -> Contrast:
    return Contrast(
        winner=found.winner,
        rival=found.rival,
        difference=found.difference,
        terms=tuple(
            ContrastTerm(class_name=each.class_name, descriptor=each.descriptor, contribution=each.contribution)
            for each in found.terms
        ),
    )


def _warning(found: descriptor_sets_pb2.DescriptorWarning) -> DescriptorWarning:
    return DescriptorWarning(class_name=found.class_name, descriptor=found.descriptor, message=found.message)
