"""Answer grpc.health.v1: whether the server as a whole, and each service, takes calls."""

from collections.abc import Sequence

import grpc.aio  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_health.v1.health import aio  # type: ignore[import-untyped]

OVERALL = ""
"""The name under which grpc.health.v1 means the server as a whole."""


class _Servicer(aio.HealthServicer):  # type: ignore[misc]
    """With `List`, which the contract of grpc.health.v1 has and its package leaves out."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._listed = names

    async def List(  # noqa: N802 - gRPC's name
        self, _request: health_pb2.HealthListRequest, context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthListResponse:
        """Whether each service takes calls."""
        return health_pb2.HealthListResponse(
            statuses={
                name: await self.Check(health_pb2.HealthCheckRequest(service=name), context) for name in self._listed
            }
        )


class Health:
    """NOT_SERVING until `serving` is called and again once `draining` is."""

    def __init__(self, services: Sequence[str]) -> None:
        self._names = (OVERALL, *services)
        self._servicer = _Servicer(self._names)

    async def add_to(self, server: grpc.aio.Server) -> None:
        """Register the health service with `server`, in the state of a server that starts."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def serving(self) -> None:
        """Say that calls are taken."""
        await self._set(health_pb2.HealthCheckResponse.SERVING)

    async def draining(self) -> None:
        """Say that no new calls should come; there is no way back."""
        await self._servicer.enter_graceful_shutdown()

    async def _set(self, status: int) -> None:
        for name in self._names:
            await self._servicer.set(name, status)
