"""Refuse calls whose turn would come too late before they are read.

To read a request, and to begin what answers it, is a good part of what a refusal costs; callers who go on asking take
that from those who are answered.
"""

from collections.abc import Iterable

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from recollect.gateway.admission import Admission
from recollect.gateway.errors import Overloaded
from recollect.gateway.handlers import Continuation
from recollect.gateway.refusing import refusing


class SheddingInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Refuse calls of `methods` where `admission` has no room for them, whatever their deadline is.

    Those that get past this are asked about once more when they begin, with their deadline.
    """

    def __init__(self, admission: Admission, methods: Iterable[str]) -> None:
        """`methods` by their path, such as "/package.Service/Method"."""
        self._admission = admission
        self._methods = frozenset(methods)

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        """Replace the handler of a call that would wait too long."""
        if details.method in self._methods:
            try:
                self._admission.require_room()
            except Overloaded as error:
                return refusing(error)
        return await continuation(details)
