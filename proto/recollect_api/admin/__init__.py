"""Administer a running service: build indexes, move labels of indexes and models, remove what nobody needs.

from recollect_api.admin import AdminClient

with AdminClient("localhost:50052") as admin:
    operation = admin.build_index("items", model="dare@stable")
    print(admin.wait_operation(operation.name).result().quality.passed)

Besides grpcio and protobuf it needs googleapis-common-protos, whose google.longrunning the service speaks: install
`recollect[admin]`.
"""

try:
    import google.longrunning.operations_pb2  # type: ignore[import-untyped]  # noqa: F401
except ImportError as error:
    raise ImportError("the admin client needs google.longrunning: pip install 'recollect[admin]'") from error

from recollect_api.admin.client import AdminClient, AsyncAdminClient
from recollect_api.admin.records import (
    BuildOperation,
    BuildStep,
    IndexKind,
    IndexVersion,
    IndexVersionPage,
    LabelMove,
    MergedChanges,
    ModelVersion,
    ModelVersionPage,
    OperationPage,
    Quality,
    QualityCheck,
    RefusedVector,
    RemovedVersions,
    VectorSource,
    VectorStorage,
)

__all__ = [
    "AdminClient",
    "AsyncAdminClient",
    "BuildOperation",
    "BuildStep",
    "IndexKind",
    "IndexVersion",
    "IndexVersionPage",
    "LabelMove",
    "MergedChanges",
    "ModelVersion",
    "ModelVersionPage",
    "OperationPage",
    "Quality",
    "QualityCheck",
    "RefusedVector",
    "RemovedVersions",
    "VectorSource",
    "VectorStorage",
]
