"""Event logs of each known format, brought into one set of columns without reading them into memory."""

from recsys.data.sources.canonical import CANONICAL_COLUMNS, SourceFormat, event_type_of
from recsys.data.sources.columns import COLUMNS, ColumnsOptions
from recsys.data.sources.online_retail import ONLINE_RETAIL, OnlineRetailOptions
from recsys.data.sources.taobao import TAOBAO, TaobaoOptions
from recsys.data.sources.tmall import TMALL, TmallOptions

SOURCES: dict[str, SourceFormat] = {source.name: source for source in (TAOBAO, TMALL, ONLINE_RETAIL, COLUMNS)}
"""Every format that can be imported, by the name that `--format` takes."""

__all__ = [
    "CANONICAL_COLUMNS",
    "SOURCES",
    "ColumnsOptions",
    "OnlineRetailOptions",
    "SourceFormat",
    "TaobaoOptions",
    "TmallOptions",
    "event_type_of",
]
