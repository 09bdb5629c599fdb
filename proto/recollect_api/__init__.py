"""Call Recollect from Python: a typed client that needs grpcio and protobuf only.

from recollect_api import RecollectClient

with RecollectClient("localhost:50051") as client:
    for item in client.score("user-7", [101, 102, 103]).ranked():
        print(item.item_id, item.score)
"""

from recollect_api.classification_records import (
    ClassHit,
    Classifications,
    ClassifiedImage,
    Contrast,
    ContrastTerm,
    DescriptorSetPage,
    DescriptorSetRevision,
    DescriptorWarning,
    Reason,
    RefusalReason,
    RefusedImage,
    RevisionState,
    Scoring,
    StoredDescriptorSet,
)
from recollect_api.client import AsyncRecollectClient, RecollectClient
from recollect_api.errors import (
    AlreadyExists,
    Cancelled,
    ClientError,
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    NotPossible,
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
    "AlreadyExists",
    "AppendResult",
    "AsyncRecollectClient",
    "Behaviour",
    "Cancelled",
    "ClassHit",
    "Classifications",
    "ClassifiedImage",
    "ClientError",
    "Conflict",
    "Contrast",
    "ContrastTerm",
    "DeadlineExceeded",
    "DegradedReason",
    "DescriptorSetPage",
    "DescriptorSetRevision",
    "DescriptorWarning",
    "Event",
    "EventType",
    "FoundBehaviour",
    "HistoryPage",
    "InvalidRequest",
    "NotFound",
    "NotPossible",
    "PermissionRefused",
    "Reason",
    "RecollectClient",
    "RefusalReason",
    "RefusedImage",
    "RejectedEvent",
    "RevisionState",
    "ScoredItem",
    "Scores",
    "Scoring",
    "ServerFault",
    "StoredDescriptorSet",
    "Unavailable",
    "Violation",
]
