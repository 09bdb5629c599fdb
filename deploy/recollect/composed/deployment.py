"""Composed retrieval as a Ray Serve deployment of its own, and how the gateway reaches it."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from recollect.composed.calls import GalleryList, SearchAnswer, SearchCall
from recollect.composed.config import ComposedConfig
from recollect.gateway.errors import CallError, ComposedDown

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle


class ComposedReplica:
    """What Serve runs: a `ComposedService` whose refusals are answers, not exceptions with a trace."""

    async def __init__(self, config: ComposedConfig) -> None:  # type: ignore[misc] # Serve awaits it
        # Only here: a gateway must not load torch models to reach one.
        from recollect.composed.service import ComposedService

        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._service = await asyncio.to_thread(ComposedService.load, config)
        await self._service.start()

    async def answer(self, method: str, *args: Any) -> Any:
        """What that method of the service returns, or the CallError that it raises."""
        try:
            return await getattr(self._service, method)(*args)
        except CallError as error:
            return error

    async def __del__(self) -> None:
        """Serve awaits this before it ends the process."""
        await self._service.stop()


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

        response = self._handle.answer.remote(method, *args)
        try:
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
