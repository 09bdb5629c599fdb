"""What a catalogue tells of items, as the client returns it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Availability(IntEnum):
    """Whether an item can be had; the numbers are those of the wire."""

    UNSPECIFIED = 0
    """Not told, or not asked for."""
    IN_STOCK = 1
    OUT_OF_STOCK = 2
    PREORDER = 3
    """It can be ordered and will come out."""
    BACKORDER = 4
    """It can be ordered and will be there again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """An amount of money."""

    amount: float
    """In the currency's unit, to four decimals."""
    currency: str
    """Three letters of ISO 4217."""

    def __str__(self) -> str:
        return f"{self.amount:,.2f} {self.currency}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemMetadata:
    """What a catalogue tells of one item, as far as it was asked for."""

    name: str = ""
    """Empty where it is not told."""
    categories: tuple[str, ...] = ()
    price: Price | None = None
    image: str = ""
    """Path or URL; empty where it is not told."""
    availability: Availability | int = Availability.UNSPECIFIED
    columns: Mapping[str, str] = field(default_factory=dict)
    """Further columns that were asked for, those with a value, as texts."""
