"""Check requests of classification: every field that is wrong is named at once, down to the descriptor."""

import base64
import binascii
from collections import Counter
from dataclasses import dataclass

from recollect.classification.store import is_set_name
from recollect.gateway.errors import InvalidCall, Violation
from recollect.gateway.validation import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Violations, shown
from recollect_api.v1 import classifier_pb2, descriptor_sets_pb2
from retrieval.descriptors.classifier import Scoring
from retrieval.descriptors.descriptor_set import (
    MAX_CLASSES,
    MAX_DESCRIPTOR_LENGTH,
    MAX_DESCRIPTORS,
    MAX_DESCRIPTORS_OF_CLASS,
    MAX_NAME_LENGTH,
    DescribedClass,
    DescriptorSet,
)
from retrieval.descriptors.wording import check_text
from retrieval.errors import DescriptorError

MAX_SET_BYTES = 8 << 20
"""Largest set; it must fit into a response beside its warnings."""
MAX_ETAG_BYTES = 128
DEFAULT_TOP_K = 5
MAX_TOP_K = 100
"""Most classes an image; with their reasons they must fit into a response."""
INLINE_NAME = "inline"
"""Name of the set that the classes of one call are."""
_SCORINGS = {
    classifier_pb2.SCORING_UNSPECIFIED: Scoring.MEAN,
    classifier_pb2.SCORING_MEAN: Scoring.MEAN,
    classifier_pb2.SCORING_RENORMALISED: Scoring.RENORMALISED,
    classifier_pb2.SCORING_MAX: Scoring.MAX,
}
Described = descriptor_sets_pb2.DescriptorSet | classifier_pb2.InlineClasses


@dataclass(frozen=True, kw_only=True, slots=True)
class _Limits:
    """How much a request may describe."""

    classes: int
    descriptors: int
    """Of all classes together."""
    remedy: str


_STORED = _Limits(classes=MAX_CLASSES, descriptors=MAX_DESCRIPTORS, remedy="split the set")
# The caller waits until all of its texts are embedded.
_INLINE = _Limits(
    classes=200,
    descriptors=2_000,
    remedy="store more of them with DescriptorSets.Create and send the name of the set",
)


def check_classify(request: classifier_pb2.ClassifyRequest, *, max_images: int) -> tuple[str | DescriptorSet, Scoring]:
    """The classes and the scoring that `request` asks for; InvalidCall names every field that is wrong."""
    violations = Violations()
    violations.require_request_id(request.request_id)
    if not 1 <= len(request.images) <= max_images:
        violations.add(
            "images", f"must be 1 to {max_images} images, got {len(request.images)}; split them over several calls"
        )
    if request.top_k > MAX_TOP_K:
        violations.add("top_k", f"must be at most {MAX_TOP_K}, got {request.top_k}; 0 means {DEFAULT_TOP_K}")
    scoring = _SCORINGS.get(request.scoring)
    if scoring is None:
        violations.add("scoring", f"must be one of {', '.join(classifier_pb2.Scoring.keys())}, got {request.scoring}")
    kind = request.WhichOneof("classes")
    if kind is None:
        violations.add("descriptor_set", "must be given where inline_classes are not; send the name of a set")
    elif kind == "descriptor_set":
        _require_name(violations, "descriptor_set", request.descriptor_set)
    else:
        _require_classes(violations, "inline_classes.", request.inline_classes, _INLINE)
    if request.contrast_with:
        _require_wording(violations, "contrast_with", "the name", request.contrast_with, MAX_NAME_LENGTH)
    violations.raise_any()
    classes = request.descriptor_set if kind == "descriptor_set" else _built(INLINE_NAME, request.inline_classes)
    return classes, scoring or Scoring.MEAN


def check_create(request: descriptor_sets_pb2.DescriptorSetsCreateRequest) -> DescriptorSet:
    """The set to store; InvalidCall names every field that is wrong."""
    violations = Violations()
    violations.require_request_id(request.request_id)
    _require_set(violations, request.descriptor_set)
    violations.raise_any()
    return _built(request.descriptor_set.name, request.descriptor_set)


def check_update(request: descriptor_sets_pb2.DescriptorSetsUpdateRequest) -> DescriptorSet:
    """The set as it should become; InvalidCall names every field that is wrong."""
    violations = Violations()
    violations.require_request_id(request.request_id)
    violations.require_text(
        "etag",
        request.etag,
        most_bytes=MAX_ETAG_BYTES,
        empty="send the etag of the revision that you have read and changed, as Get returns it",
    )
    _require_set(violations, request.descriptor_set)
    violations.raise_any()
    return _built(request.descriptor_set.name, request.descriptor_set)


def check_get(request: descriptor_sets_pb2.DescriptorSetsGetRequest) -> None:
    """InvalidCall where the name can be none."""
    violations = Violations()
    _require_name(violations, "name", request.name)
    violations.raise_any()


def check_delete(request: descriptor_sets_pb2.DescriptorSetsDeleteRequest) -> None:
    """InvalidCall names every field that is wrong."""
    violations = Violations()
    violations.require_request_id(request.request_id)
    _require_name(violations, "name", request.name)
    violations.require_text("etag", request.etag, most_bytes=MAX_ETAG_BYTES, empty=None)
    violations.raise_any()


def check_list_sets(request: descriptor_sets_pb2.DescriptorSetsListRequest) -> tuple[str, int]:
    """After which name to list, and how many; InvalidCall names every field that is wrong."""
    violations = Violations()
    if not 0 <= request.page_size <= MAX_PAGE_SIZE:
        violations.add(
            "page_size", f"must be 0 to {MAX_PAGE_SIZE}, got {request.page_size}; 0 means {DEFAULT_PAGE_SIZE}"
        )
    after = _name_of(request.page_token)
    if after is None:
        violations.add(
            "page_token",
            f"must be the next_page_token of a List, got {shown(request.page_token)}; leave it out to begin anew",
        )
    violations.raise_any()
    return after or "", request.page_size or DEFAULT_PAGE_SIZE


def page_token(name: str) -> str:
    """The token of the page that begins behind the set `name`."""
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def _name_of(token: str) -> str | None:
    """The name that `token` was made of, "" for the first page; None where it was not made here."""
    try:
        name = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return name if name == "" or is_set_name(name) else None


def _require_set(violations: Violations, descriptors: descriptor_sets_pb2.DescriptorSet) -> None:
    _require_name(violations, "descriptor_set.name", descriptors.name)
    if descriptors.ByteSize() > MAX_SET_BYTES:
        violations.add(
            "descriptor_set", f"must be at most {MAX_SET_BYTES} bytes, got {descriptors.ByteSize()}; split the set"
        )
    else:
        _require_classes(violations, "descriptor_set.", descriptors, _STORED)


def _require_name(violations: Violations, field: str, name: str) -> None:
    if not is_set_name(name):
        violations.add(
            field,
            f"must be 1 to 100 letters, digits, '.', '_' or '-', and start with a letter or digit; got {shown(name)}",
        )


def _require_classes(violations: Violations, at: str, given: Described, limits: _Limits) -> None:
    for field, text in (("prefix", given.prefix), ("suffix", given.suffix)):
        _require_wording(violations, f"{at}{field}", f"the {field}", text, MAX_NAME_LENGTH)
    total = sum(len(described.descriptors) for described in given.classes)
    if not 1 <= len(given.classes) <= limits.classes or total > limits.descriptors:
        violations.add(
            f"{at}classes",
            f"must be 1 to {limits.classes} classes with at most {limits.descriptors} descriptors together, got "
            f"{len(given.classes)} with {total}; {limits.remedy}",
        )
        return
    counts = Counter(described.name for described in given.classes)
    for index, described in enumerate(given.classes):
        _require_class(violations, f"{at}classes[{index}]", described)
        if counts[described.name] > 1 and described.name.strip():
            violations.add(
                f"{at}classes[{index}].name",
                f"must be the name of one class, got {shown(described.name)} {counts[described.name]} times; "
                "join these classes or rename some",
            )


def _require_class(violations: Violations, at: str, described: descriptor_sets_pb2.DescribedClass) -> None:
    if not described.name.strip():
        violations.add(f"{at}.name", f"must not be blank, got {shown(described.name)}; name the class")
    _require_wording(violations, f"{at}.name", "the name", described.name, MAX_NAME_LENGTH)
    if len(described.descriptors) > MAX_DESCRIPTORS_OF_CLASS:
        violations.add(
            f"{at}.descriptors",
            f"must be at most {MAX_DESCRIPTORS_OF_CLASS} descriptors, got {len(described.descriptors)}; keep the most "
            "telling ones",
        )
    for index, descriptor in enumerate(described.descriptors[:MAX_DESCRIPTORS_OF_CLASS]):
        _require_wording(violations, f"{at}.descriptors[{index}]", "the descriptor", descriptor, MAX_DESCRIPTOR_LENGTH)


def _require_wording(violations: Violations, field: str, what: str, text: str, limit: int) -> None:
    try:
        check_text(what, text, limit)
    except DescriptorError as error:
        violations.add(field, str(error))


def _built(name: str, given: Described) -> DescriptorSet:
    try:
        return DescriptorSet(
            name=name,
            classes=tuple(
                DescribedClass(name=each.name, descriptors=tuple(each.descriptors)) for each in given.classes
            ),
            prefix=given.prefix,
            suffix=given.suffix,
        )
    except DescriptorError as error:
        raise InvalidCall([Violation(field="classes", description=str(error))]) from error
