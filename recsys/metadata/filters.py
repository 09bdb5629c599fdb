"""What must be true of an item: price, availability, category, values of columns."""

from collections.abc import Sequence
from dataclasses import dataclass

from recsys.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemFilter:
    """All of this must be true of an item; where a catalogue does not tell, it is not true."""

    min_price: float | None = None
    """The lowest price, in `currency`."""
    max_price: float | None = None
    """The highest price, in `currency`."""
    currency: str | None = None
    """Three letters of ISO 4217; None: the only one that the catalogue has."""
    in_stock: bool | None = None
    """Whether the item must be in stock; None: as the catalogue says."""
    categories: tuple[str, ...] = ()
    """Names of categories, one of which it must be in; empty for all."""
    columns: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(column, values as texts): one of the values each."""

    @property
    def by_price(self) -> bool:
        """Whether prices matter."""
        return self.min_price is not None or self.max_price is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterProblem:
    """One part of a filter that a catalogue cannot be filtered by."""

    field: str
    """Path within the filter, such as `columns[2].values[0]`."""
    description: str
    """Expected, actual and remedy."""


class FilterError(ConfigError):
    """A filter that a catalogue cannot be filtered by; `problems` says each part that is wrong."""

    def __init__(self, problems: Sequence[FilterProblem]) -> None:
        super().__init__("; ".join(f"{each.field} {each.description}" for each in problems))
        self.problems = tuple(problems)
