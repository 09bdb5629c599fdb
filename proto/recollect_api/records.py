"""What the client takes and returns: plain frozen dataclasses, so that no caller handles protobuf messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from recollect_api.metadata_records import ItemMetadata


class EventType(IntEnum):
    """What a user did; the numbers are those of the wire."""

    UNSPECIFIED = 0
    CLICK = 1
    CART = 2
    FAVORITE = 3
    PURCHASE = 4


class DegradedReason(IntEnum):
    """Why an answer is worse than it could be; the numbers are those of the wire."""

    UNSPECIFIED = 0
    HISTORY_UNAVAILABLE = 1
    """The history store did not answer in time: scored without a history."""
    HISTORY_EMPTY = 2
    """The user has no behaviour before the time asked for."""
    ITEM_UNKNOWN = 3
    """The model has never seen some of the candidates; their `known` is False."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One thing that a user did, to be stored."""

    item_id: int
    time: datetime
    """When it happened, with a time zone; kept to the millisecond."""
    type: EventType = EventType.CLICK
    event_id: str = ""
    """The producer's name for this event; it tells two equal behaviours in one millisecond apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Behaviour:
    """One thing that a user did, as it is stored."""

    item_id: int
    time: datetime
    """UTC."""
    type: EventType | int
    """A plain number where the service knows a type that this client does not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundBehaviour(Behaviour):
    """A behaviour that a score rests on."""

    weight: float
    """Its share in the representation of the history, as the model weighs it for this candidate."""
    item_name: str = ""
    """What the catalogue calls the item, where names are displayed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredItem:
    """One candidate with its score."""

    item_id: int
    score: float
    """Probability of interest, 0 to 1."""
    known: bool
    """Whether the model has seen the item."""
    found: tuple[FoundBehaviour, ...] = ()
    """The behaviours that the score rests on, highest weight first; empty unless asked to explain."""
    metadata: ItemMetadata | None = None
    """What was to be displayed; None where nothing was, and where the catalogue does not have the item."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """The answer to one Score call."""

    items: tuple[ScoredItem, ...]
    """The candidates in the order asked."""
    model_name: str
    model_version: str
    history_version: int
    """Grows with every append; 0 where no history was read."""
    history_length: int
    """Behaviours that counted."""
    degraded: tuple[DegradedReason | int, ...]
    """Why the answer is worse than it could be; empty when nothing was missing."""
    request_id: str
    catalogue_name: str = ""
    """Of the catalogue that was read; empty where there is none."""
    catalogue_version: str = ""

    def ranked(self) -> tuple[ScoredItem, ...]:
        """The candidates, best first; equal scores keep the order asked."""
        return tuple(sorted(self.items, key=lambda item: -item.score))


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRow:
    """One row of a stream of scores: what a Score call would be asked."""

    user_id: str
    item_ids: Sequence[int]
    """The candidates."""
    as_of: datetime | None = None
    """Only behaviours strictly earlier than this count; None for all."""
    display: Sequence[str] = ()
    """What to tell of each candidate from the catalogue."""
    explain: bool = False
    request_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryShare:
    """How much of what a score rests on is of one category."""

    category_id: int
    """-1 for items that the model has never seen, and for those without a category."""
    category_name: str
    """What the log called it, where it had names; else empty."""
    share: float
    """What the weights of its behaviours add up to; those of all categories of an item add up to 1."""
    behaviours: int
    """How many of the found behaviours are of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainedItem:
    """One item, explained."""

    item_id: int
    score: float
    """Probability of interest, 0 to 1: what Score answers."""
    score_without_history: float
    """What it would be for a user without a history."""
    known: bool
    """Whether the model has seen the item."""
    found: tuple[FoundBehaviour, ...]
    """The behaviours that the score rests on, highest weight first."""
    categories: tuple[CategoryShare, ...]
    """Those of all behaviours that were found, greatest share first."""
    metadata: ItemMetadata | None = None
    """What was to be displayed; None where nothing was, and where the catalogue does not have the item."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanations:
    """The answer to one Explain call."""

    items: tuple[ExplainedItem, ...]
    """In the order asked."""
    model_name: str
    model_version: str
    history_version: int
    """Grows with every append; 0 where no history was read."""
    history_length: int
    """Behaviours that counted."""
    degraded: tuple[DegradedReason | int, ...]
    """Why the answer is worse than it could be; empty when nothing was missing."""
    request_id: str
    catalogue_name: str = ""
    """Of the catalogue that was read; empty where there is none."""
    catalogue_version: str = ""


class CandidateOrigin(IntEnum):
    """What brought an item in; the numbers are those of the wire."""

    UNSPECIFIED = 0
    RECENT = 1
    """It is like one of the user's latest items, or is one that may be shown again."""
    ATTENDED = 2
    """It is like an item that the model looks at most for this user, however long ago."""
    POPULAR = 3
    """Many users dealt with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecommendedItem:
    """One recommended item."""

    item_id: int
    score: float
    """Probability of interest, 0 to 1."""
    origin: CandidateOrigin | int
    because_item_id: int | None
    """Item of the behaviour that it is like; None for what is popular."""
    similarity: float
    """How alike the two are, as the index compares them; 0 for what is popular."""
    found: tuple[FoundBehaviour, ...] = ()
    """The behaviours that the score rests on, highest weight first; empty unless asked to explain."""
    because_name: str = ""
    """What the catalogue calls the item of `because_item_id`, where names are displayed."""
    metadata: ItemMetadata | None = None
    """What was to be displayed; None where nothing was, and where the catalogue does not have the item."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recommendations:
    """The answer to one Recommend call."""

    items: tuple[RecommendedItem, ...]
    """Best first, by their scores and by how popular they are; scores need not descend."""
    model_name: str
    model_version: str
    index_name: str
    index_version: str
    history_version: int
    """Grows with every append; 0 where no history was read."""
    history_length: int
    """Behaviours that counted."""
    candidates: int
    """Items that were ranked."""
    degraded: tuple[DegradedReason | int, ...]
    """Why the answer is worse than it could be; empty when nothing was missing."""
    request_id: str
    catalogue_name: str = ""
    """Of the catalogue that was read; empty where there is none."""
    catalogue_version: str = ""
    matching_items: int | None = None
    """How many items of the catalogue pass the filter; None where nothing was filtered."""
