"""The user-history store on Redis: append, read, load, check."""

from recsys.history.bulk import LoadProgress, LoadResult
from recsys.history.codec import EventBatch, Records, decode, encode
from recsys.history.health import ServerReport
from recsys.history.store import AppendResult, Clock, History, HistoryConfig, HistoryStore, now_ms

__all__ = [
    "AppendResult",
    "Clock",
    "EventBatch",
    "History",
    "HistoryConfig",
    "HistoryStore",
    "LoadProgress",
    "LoadResult",
    "Records",
    "ServerReport",
    "decode",
    "encode",
    "now_ms",
]
