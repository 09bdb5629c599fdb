"""What can go wrong in the runtime, as one exception tree.

RecollectError
├── SetupError       something that must be installed, started or reachable is not (Redis binary, Ray, a port)
└── ArtifactError    a model version or label is missing, torn or altered
"""


class RecollectError(Exception):
    """Base of everything that the runtime raises on purpose."""


class SetupError(RecollectError):
    """Something that must be installed, started or reachable is not."""


class ArtifactError(RecollectError):
    """A model version or label is missing, torn or altered."""
