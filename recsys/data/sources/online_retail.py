"""Read UCI Online Retail (Chen, 2015) under the protocol that its published figures use."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recsys.data.event_store import EventType
from recsys.data.sources.canonical import Reason, SourceFormat, canonical, filled, time_reasons
from recsys.data.sources.files import EXTRA_COLUMN, file_kind, header_of, require_columns, scan_parquet_rows, scan_rows
from recsys.data.sources.times import parse_text_times

_EXPECTED = "UCI Online Retail as CSV or Parquet (Description, Quantity, InvoiceDate, CustomerID)"
_WANTED = ("Description", "Quantity", "InvoiceDate", "CustomerID")
_SPELLINGS = {"Customer ID": "CustomerID"}
"""Online Retail II, the longer edition, writes this one column differently."""
_SPREADSHEET_TIMES = ("%m/%d/%y %H:%M", "%m/%d/%Y %H:%M")
"""Two digits first: %y cannot read 2010, while %Y reads 10 as the year 10."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OnlineRetailOptions:
    """Nothing to set: the protocol is fixed."""


def scan_online_retail(path: Path) -> tuple[pl.LazyFrame, list[str], list[Reason]]:
    """The lines as they are, the columns that the file has, and what breaks a line; SourceError for another file."""
    broken: list[Reason] = []
    if file_kind(path, _EXPECTED) == "parquet":
        frame = scan_parquet_rows(path, _EXPECTED)
        names = frame.collect_schema().names()
    else:
        names = header_of(path, _EXPECTED, delimiter=",", quote='"')
        frame = scan_rows(path, names, delimiter=",", quote='"', header=True)
        broken = [("wrong number of columns", pl.col(EXTRA_COLUMN).is_not_null())]
    present = {spelling: name for spelling, name in _SPELLINGS.items() if spelling in names}
    found = [present.get(name, name) for name in names]
    require_columns(path, _EXPECTED, found, _WANTED, "for other columns use `--format columns`")
    return frame.rename(present), found, broken


def open_online_retail(path: Path, options: OnlineRetailOptions) -> pl.LazyFrame:  # noqa: ARG001 - one signature for all
    """Lines with a customer, a description and a positive quantity; item = description, category = its last word."""
    frame, _, broken = scan_online_retail(path)
    # Customer numbers passed through a spreadsheet as 17850.0: a whole number loses its fraction, anything else stays.
    frame = frame.with_columns(pl.col("CustomerID", "Description").cast(pl.String))
    number = filled("CustomerID").cast(pl.Float64, strict=False).cast(pl.Int64, strict=False).cast(pl.String)
    user, item = pl.coalesce(number, filled("CustomerID")), filled("Description")
    quantity = pl.col("Quantity").cast(pl.Float64, strict=False)
    time_ms = parse_text_times(pl.col("InvoiceDate"), frame.collect_schema()["InvoiceDate"], _SPREADSHEET_TIMES)
    return canonical(
        frame,
        user=user,
        item=item,
        category=item.str.extract(r"(\S+)$"),
        time_ms=time_ms,
        event_type=pl.lit(int(EventType.PURCHASE), dtype=pl.UInt8),
        reasons=[
            *broken,
            ("missing user", user.is_null()),
            ("missing item", item.is_null()),
            ("unreadable quantity", quantity.is_null()),
            ("quantity not positive", ~(quantity > 0)),
            *time_reasons(time_ms),
        ],
    )


ONLINE_RETAIL = SourceFormat(
    name="online-retail",
    summary="UCI Online Retail (Chen, 2015), CSV or Parquet: 541,909 lines of a British gift shop, 2010 to 2011",
    columns=(
        ("CustomerID", "user; lines without one are left out"),
        ("Description", "item; its last word is the category"),
        ("Quantity", "lines that are not positive (returns) are left out"),
        ("InvoiceDate", "time; every event is a purchase"),
    ),
    example="recollect data import 'Online Retail.csv' --format online-retail",
    options=OnlineRetailOptions,
    open=open_online_retail,
)
