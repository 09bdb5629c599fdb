"""The user-history store on Redis: append, read, load, delete, check."""

from recsys.history.appending import Append, AppendResult
from recsys.history.bulk import LoadProgress, LoadResult
from recsys.history.codec import EventBatch, Records, decode, encode
from recsys.history.config import HistoryConfig
from recsys.history.deleting import Deletion, LogState
from recsys.history.export import ExportResult
from recsys.history.health import ServerReport
from recsys.history.store import Clock, History, HistoryStats, HistoryStore, now_ms
from recsys.history.stored_events import EventSource

__all__ = [
    "Append",
    "AppendResult",
    "Clock",
    "Deletion",
    "EventBatch",
    "EventSource",
    "ExportResult",
    "History",
    "HistoryConfig",
    "HistoryStats",
    "HistoryStore",
    "LoadProgress",
    "LoadResult",
    "LogState",
    "Records",
    "ServerReport",
    "decode",
    "encode",
    "now_ms",
]
