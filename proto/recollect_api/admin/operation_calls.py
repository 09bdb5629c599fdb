"""The admin clients' calls for builds as operations: how far they are, what came of them, and their end."""

import time
from collections.abc import AsyncIterator, Callable, Iterator

import grpc  # type: ignore[import-untyped]
from google.longrunning import operations_pb2  # type: ignore[import-untyped]
from google.protobuf.duration_pb2 import Duration

from recollect_api.admin import wire
from recollect_api.admin.connections import AsyncAdminConnections, BlockingAdminConnections
from recollect_api.admin.records import BuildOperation, OperationPage
from recollect_api.connections import either
from recollect_api.errors import DeadlineExceeded
from recollect_api.wire import made

PROGRESS_S = 0.5
"""How often a wait tells of progress."""
LONGEST_WAIT_S = 30.0
"""How long one call waits where nobody hears of progress."""

OnProgress = Callable[[BuildOperation], None]


class OperationCalls(BlockingAdminConnections):
    """For callers that block."""

    def get_operation(self, name: str, *, timeout_s: float | None = None) -> BuildOperation:
        """How far a build is."""
        request = operations_pb2.GetOperationRequest(name=name)
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.operation(self._ask(lambda stubs: stubs.operations.GetOperation, request, timeout_s))

    def list_operations(
        self, *, page_size: int = 0, page_token: str = "", timeout_s: float | None = None
    ) -> OperationPage:
        """One page of builds, newest first; `page_size` 0 leaves the size to the service."""
        request = made(operations_pb2.ListOperationsRequest, page_size=page_size, page_token=page_token)
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.operation_page(self._ask(lambda stubs: stubs.operations.ListOperations, request, timeout_s))

    def operations(self, *, page_size: int = 0) -> Iterator[BuildOperation]:
        """Every build that is remembered, newest first, page after page as they are consumed."""
        token = ""
        while True:
            page = self.list_operations(page_size=page_size, page_token=token)
            yield from page.operations
            token = page.next_page_token
            if not token:
                return

    def wait_operation(
        self, name: str, *, timeout_s: float | None = None, on_progress: OnProgress | None = None
    ) -> BuildOperation:
        """The build once it has ended, `on_progress` told meanwhile how far it is; see `BuildOperation.result`.

        DeadlineExceeded where it has not ended within `timeout_s` (None: however long it takes); it goes on then.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            request = _wait_request(name, deadline, on_progress)
            wait_s = request.timeout.ToTimedelta().total_seconds()
            message = self._ask(lambda stubs: stubs.operations.WaitOperation, request, self.timeout_s + wait_s)
            operation = wire.operation(message)
            if on_progress is not None:
                on_progress(operation)
            if operation.done:
                return operation
            _require_time(operation, deadline)

    def cancel_operation(self, name: str, *, timeout_s: float | None = None) -> None:
        """Have a build end; wait for it to know whether it did, since one that publishes already goes on."""
        request = operations_pb2.CancelOperationRequest(name=name)
        self._ask(lambda stubs: stubs.operations.CancelOperation, request, either(timeout_s, self.timeout_s))

    def forget_operation(self, name: str, *, timeout_s: float | None = None) -> None:
        """Have the service forget a build that has ended."""
        request = operations_pb2.DeleteOperationRequest(name=name)
        self._ask(lambda stubs: stubs.operations.DeleteOperation, request, either(timeout_s, self.timeout_s))


class AsyncOperationCalls(AsyncAdminConnections):
    """For asyncio: same methods, answers and errors as `OperationCalls`."""

    async def get_operation(self, name: str, *, timeout_s: float | None = None) -> BuildOperation:
        """How far a build is."""
        request = operations_pb2.GetOperationRequest(name=name)
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.operation(await self._ask(lambda stubs: stubs.operations.GetOperation, request, timeout_s))

    async def list_operations(
        self, *, page_size: int = 0, page_token: str = "", timeout_s: float | None = None
    ) -> OperationPage:
        """One page of builds, newest first; `page_size` 0 leaves the size to the service."""
        request = made(operations_pb2.ListOperationsRequest, page_size=page_size, page_token=page_token)
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.operation_page(await self._ask(lambda stubs: stubs.operations.ListOperations, request, timeout_s))

    async def operations(self, *, page_size: int = 0) -> AsyncIterator[BuildOperation]:
        """Every build that is remembered, newest first, page after page as they are consumed."""
        token = ""
        while True:
            page = await self.list_operations(page_size=page_size, page_token=token)
            for each in page.operations:
                yield each
            token = page.next_page_token
            if not token:
                return

    async def wait_operation(
        self, name: str, *, timeout_s: float | None = None, on_progress: OnProgress | None = None
    ) -> BuildOperation:
        """The build once it has ended, `on_progress` told meanwhile how far it is; see `BuildOperation.result`.

        DeadlineExceeded where it has not ended within `timeout_s` (None: however long it takes); it goes on then.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            request = _wait_request(name, deadline, on_progress)
            wait_s = request.timeout.ToTimedelta().total_seconds()
            message = await self._ask(lambda stubs: stubs.operations.WaitOperation, request, self.timeout_s + wait_s)
            operation = wire.operation(message)
            if on_progress is not None:
                on_progress(operation)
            if operation.done:
                return operation
            _require_time(operation, deadline)

    async def cancel_operation(self, name: str, *, timeout_s: float | None = None) -> None:
        """Have a build end; wait for it to know whether it did, since one that publishes already goes on."""
        request = operations_pb2.CancelOperationRequest(name=name)
        await self._ask(lambda stubs: stubs.operations.CancelOperation, request, either(timeout_s, self.timeout_s))

    async def forget_operation(self, name: str, *, timeout_s: float | None = None) -> None:
        """Have the service forget a build that has ended."""
        request = operations_pb2.DeleteOperationRequest(name=name)
        await self._ask(lambda stubs: stubs.operations.DeleteOperation, request, either(timeout_s, self.timeout_s))


def _wait_request(
    name: str, deadline: float | None, on_progress: OnProgress | None
) -> operations_pb2.WaitOperationRequest:
    wait_s = LONGEST_WAIT_S if on_progress is None else PROGRESS_S
    if deadline is not None:
        wait_s = max(0.0, min(wait_s, deadline - time.monotonic()))
    duration = Duration()
    duration.FromMilliseconds(int(wait_s * 1_000))
    return operations_pb2.WaitOperationRequest(name=name, timeout=duration)


def _require_time(operation: BuildOperation, deadline: float | None) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise DeadlineExceeded(
            f"{operation.name} has not ended yet; it goes on, wait for it again or cancel it",
            code=grpc.StatusCode.DEADLINE_EXCEEDED,
        )
