"""What a call is refused with; how that crosses the wire is in `recollect.gateway.statuses`.

RecollectError
└── CallError               a call that ends without an answer; carries the gRPC code, a constant reason and metadata
    ├── (those of admin calls are in `recollect.admin.errors`)
    ├── InvalidCall         the request is wrong; names every field (INVALID_ARGUMENT)
    │   └── ImageNotRead    its picture is refused; metadata `refusal` says why
    ├── NotFound            no descriptor set has that name (NOT_FOUND)
    ├── GalleryNotFound     no gallery has that name (NOT_FOUND)
    ├── PictureNotFound     no picture of the gallery has that id (NOT_FOUND)
    ├── GalleryUnusable     the gallery cannot be searched as asked (FAILED_PRECONDITION)
    ├── AlreadyExists       another descriptor set has that name (ALREADY_EXISTS)
    ├── Conflict            the descriptor set has changed since it was read (ABORTED)
    ├── ShippedSet          the descriptor set comes with the service (FAILED_PRECONDITION)
    ├── StoreDown           the history store cannot be reached (UNAVAILABLE)
    ├── SetNotReady         the descriptor set has never been embedded as a whole (UNAVAILABLE)
    ├── ClassificationDown  no encoder answers (UNAVAILABLE)
    ├── ComposedDown        no model of composed retrieval answers (UNAVAILABLE)
    ├── ArtifactsDown       the place where machines share versions cannot be used (UNAVAILABLE)
    ├── TooManyWaiting      the encoder has enough to do (RESOURCE_EXHAUSTED)
    ├── Overloaded          its turn would come too late (RESOURCE_EXHAUSTED)
    ├── ScoreNotServed      the service was started without a recommender (UNIMPLEMENTED)
    ├── NotServed           the service was started without classification (UNIMPLEMENTED)
    ├── ComposedNotServed   the service was started without composed retrieval (UNIMPLEMENTED)
    ├── CatalogueNotServed  the call filters by a catalogue and the service has none (FAILED_PRECONDITION)
    ├── DeadlinePassed      nobody waits for the answer any more (DEADLINE_EXCEEDED)
    ├── Unauthorised        no token, or none that is known (UNAUTHENTICATED)
    ├── TokenExpired        a token whose time is over (UNAUTHENTICATED)
    ├── ScopeMissing        a token that does not allow the method (PERMISSION_DENIED)
    ├── RateExceeded        a token that is used too often (RESOURCE_EXHAUSTED)
    └── Incident            an error that nobody foresaw (INTERNAL)
"""

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import grpc  # type: ignore[import-untyped]

from recollect.errors import RecollectError, RemoteError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """One field that is wrong."""

    field: str
    """Path of the field, such as `item_ids[3]`."""
    description: str
    """Expected, actual and remedy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Precondition:
    """One thing that is not as a call needs it."""

    kind: str
    """Which of them, as a constant of the service."""
    subject: str
    """Of what."""
    description: str
    """Expected, actual and remedy."""


class CallError(RecollectError):
    """A call ends without an answer."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = "INTERNAL_ERROR"
    retry_after_s: float | None = None
    """When repeating the call makes sense, where that is known."""
    preconditions: Sequence[Precondition] = ()
    """What is not as the call needs it, where several things may not be."""

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata

    def __reduce__(self) -> tuple[Any, ...]:
        # Refusals travel from the process of the encoder to the gateway's.
        return partial(type(self), self.message, **self.metadata), ()


class InvalidCall(CallError):  # noqa: N818 - named as the statuses are
    """The request is wrong; `violations` names every field."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"

    def __init__(self, violations: Sequence[Violation]) -> None:
        noun = "field is" if len(violations) == 1 else "fields are"
        super().__init__(f"{len(violations)} {noun} wrong")
        self.violations = violations

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.violations,)


class ImageNotRead(InvalidCall):
    """The picture of the request is refused; metadata `refusal` is the name of the RefusalReason."""

    reason = "IMAGE_REFUSED"

    def __init__(self, refusal: str, message: str) -> None:
        super().__init__([Violation(field="image", description=message)])
        self.metadata = {"refusal": refusal}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.metadata["refusal"], self.violations[0].description)


class NotFound(CallError):  # noqa: N818
    """No descriptor set has that name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "SET_NOT_FOUND"


class GalleryNotFound(CallError):  # noqa: N818
    """No gallery has that name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "GALLERY_NOT_FOUND"


class PictureNotFound(CallError):  # noqa: N818
    """No picture of the gallery has that id."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "PICTURE_NOT_FOUND"


class GalleryUnusable(CallError):  # noqa: N818
    """The gallery cannot be searched as asked; the message says what would help."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "GALLERY_UNUSABLE"


class AlreadyExists(CallError):  # noqa: N818
    """Another descriptor set has that name."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "SET_EXISTS"


class Conflict(CallError):  # noqa: N818
    """The descriptor set has changed since it was read; metadata `etag` is its revision now."""

    code = grpc.StatusCode.ABORTED
    reason = "ETAG_MISMATCH"


class ShippedSet(CallError):  # noqa: N818
    """The descriptor set comes with the service."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "SET_SHIPPED"


class StoreDown(CallError):  # noqa: N818
    """The history store cannot be reached; nothing was changed."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "HISTORY_UNAVAILABLE"


class SetNotReady(CallError):  # noqa: N818
    """The descriptor set has never been embedded as a whole; the message says how far that is."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "SET_PREPARING"
    retry_after_s = 1.0


class ClassificationDown(CallError):  # noqa: N818
    """No encoder answers; nothing was changed that was not answered for."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "CLASSIFICATION_UNAVAILABLE"


class ComposedDown(CallError):  # noqa: N818
    """No model of composed retrieval answers."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "COMPOSED_RETRIEVAL_UNAVAILABLE"


class ArtifactsDown(CallError):  # noqa: N818
    """The place where machines share versions does not answer, or holds something damaged."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "ARTIFACTS_UNAVAILABLE"


class TooManyWaiting(CallError):  # noqa: N818
    """The encoder has enough to do."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_IMAGES_WAIT"


class TooManyCalls(CallError):  # noqa: N818
    """As many calls are worked on as the service takes at one time."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_CALLS"
    retry_after_s = 0.1

    def __init__(self, most: int, *, what: str = "calls are worked on") -> None:
        super().__init__(f"{most} {what}, as many as are taken at one time; come again later")


class Overloaded(CallError):  # noqa: N818
    """More calls come than can be answered, and the turn of this one would come too late."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ScoreNotServed(CallError):  # noqa: N818
    """The service was started without a recommender."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "RECOMMENDER_DISABLED"


class NotServed(CallError):  # noqa: N818
    """The service was started without classification."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "CLASSIFICATION_DISABLED"


class ComposedNotServed(CallError):  # noqa: N818
    """The service was started without composed retrieval."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "COMPOSED_RETRIEVAL_DISABLED"


class RecommendNotServed(CallError):  # noqa: N818
    """The service was started without an index."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "RECOMMEND_DISABLED"


class CatalogueNotServed(CallError):  # noqa: N818
    """The call filters by a catalogue, and the service was started without one."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "CATALOGUE_DISABLED"


class DeadlinePassed(CallError):  # noqa: N818
    """The caller's deadline passed before the work began."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_PASSED"


class Unauthorised(CallError):  # noqa: N818
    """The call carries no token, or none that is known."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "TOKEN_REFUSED"


class TokenExpired(CallError):  # noqa: N818
    """The time of the call's token is over."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "TOKEN_EXPIRED"


class ScopeMissing(CallError):  # noqa: N818
    """The token does not allow the method; metadata `scope` is what it would need."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "SCOPE_MISSING"


class RateExceeded(CallError):  # noqa: N818
    """The token is used more often than it may be."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "RATE_EXCEEDED"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Incident(CallError):  # noqa: N818
    """An error that nobody foresaw: the caller gets a name to ask for, the log gets the trace under that name."""


def artifacts_down(error: RemoteError) -> ArtifactsDown:
    """What a caller is told of `error`, which names places: the log has it, the caller learns that it does."""
    log.warning("%s", error)
    return ArtifactsDown("the place where machines share versions cannot be used now; the service's log says why")


def incident(name: str) -> Incident:
    """The refusal of a call that met an error whose trace is in the log under `name`."""
    return Incident(f"the service failed; its log has the reason under incident {name}", incident=name)


def refusal(error: Exception, *, method: str, request_id: str) -> CallError:
    """What a caller is told of `error`, which ended the call or its part; logs what nobody foresaw."""
    if isinstance(error, CallError):
        return error
    if isinstance(error, RemoteError):
        return artifacts_down(error)
    name = uuid.uuid4().hex
    log.error("incident %s in %s, request_id %r", name, method, request_id, exc_info=error)
    return incident(name)
