"""Check what requests want to be true by metadata: values of columns, and by a catalogue prices and categories."""

import math
import re
from collections.abc import Sequence

from recollect.gateway.validation import MAX_COLUMN_BYTES, Violations, shown
from recollect_api.v1 import metadata_pb2
from recsys.metadata import ItemFilter

MAX_FILTERS = 20
MAX_FILTER_VALUES = 1_000
MAX_CATEGORIES = 1_000
MAX_CATEGORY_BYTES = 16_000
"""What four thousand characters, the most that a catalogue keeps, take at most."""


def require_filters(violations: Violations, field: str, filters: Sequence[metadata_pb2.MetadataFilter]) -> None:
    """Note what is wrong with `filters`, whatever the columns are that there are."""
    if len(filters) > MAX_FILTERS:
        violations.add(field, f"must be at most {MAX_FILTERS}, got {len(filters)}; leave some out")
        return
    for at, each in enumerate(filters):
        violations.require_text(
            f"{field}[{at}].column", each.column, most_bytes=MAX_COLUMN_BYTES, empty="send the name of a column"
        )
        if not 1 <= len(each.values) <= MAX_FILTER_VALUES:
            violations.add(
                f"{field}[{at}].values",
                f"must be 1 to {MAX_FILTER_VALUES} values, got {len(each.values)}; leave the filter out to let all in",
            )


def check_item_filter(violations: Violations, field: str, asked: metadata_pb2.ItemFilter) -> ItemFilter | None:
    """What `asked` asks for, None for nothing; what is wrong whatever the catalogue is noted."""
    prices = {}
    for name in ("min_price", "max_price"):
        if asked.HasField(name):
            price = prices[name] = getattr(asked, name)
            if not (math.isfinite(price) and price >= 0):
                violations.add(f"{field}.{name}", f"must be finite and 0 or more, got {price:g}; leave it out for any")
    if len(prices) == 2 and prices["max_price"] < prices["min_price"]:
        violations.add(
            f"{field}.max_price",
            f"must not be less than min_price, {prices['min_price']:g}, got {prices['max_price']:g}; exchange them",
        )
    if asked.currency and not re.fullmatch("[A-Z]{3}", asked.currency):
        violations.add(f"{field}.currency", f"must be three capital letters, got {shown(asked.currency)}; send EUR")
    if len(asked.categories) > MAX_CATEGORIES:
        violations.add(
            f"{field}.categories",
            f"must be at most {MAX_CATEGORIES:,} names, got {len(asked.categories):,}; send fewer",
        )
    for at, name in enumerate(asked.categories[:MAX_CATEGORIES]):
        violations.require_text(
            f"{field}.categories[{at}]", name, most_bytes=MAX_CATEGORY_BYTES, empty="send the name of a category"
        )
    require_filters(violations, f"{field}.columns", asked.columns)
    wanted = ItemFilter(
        min_price=prices.get("min_price"),
        max_price=prices.get("max_price"),
        currency=asked.currency or None,
        in_stock=asked.in_stock if asked.HasField("in_stock") else None,
        categories=tuple(asked.categories),
        columns=tuple((each.column, tuple(each.values)) for each in asked.columns),
    )
    return None if wanted == ItemFilter() else wanted
