"""What can go wrong in the runtime, as one exception tree.

RecollectError
├── SetupError       something that must be installed, started or reachable is not (Redis binary, Ray, a port)
└── ArtifactError    a version or label of a model or an index is missing, torn or altered
    └── LabelMoved   a label does not point at what the caller expected: someone else was faster
"""


class RecollectError(Exception):
    """Base of everything that the runtime raises on purpose."""


class SetupError(RecollectError):
    """Something that must be installed, started or reachable is not."""


class ArtifactError(RecollectError):
    """A version or label of a model or an index is missing, torn or altered."""


class LabelMoved(ArtifactError):  # noqa: N818 - it is the label's state, not the program's
    """A label does not point at what the caller expected: someone else was faster."""
