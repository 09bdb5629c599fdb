"""What can go wrong in the runtime, as one exception tree.

RecollectError
├── AlreadyRunning       another process does what only one may do at a time
├── SetupError           something that must be installed, started or reachable is not (Redis binary, Ray, a port)
└── ArtifactError        a version or label of a model, an index or a catalogue is missing, torn or altered
    ├── VersionDamaged   a file of a version is missing or altered
    ├── NothingBefore    a label that pointed at nothing before the present version cannot be rolled back
    ├── IndexRefused     a version of an index that may not answer, and why
    ├── CatalogueRefused a catalogue that may not answer, and why
    ├── LabelMoved       a label does not point at what the caller expected: someone else was faster
    └── RemoteError      the place where machines share versions does not answer, refuses, or holds something damaged
"""

from collections.abc import Sequence


class RecollectError(Exception):
    """Base of everything that the runtime raises on purpose."""


class AlreadyRunning(RecollectError):  # noqa: N818 - it is the other's state, not the program's
    """Another process does what only one may do at a time."""


class SetupError(RecollectError):
    """Something that must be installed, started or reachable is not."""


class ArtifactError(RecollectError):
    """A version or label of a model or an index is missing, torn or altered."""


class VersionDamaged(ArtifactError):  # noqa: N818 - it is the version's state, not the program's
    """A file of a version is missing or altered since it was published."""


class NothingBefore(ArtifactError):  # noqa: N818 - it is the label's state, not the program's
    """A label pointed at nothing before the present version."""


class IndexRefused(ArtifactError):  # noqa: N818 - it is the index's state, not the program's
    """A version of an index may not answer; `reasons` say why, each with a remedy."""

    def __init__(self, reference: str, reasons: Sequence[str]) -> None:
        super().__init__(f"{reference} may not answer, what answered before does so still: {'; '.join(reasons)}")
        self.reference = reference
        self.reasons = tuple(reasons)


class CatalogueRefused(ArtifactError):  # noqa: N818 - it is the catalogue's state, not the program's
    """A catalogue may not answer; the message says why and what helps."""


class LabelMoved(ArtifactError):  # noqa: N818 - it is the label's state, not the program's
    """A label does not point at what the caller expected: someone else was faster."""

    def __init__(self, message: str, *, current: str | None = None, reference: str = "") -> None:
        super().__init__(message)
        self.current = current
        """The version that the label points at; None: there is no such label."""
        self.reference = reference
        """`name/version` of the version that was built for the label; empty where none was."""


class RemoteError(ArtifactError):
    """The place where machines share versions does not answer, refuses, or holds something damaged."""
