"""Answer grpc.health.v1: whether the server as a whole, and each service, takes calls."""

import asyncio
from collections.abc import Sequence

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

OVERALL = ""
"""The name under which grpc.health.v1 means the server as a whole."""
_State = health_pb2.HealthCheckResponse


class _Servicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """What the package of grpc.health.v1 brings lacks `List`, and its streams hold a server up that ends."""

    def __init__(self, names: Sequence[str]) -> None:
        self.states = dict.fromkeys(names, _State.NOT_SERVING)
        self._changed = asyncio.Event()
        self._ends = False

    def tell(self, state: int, *, ends: bool = False) -> None:
        """Say `state` of all services from now on, and where it `ends`, nothing more."""
        if self._ends:
            return
        self.states = dict.fromkeys(self.states, state)
        self._ends = ends
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def Check(  # noqa: N802 - gRPC's name, here and below
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Whether a service takes calls."""
        if request.service not in self.states:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return _State(status=self.states[request.service])

    async def List(  # noqa: N802
        self, _request: health_pb2.HealthListRequest, _context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthListResponse:
        """Whether each service takes calls."""
        return health_pb2.HealthListResponse(
            statuses={name: _State(status=state) for name, state in self.states.items()}
        )

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> None:
        """The same, and every change of it, until the server ends."""
        told = None
        while True:
            changed, ends = self._changed, self._ends
            state = self.states.get(request.service, _State.SERVICE_UNKNOWN)
            if state != told:
                await context.write(_State(status=state))
                told = state
            if ends:
                return
            await changed.wait()


class Health:
    """NOT_SERVING until `serving` is called and again once `draining` is."""

    def __init__(self, services: Sequence[str]) -> None:
        self._servicer = _Servicer((OVERALL, *services))

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the health service with `server`."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    def serving(self) -> None:
        """Say that calls are taken."""
        self._servicer.tell(_State.SERVING)

    def draining(self) -> None:
        """Say that no new calls should come, and end the streams that tell of it; there is no way back."""
        self._servicer.tell(_State.NOT_SERVING, ends=True)
