"""What the gateway asks of composed retrieval and what it gets back, whether that runs in its own process or on Ray."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from retrieval.composed.geometry import Box


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Which values a column of a gallery's metadata may have."""

    column: str
    values: tuple[str, ...]
    """As texts, whatever the column's type."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchCall:
    """A Search request that is in order, as far as that can be told without its picture and its gallery."""

    gallery: str
    """Name of the gallery."""
    reference: bytes | str
    """An encoded image, or the id of a picture of the gallery."""
    box: Box | None
    """In pixels of the reference."""
    text: str
    """What should be different."""
    k: int
    """How many pictures to return."""
    filters: tuple[Filter, ...]
    """All of which a picture must fit."""
    explain: bool
    """Whether to return where the query looked and which words mattered."""
    beta: float | None
    """How strongly to look at the box; None: as the model finds right."""
    timeout_s: float | None
    """How long the caller still waits; None: for ever."""


class NoEffect(Enum):
    """What of a request had no effect; named as on the wire."""

    TEXT_TRUNCATED = auto()
    BOX_CLIPPED = auto()
    BOX_NOT_SEEN = auto()
    BOX_IGNORED = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchNote:
    """One thing of a request that had no effect."""

    kind: NoEffect
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundPicture:
    """One hit."""

    image_id: str
    score: float
    """-1 to 1."""
    vector: int
    """Which of its vectors came closest."""
    metadata: Mapping[str, str]
    """Column → value as a text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchReasons:
    """Why a query found what it found."""

    base_attention: bytes
    """PNG."""
    modulated_attention: bytes
    """PNG."""
    base_box_share: float
    """Share of the attention that would be on the box without it."""
    modulated_box_share: float
    """Share of the attention that was on the box."""
    words: tuple[tuple[str, float], ...]
    """Each word of the text and by how much the first hit's score falls without it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchAnswer:
    """The hits of one call, all from one version of the gallery."""

    hits: tuple[FoundPicture, ...]
    """Best first."""
    beta: tuple[float, ...]
    """One number, or one for each query token."""
    version: str
    """Of the gallery."""
    model_name: str
    model_fingerprint: str
    """Its first digits."""
    notes: tuple[SearchNote, ...]
    reasons: SearchReasons | None
    """None unless asked to explain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryStanding:
    """One gallery and which version of it answers."""

    name: str
    version: str = ""
    """Empty where none can answer."""
    images: int = 0
    vectors: int = 0
    """Of each picture."""
    dimension: int = 0
    storage: str = ""
    columns: tuple[str, ...] = ()
    """Of its metadata."""
    model_name: str = ""
    model_fingerprint: str = ""
    """First digits of what made it."""
    problem: str = ""
    """Why the version that should answer does not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryList:
    """All galleries, and the model that embeds queries."""

    galleries: tuple[GalleryStanding, ...]
    """By name."""
    model_name: str
    model_fingerprint: str
    """Its first digits."""


class ComposedBackend(Protocol):
    """Searches galleries. Every method ends in a CallError where it has no answer."""

    async def search(self, call: SearchCall) -> SearchAnswer:
        """The pictures that fit `call` best."""
        ...

    async def galleries(self) -> GalleryList:
        """All galleries, by name."""
        ...
