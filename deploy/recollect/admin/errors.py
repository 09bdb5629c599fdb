"""What an admin call is refused with, and what a build ends with; these cross the wire as every other CallError does.

CallError
├── VersionNotFound      no version has that name (NOT_FOUND)
├── SourceNotFound       no model or file has that name (NOT_FOUND)
├── OperationNotFound    no operation has that name (NOT_FOUND)
├── VersionUnusable      a file of the version is missing or altered (FAILED_PRECONDITION)
├── IndexMayNotAnswer    the version misses a threshold; each is told (FAILED_PRECONDITION)
├── ModelNotLoaded       the recommender cannot load the model (FAILED_PRECONDITION)
├── NothingToRollBack    the label pointed at nothing before (FAILED_PRECONDITION)
├── LabelMovedMeanwhile  the label does not point at what was expected; metadata `current` (ABORTED)
├── BuildRunning         the index is being built; metadata `operation` where it is ours (FAILED_PRECONDITION)
├── TooManyBuilds        enough indexes are being built (RESOURCE_EXHAUSTED)
├── OperationRuns        an operation that runs cannot be forgotten (FAILED_PRECONDITION)
└── BuildFailed          what a build ended with (FAILED_PRECONDITION)
    ├── BuildCancelled   somebody cancelled it (CANCELLED)
    ├── BuildDied        its process was killed; it can go on (UNAVAILABLE)
    └── ServiceStopped   the service ended; it can go on (UNAVAILABLE)
"""

from collections.abc import Sequence

import grpc  # type: ignore[import-untyped]

from recollect.gateway.errors import CallError, Precondition
from retrieval.index.quality import Check


class VersionNotFound(CallError):  # noqa: N818 - named as the statuses are
    """No version has that name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "VERSION_NOT_FOUND"


class SourceNotFound(CallError):  # noqa: N818
    """No model or file has that name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "SOURCE_NOT_FOUND"


class OperationNotFound(CallError):  # noqa: N818
    """No operation has that name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "OPERATION_NOT_FOUND"


class VersionUnusable(CallError):  # noqa: N818
    """A file of the version is missing or altered, or it holds no index."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "VERSION_DAMAGED"


class IndexMayNotAnswer(CallError):  # noqa: N818
    """The version misses a threshold; each is told."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "INDEX_REFUSED"

    def __init__(self, reference: str, failed: Sequence[Check]) -> None:
        told = "; ".join(check.reason for check in failed)
        super().__init__(f"{reference} may not answer, what answered before does so still: {told}", version=reference)
        self.preconditions = [
            Precondition(kind=check.name, subject=reference, description=check.reason) for check in failed
        ]


class ModelNotLoaded(CallError):  # noqa: N818
    """The recommender cannot load the model; what answered before does so still."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "MODEL_NOT_LOADED"


class NothingToRollBack(CallError):  # noqa: N818
    """The label pointed at nothing before the present version."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "NOTHING_BEFORE"


class LabelMovedMeanwhile(CallError):  # noqa: N818
    """The label does not point at what the caller expected; metadata `current` is what it points at."""

    code = grpc.StatusCode.ABORTED
    reason = "LABEL_MOVED"


class BuildRunning(CallError):  # noqa: N818
    """The index is being built; metadata `operation` names what builds it, where this service does."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "BUILD_RUNNING"


class TooManyBuilds(CallError):  # noqa: N818
    """Enough indexes are being built."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_BUILDS"


class OperationRuns(CallError):  # noqa: N818
    """An operation that runs cannot be forgotten."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "OPERATION_RUNS"


class BuildFailed(CallError):  # noqa: N818
    """What is built cannot be: the source, the disk, or what was asked for; the message has the remedy."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "BUILD_FAILED"


class BuildCancelled(BuildFailed):
    """Somebody cancelled it, and what it had made is gone."""

    code = grpc.StatusCode.CANCELLED
    reason = "BUILD_CANCELLED"


class BuildDied(BuildFailed):
    """Its process was ended from outside; asked for again, it goes on."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "BUILD_DIED"


class ServiceStopped(BuildFailed):
    """The service ended while it built; asked for again, it goes on."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "SERVICE_STOPPED"
