"""What the client takes and returns for composed retrieval: plain frozen dataclasses, as in `recollect_api.records`."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class SearchWarningKind(IntEnum):
    """What of a request had no effect; the numbers are those of the wire."""

    UNSPECIFIED = 0
    TEXT_TRUNCATED = 1
    """The text is longer than the model reads."""
    BOX_CLIPPED = 2
    """A part of the box is outside the picture."""
    BOX_NOT_SEEN = 3
    """The model sees the middle of a picture, and nothing of the box is there."""
    BOX_IGNORED = 4
    """β is 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchWarning:
    """Something of the request that had no effect, or less than was asked."""

    kind: SearchWarningKind | int
    """A plain number where the service knows a kind that this client does not."""
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ComposedHit:
    """One picture that was found."""

    image_id: str
    score: float
    """Cosine of the query and the picture's closest vector, -1 to 1."""
    metadata: Mapping[str, str]
    """Column → value as a text; columns without a value are left out."""
    matched_vector: int | None = None
    """Which of the picture's vectors came closest; None unless asked to explain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WordImportance:
    """One word of the text and what it did for the first hit."""

    word: str
    importance: float
    """By how much the first hit's score falls without it; below 0 where it rises."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchExplanation:
    """Why a query found what it found."""

    base_attention: bytes
    """PNG: where in the reference the query would look without the box."""
    modulated_attention: bytes
    """PNG: where in the reference it looked."""
    base_box_share: float
    """Share of the attention that would be on the box without it, 0 to 1; 0 where there is no box."""
    modulated_box_share: float
    """Share of the attention that was on the box."""
    words: tuple[WordImportance, ...]
    """In the order of the text; empty where there is no hit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComposedResults:
    """The answer to one search."""

    hits: tuple[ComposedHit, ...]
    """Best first."""
    beta: tuple[float, ...]
    """How strongly the query looked at the box: one number, or one for each query token."""
    gallery: str
    gallery_version: str
    """The version that all hits come from."""
    model_name: str
    model_fingerprint: str
    """First digits of the hash of everything that decides an embedding."""
    warnings: tuple[SearchWarning, ...]
    explanation: SearchExplanation | None
    """None unless asked to explain."""
    request_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryStatus:
    """One gallery, and which version of it answers."""

    name: str
    version: str
    """Empty where none can answer."""
    images: int
    vectors: int
    """Of each picture."""
    dimension: int
    """Numbers in each vector."""
    storage: str
    """How vectors are stored, such as `fp16`."""
    columns: tuple[str, ...]
    """Of its metadata; what `search_composed` can filter by."""
    model_name: str
    """Which model made it."""
    model_fingerprint: str
    """First digits."""
    problem: str
    """Why the version that should answer does not; empty where it does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Galleries:
    """All galleries of the service, and the model that embeds queries."""

    galleries: tuple[GalleryStatus, ...]
    """By name."""
    model_name: str
    model_fingerprint: str
    """First digits."""
