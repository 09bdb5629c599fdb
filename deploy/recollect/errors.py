"""What can go wrong in the runtime, as one exception tree.

RecollectError
├── SetupError       something that must be installed, started or reachable is not (Redis binary, Ray, a port)
└── ArtifactError    a version or label of a model or an index is missing, torn or altered
"""


class RecollectError(Exception):
    """Base of everything that the runtime raises on purpose."""


class SetupError(RecollectError):
    """Something that must be installed, started or reachable is not."""


class ArtifactError(RecollectError):
    """A version or label of a model or an index is missing, torn or altered."""
