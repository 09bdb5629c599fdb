"""What the gateway asks of classification and what it gets back, whether that runs in its own process or on Ray."""

from dataclasses import dataclass
from typing import Protocol

from recollect.classification.store import Standing
from retrieval.descriptors.classifier import Classification, Scoring
from retrieval.descriptors.descriptor_set import DescriptorSet
from retrieval.errors import Refusal


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifyCall:
    """A Classify request that is in order."""

    images: tuple[bytes, ...]
    """Encoded images."""
    classes: str | DescriptorSet
    """Name of a stored set, or the classes of this call alone."""
    top_k: int
    """How many classes to return for each image."""
    explain: bool
    """Whether to return the reasons."""
    contrast_with: str | None
    """Class that each image's best one is held against."""
    scoring: Scoring
    """How descriptors become a score."""
    timeout_s: float | None
    """How long the caller still waits; None: for ever."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusedImage:
    """An image that was not read."""

    reason: Refusal
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifyAnswer:
    """The results of one call, all computed with one encoder and one revision of the set."""

    images: tuple[Classification | RefusedImage, ...]
    """One for each image, in the order asked."""
    encoder_name: str
    encoder_fingerprint: str
    """Its first digits."""
    etag: str
    """Revision of the stored set; empty for the classes of one call."""


class ClassificationBackend(Protocol):
    """Classifies images and keeps descriptor sets. Every method ends in a CallError where it has no answer."""

    async def classify(self, call: ClassifyCall) -> ClassifyAnswer:
        """Classify the images of `call`, in their order."""
        ...

    async def create_set(self, descriptors: DescriptorSet, *, wait_s: float) -> Standing:
        """Store a new set, then wait up to `wait_s` until it answers."""
        ...

    async def get_set(self, name: str) -> tuple[DescriptorSet, Standing]:
        """The newest accepted content of a set, and how far it is."""
        ...

    async def list_sets(self, *, after: str, limit: int) -> list[Standing]:
        """At most `limit` sets whose names come after `after`, by name."""
        ...

    async def update_set(self, descriptors: DescriptorSet, *, etag: str, wait_s: float) -> Standing:
        """Replace the set if `etag` is still its revision, then wait up to `wait_s` until that answers."""
        ...

    async def delete_set(self, name: str, *, etag: str) -> None:
        """Delete the set; with an `etag` only if that is still its revision."""
        ...
