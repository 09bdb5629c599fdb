"""What the logs of Taobao and Tmall have in common: text of fixed columns, whole-number ids, nothing quoted."""

from collections.abc import Mapping, Sequence

import polars as pl

from recsys.data.event_store import EventType
from recsys.data.sources.canonical import canonical, event_type_expression, filled, key_reasons, time_reasons
from recsys.data.sources.files import EXTRA_COLUMN


def integer_log(
    frame: pl.LazyFrame,
    names: Sequence[str],
    *,
    user: str,
    item: str,
    category: str,
    time_ms: pl.Expr,
    behaviour: str,
    meaning: Mapping[str, EventType],
) -> pl.LazyFrame:
    """`frame`, as `scan_rows` reads the columns `names`, in canonical columns; the keywords say which is which."""
    raw_item, raw_category = filled(item), filled(category)
    item_id, category_id = raw_item.cast(pl.Int64, strict=False), raw_category.cast(pl.Int64, strict=False)
    event_type = event_type_expression(pl.col(behaviour).str.strip_chars(), dict(meaning))
    return canonical(
        frame,
        user=filled(user),
        item=item_id,
        category=category_id,
        time_ms=time_ms,
        event_type=event_type,
        reasons=[
            ("empty line", pl.all_horizontal(pl.col(names).is_null())),
            ("wrong number of columns", pl.col(EXTRA_COLUMN).is_not_null() | pl.col(names[-1]).is_null()),
            ("missing user", filled(user).is_null()),
            *key_reasons("item", raw_item, item_id, integers=True, required=True),
            *key_reasons("category", raw_category, category_id, integers=True, required=False),
            *time_reasons(time_ms),
            ("unknown event type", event_type.is_null()),
        ],
    )
