"""Call Recollect from Python: a typed client that needs grpcio and protobuf only.

from recollect_api import RecollectClient

with RecollectClient("localhost:50051") as client:
    for item in client.score("user-7", [101, 102, 103]).ranked():
        print(item.item_id, item.score)
"""

from recollect_api.client import AsyncRecollectClient, RecollectClient
from recollect_api.errors import (
    Cancelled,
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    PermissionRefused,
    ServerFault,
    Unavailable,
    Violation,
)
from recollect_api.records import (
    AppendResult,
    Behaviour,
    DegradedReason,
    Event,
    EventType,
    FoundBehaviour,
    HistoryPage,
    RejectedEvent,
    ScoredItem,
    Scores,
)

__all__ = [
    "AppendResult",
    "AsyncRecollectClient",
    "Behaviour",
    "Cancelled",
    "ClientError",
    "DeadlineExceeded",
    "DegradedReason",
    "Event",
    "EventType",
    "FoundBehaviour",
    "HistoryPage",
    "InvalidRequest",
    "PermissionRefused",
    "RecollectClient",
    "RejectedEvent",
    "ScoredItem",
    "Scores",
    "ServerFault",
    "Unavailable",
    "Violation",
]
