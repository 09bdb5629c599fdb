"""Composed retrieval as a Ray Serve deployment of its own, and how the gateway reaches it."""

import asyncio
from typing import TYPE_CHECKING, Any

from recollect.composed.calls import GalleryList, SearchAnswer, SearchCall
from recollect.composed.config import ComposedConfig
from recollect.gateway.errors import CallError, ComposedDown
from recollect.telemetry.carrying import Carried, carried, continued
from recollect.telemetry.setup import Telemetry, TelemetryConfig
from recollect.telemetry.stages import stage

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle


class ComposedReplica:
    """What Serve runs: a `ComposedService` whose refusals are answers, not exceptions with a trace."""

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self, config: ComposedConfig, telemetry: TelemetryConfig | None = None
    ) -> None:
        # Only here: a gateway must not load torch models to reach one.
        from recollect.composed.service import ComposedService

        self._telemetry = await asyncio.to_thread(Telemetry, telemetry or TelemetryConfig(), "composed retrieval")
        self._service = await asyncio.to_thread(ComposedService.load, config)
        await self._service.start()

    async def answer(self, call: Carried, method: str, *args: Any) -> Any:
        """What that method of the service returns, or the CallError that it raises; `call` is what it is done for."""
        with continued(call, f"ComposedRetrieval/{method}"):
            try:
                return await getattr(self._service, method)(*args)
            except CallError as error:
                return error

    async def __del__(self) -> None:
        """Serve awaits this before it ends the process."""
        await self._service.stop()
        await asyncio.to_thread(self._telemetry.stop)


class RemoteComposed:
    """A `ComposedBackend` behind a Serve handle."""

    def __init__(self, handle: "DeploymentHandle[ComposedReplica]") -> None:
        self._handle = handle

    async def search(self, call: SearchCall) -> SearchAnswer:
        """See `ComposedBackend`, here and below."""
        answer: SearchAnswer = await self._ask("search", call)
        return answer

    async def galleries(self) -> GalleryList:
        """All galleries."""
        found: GalleryList = await self._ask("galleries")
        return found

    async def _ask(self, method: str, *args: Any) -> Any:
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import DeploymentUnavailableError

        response = self._handle.answer.remote(carried(), method, *args)
        try:
            with stage("composed_retrieval"):
                answer = await response
        except asyncio.CancelledError:
            # The caller has gone, so nobody waits for the replica either.
            response.cancel()  # type: ignore[no-untyped-call]
            raise
        except (RayActorError, DeploymentUnavailableError) as error:
            raise ComposedDown("the model's process has ended; repeat the call, another is started") from error
        if isinstance(answer, CallError):
            raise answer
        return answer
