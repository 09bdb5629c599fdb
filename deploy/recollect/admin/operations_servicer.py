"""Answer google.longrunning.Operations: how far builds are, what came of them, and their end."""

import re

import grpc.aio  # type: ignore[import-untyped]
from google.longrunning import operations_pb2, operations_pb2_grpc  # type: ignore[import-untyped]
from google.protobuf.empty_pb2 import Empty

from recollect.admin.builds import Builds
from recollect.admin.checks import check_page, page_token
from recollect.admin.errors import OperationRuns
from recollect.admin.operations import COLLECTION, OperationLog
from recollect.gateway.errors import InvalidCall, Violation
from recollect.gateway.validation import shown

LONGEST_WAIT_S = 60.0
"""How long WaitOperation waits where the caller does not say, or says more."""


class OperationsServicer(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc]
    """Operations of this service, and of those before it as far as they are remembered."""

    def __init__(self, operations: OperationLog, builds: Builds) -> None:
        self._operations = operations
        self._builds = builds

    async def ListOperations(  # noqa: N802 - gRPC's name, here and below
        self, request: operations_pb2.ListOperationsRequest, _context: grpc.aio.ServicerContext
    ) -> operations_pb2.ListOperationsResponse:
        """One page of operations, newest first."""
        if request.name not in ("", COLLECTION):
            raise _wrong("name", f"must be empty or {COLLECTION!r}, got {shown(request.name)}")
        if request.filter:
            raise _wrong("filter", f"must be empty, got {shown(request.filter)}; filter what is listed")
        behind, size = check_page(request)
        rest = [each for each in self._operations.all() if not behind or each.name < behind]
        token = page_token(rest[size - 1].name) if len(rest) > size else ""
        return operations_pb2.ListOperationsResponse(operations=rest[:size], next_page_token=token)

    async def GetOperation(  # noqa: N802
        self, request: operations_pb2.GetOperationRequest, _context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """How far an operation is."""
        return self._operations.get(_name(request.name))

    async def WaitOperation(  # noqa: N802
        self, request: operations_pb2.WaitOperationRequest, _context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """The operation once it has ended, or as it is when the time has passed."""
        asked_s = request.timeout.seconds + request.timeout.nanos / 1e9
        wait_s = min(max(0.0, asked_s), LONGEST_WAIT_S) if request.HasField("timeout") else LONGEST_WAIT_S
        return await self._builds.wait(_name(request.name), wait_s)

    async def CancelOperation(  # noqa: N802
        self, request: operations_pb2.CancelOperationRequest, _context: grpc.aio.ServicerContext
    ) -> Empty:
        """Have an operation end; one that has ended stays as it is."""
        self._builds.cancel(_name(request.name))
        return Empty()

    async def DeleteOperation(  # noqa: N802
        self, request: operations_pb2.DeleteOperationRequest, _context: grpc.aio.ServicerContext
    ) -> Empty:
        """Remember an operation no longer that has ended."""
        operation = self._operations.get(_name(request.name))
        if not operation.done:
            raise OperationRuns(f"{operation.name} runs; cancel it first")
        self._operations.forget(operation.name)
        return Empty()


def _name(name: str) -> str:
    if not re.fullmatch(rf"{COLLECTION}/[A-Za-z0-9-]{{1,60}}", name):
        raise _wrong("name", f"must be the name of an operation such as {COLLECTION}/…, got {shown(name)}")
    return name


def _wrong(field: str, description: str) -> InvalidCall:
    return InvalidCall([Violation(field=field, description=description)])
