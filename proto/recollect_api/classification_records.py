"""What the client takes and returns for classification: plain frozen dataclasses, as in `recollect_api.records`."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class Scoring(IntEnum):
    """How the descriptors of a class become one score; the numbers are those of the wire."""

    UNSPECIFIED = 0
    """As MEAN."""
    MEAN = 1
    """Mean of the cosines."""
    RENORMALISED = 2
    """Cosine with the mean text brought back to unit length, as prompt ensembles do."""
    MAX = 3
    """The largest cosine."""


class RefusalReason(IntEnum):
    """Why an image was not read; the numbers are those of the wire."""

    UNSPECIFIED = 0
    EMPTY = 1
    TOO_MANY_BYTES = 2
    UNKNOWN_FORMAT = 3
    FORMAT_NOT_ALLOWED = 4
    TOO_MANY_PIXELS = 5
    TOO_SMALL = 6
    TOO_ELONGATED = 7
    ANIMATED = 8
    TRUNCATED = 9
    DAMAGED = 10


class RevisionState(IntEnum):
    """How far a revision of a descriptor set is; the numbers are those of the wire."""

    UNSPECIFIED = 0
    PREPARING = 1
    """Its texts are being embedded."""
    READY = 2
    """Every call that comes now is answered with it, or with a newer one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """One descriptor and how well the image fits it."""

    descriptor: str
    """The class's name where the class has no descriptors."""
    similarity: float
    """Cosine of the image and the descriptor's text."""
    contribution: float
    """Its part in the score; the parts of a class add up to its score."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassHit:
    """One class and how well the image fits it."""

    name: str
    score: float
    """-1 to 1."""
    probability: float
    """Softmax over all classes, 0 to 1."""
    reasons: tuple[Reason, ...] = ()
    """Highest similarity first; empty unless asked to explain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastTerm:
    """One descriptor's part in the difference between two classes."""

    class_name: str
    descriptor: str
    contribution: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """Why the best class won against the one asked about."""

    winner: str
    rival: str
    difference: float
    """By how much the winner's score is higher."""
    terms: tuple[ContrastTerm, ...]
    """Add up to the difference, largest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifiedImage:
    """What one image shows."""

    hits: tuple[ClassHit, ...]
    """Best first."""
    contrast: Contrast | None = None
    """None unless asked for, and where the class asked about is the best."""

    @property
    def best(self) -> ClassHit:
        """The class that fits best."""
        return self.hits[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusedImage:
    """An image that was not read; it spoiled no other."""

    reason: RefusalReason | int
    """A plain number where the service knows a reason that this client does not."""
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Classifications:
    """The answer to one Classify call."""

    images: tuple[ClassifiedImage | RefusedImage, ...]
    """In the order asked."""
    encoder_name: str
    encoder_fingerprint: str
    """First digits of the hash of everything that decides an embedding."""
    descriptor_set: str
    """Empty where the classes came with the call."""
    descriptor_set_etag: str
    """The revision that all images were classified with; empty where the classes came with the call."""
    request_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DescriptorWarning:
    """What the author of a set should mend; the set is used all the same."""

    class_name: str
    """Empty for what concerns all classes."""
    descriptor: str
    """Empty for what concerns the class."""
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DescriptorSetRevision:
    """One accepted state of a descriptor set, and how far its texts are embedded."""

    name: str
    etag: str
    """Give it to `update_descriptor_set` and `delete_descriptor_set`."""
    state: RevisionState | int
    class_count: int
    text_count: int
    """Texts to embed, one a descriptor that counts."""
    texts_embedded: int
    serving_etag: str
    """The revision that answers now; empty while there is none."""
    shipped: bool
    """Whether the set comes with the service: it can be copied by an update, and not be deleted."""
    warnings: tuple[DescriptorWarning, ...] = ()
    """What its author should mend; empty in lists."""

    @property
    def ready(self) -> bool:
        """Whether this revision answers."""
        return self.state == RevisionState.READY


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredDescriptorSet(DescriptorSetRevision):
    """A revision with its content."""

    classes: Mapping[str, tuple[str, ...]]
    """Class name → descriptors, in the set's order."""
    prefix: str = ""
    suffix: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class DescriptorSetPage:
    """One page of descriptor sets, by name."""

    descriptor_sets: tuple[DescriptorSetRevision, ...]
    next_page_token: str
    """Ask for the next page with this; empty on the last page."""
