"""What can go wrong in the visual half, as one exception tree.

RetrievalError
├── ImageRefused        an image that is not decoded, and why; carries a constant `reason`
├── EncoderError        a checkpoint that cannot be loaded, exported or trained as asked
├── DescriptorError     a descriptor set that cannot be read or used as given
├── GenerationError     the language model did not deliver
├── DatasetError        a folder or table of images that is not what it was said to be
├── RunError            a training run that cannot start or go on in its directory
├── ComposedError       a model of composed retrieval that cannot be loaded, trained or asked as given
│   └── BoxError        a box that marks nothing of its picture
└── IndexingError       an index that cannot be built, opened, changed or searched as asked
"""

from enum import StrEnum


class RetrievalError(Exception):
    """Base of everything that `retrieval` raises on purpose."""


class Refusal(StrEnum):
    """Why an image is refused."""

    EMPTY = "EMPTY"
    TOO_MANY_BYTES = "TOO_MANY_BYTES"
    UNKNOWN_FORMAT = "UNKNOWN_FORMAT"
    FORMAT_NOT_ALLOWED = "FORMAT_NOT_ALLOWED"
    TOO_MANY_PIXELS = "TOO_MANY_PIXELS"
    TOO_SMALL = "TOO_SMALL"
    TOO_ELONGATED = "TOO_ELONGATED"
    ANIMATED = "ANIMATED"
    TRUNCATED = "TRUNCATED"
    DAMAGED = "DAMAGED"


class ImageRefused(RetrievalError):  # noqa: N818 - it is the image's state, not the program's
    """An image is not decoded; nothing was allocated for its pixels."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class EncoderError(RetrievalError):
    """A checkpoint cannot be loaded, exported or trained as asked."""


class DescriptorError(RetrievalError, ValueError):
    """A descriptor set cannot be read or used as given."""


class GenerationError(RetrievalError):
    """The language model did not deliver."""


class DatasetError(RetrievalError):
    """A folder or table of images is not what it was said to be."""


class RunError(RetrievalError):
    """A training run cannot start or go on in its directory."""


class ComposedError(RetrievalError):
    """A model of composed retrieval cannot be loaded, trained or asked as given."""


class BoxError(ComposedError, ValueError):
    """A box marks nothing of its picture."""


class IndexingError(RetrievalError):
    """An index cannot be built, opened, changed or searched as asked."""
