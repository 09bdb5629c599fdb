"""Turn filters by metadata into protobuf messages, and what a catalogue tells of items into records."""

from collections.abc import Mapping, Sequence

from recollect_api.metadata_records import Availability, ItemMetadata, Price
from recollect_api.v1 import metadata_pb2
from recollect_api.wire import member

Filters = Mapping[str, Sequence[str]]
"""Column → values, one of which a picture or item must have."""


def metadata_filters(filters: Filters) -> list[metadata_pb2.MetadataFilter]:
    """A message a column; ValueError for a text where a list of values belongs."""
    for column, values in filters.items():
        require_list(f"filters[{column!r}]", values)
    return [metadata_pb2.MetadataFilter(column=column, values=values) for column, values in filters.items()]


def item_filter(
    *,
    min_price: float | None,
    max_price: float | None,
    currency: str,
    in_stock: bool | None,
    categories: Sequence[str],
    filters: Filters | None,
) -> metadata_pb2.ItemFilter | None:
    """The message; None where nothing is asked."""
    require_list("categories", categories)
    asked = metadata_pb2.ItemFilter(
        min_price=min_price,
        max_price=max_price,
        currency=currency,
        in_stock=in_stock,
        categories=categories,
        columns=metadata_filters(filters or {}),
    )
    return asked if asked.ByteSize() else None


def item_metadata(message: metadata_pb2.ItemMetadata) -> ItemMetadata:
    """What a catalogue tells of an item."""
    price = message.price
    return ItemMetadata(
        name=message.name,
        categories=tuple(message.categories),
        price=Price(amount=price.amount, currency=price.currency) if message.HasField("price") else None,
        image=message.image,
        availability=member(Availability, message.availability),
        columns=dict(message.columns),
    )


def require_list(name: str, values: Sequence[str]) -> None:
    """ValueError for a text, whose letters would be taken for values."""
    if isinstance(values, str):
        raise ValueError(f"{name} must be a list of values, got a text; put it into a list")
