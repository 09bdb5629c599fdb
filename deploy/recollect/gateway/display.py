"""Say what a catalogue tells of items."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from recollect_api.v1 import metadata_pb2
from recsys.metadata import Availability, ItemMetadata

Ids = npt.NDArray[np.int64]

_AVAILABILITIES = {str(each): metadata_pb2.Availability.Value(f"AVAILABILITY_{each.name}") for each in Availability}
_FIELDS = ("name", "category", "price", "image", "availability")
"""Columns with a field of their own; others are told as texts."""


def displayed(metadata: ItemMetadata, item_ids: Ids, display: Sequence[str]) -> list[metadata_pb2.ItemMetadata | None]:
    """A message an item, None for what the catalogue does not have; the columns are all there."""
    taken = metadata.take(item_ids, list(dict.fromkeys([*display, *(["currency"] if "price" in display else [])])))
    messages: list[metadata_pb2.ItemMetadata | None] = [
        metadata_pb2.ItemMetadata() if row >= 0 else None for row in metadata.rows_of(item_ids)
    ]
    for column in display:
        values = taken[column] if column in _FIELDS else _texts(taken[column])
        currencies = taken["currency"] if column == "price" else values
        for message, value, currency in zip(messages, values.to_list(), currencies.to_list(), strict=True):
            if message is not None and value is not None:
                _tell(message, column, value, currency)
    return messages


def names(metadata: ItemMetadata, item_ids: Ids) -> Mapping[int, str]:
    """Item → name, of those that have one."""
    told = zip(item_ids.tolist(), metadata.take(item_ids, ["name"])["name"].to_list(), strict=True)
    return {item_id: name for item_id, name in told if name is not None}


def _tell(message: metadata_pb2.ItemMetadata, column: str, value: object, currency: object) -> None:
    match column, value:
        case "price", float():
            message.price.CopyFrom(metadata_pb2.Price(amount=value, currency=str(currency)))
        case "category", list():
            message.categories.extend(value)
        case "availability", str():
            message.availability = _AVAILABILITIES[value]
        case (("name" | "image"), str()):
            setattr(message, column, value)
        case _:
            message.columns[column] = str(value)


def _texts(values: pl.Series) -> pl.Series:
    if isinstance(values.dtype, pl.List):
        return values.list.join(", ")
    return values.cast(pl.String)
