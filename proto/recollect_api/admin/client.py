"""Administer a service: one client that blocks and one that is awaited, with the same methods and the same answers."""

from recollect_api.admin.index_calls import AsyncIndexCalls, IndexCalls
from recollect_api.admin.model_calls import AsyncModelCalls, ModelCalls
from recollect_api.admin.operation_calls import AsyncOperationCalls, OperationCalls


class AdminClient(IndexCalls, ModelCalls, OperationCalls):
    """Blocking client; safe to share between threads. Close it, or use it in a `with` block.

    Every method raises a `ClientError` (see `recollect_api.errors`) where the call ends without an answer, and
    ValueError where a value cannot be sent at all. `expected_version` refuses a move, with Conflict, unless the label
    points at that version; "" unless there is no such label yet.
    """


class AsyncAdminClient(AsyncIndexCalls, AsyncModelCalls, AsyncOperationCalls):
    """Client for asyncio; make and use it in one event loop. Close it, or use it in an `async with` block.

    Same methods, answers and errors as `AdminClient`.
    """
