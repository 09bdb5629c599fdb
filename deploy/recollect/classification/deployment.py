"""Classification as a Ray Serve deployment of its own, and how the gateway reaches it."""

import asyncio
from typing import TYPE_CHECKING, Any

from recollect.classification.calls import ClassifyAnswer, ClassifyCall
from recollect.classification.config import ClassificationConfig
from recollect.classification.service import ClassificationService
from recollect.classification.store import Standing
from recollect.gateway.errors import CallError, ClassificationDown
from recollect.telemetry.carrying import Carried, carried, continued
from recollect.telemetry.setup import Telemetry, TelemetryConfig
from recollect.telemetry.stages import stage
from retrieval.descriptors.descriptor_set import DescriptorSet

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle


class ClassificationReplica:
    """What Serve runs: a `ClassificationService` whose refusals are answers, not exceptions with a trace."""

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self, config: ClassificationConfig, telemetry: TelemetryConfig | None = None
    ) -> None:
        self._telemetry = await asyncio.to_thread(Telemetry, telemetry or TelemetryConfig(), "classification")
        self._service = await asyncio.to_thread(ClassificationService.load, config)
        self._service.start()

    async def answer(self, call: Carried, method: str, *args: Any, **kwargs: Any) -> Any:
        """What that method of the service returns, or the CallError that it raises; `call` is what it is done for."""
        with continued(call, f"Classification/{method}"):
            try:
                return await getattr(self._service, method)(*args, **kwargs)
            except CallError as error:
                return error

    async def __del__(self) -> None:
        """Serve awaits this before it ends the process."""
        await self._service.stop()
        await asyncio.to_thread(self._telemetry.stop)


class RemoteClassification:
    """A `ClassificationBackend` behind a Serve handle."""

    def __init__(self, handle: "DeploymentHandle[ClassificationReplica]") -> None:
        self._handle = handle

    async def classify(self, call: ClassifyCall) -> ClassifyAnswer:
        """See `ClassificationBackend`, here and below."""
        answer: ClassifyAnswer = await self._ask("classify", call)
        return answer

    async def create_set(self, descriptors: DescriptorSet, *, wait_s: float) -> Standing:
        """Store a new set."""
        standing: Standing = await self._ask("create_set", descriptors, wait_s=wait_s)
        return standing

    async def get_set(self, name: str) -> tuple[DescriptorSet, Standing]:
        """The newest accepted content of a set."""
        found: tuple[DescriptorSet, Standing] = await self._ask("get_set", name)
        return found

    async def list_sets(self, *, after: str, limit: int) -> list[Standing]:
        """Some sets by name."""
        found: list[Standing] = await self._ask("list_sets", after=after, limit=limit)
        return found

    async def update_set(self, descriptors: DescriptorSet, *, etag: str, wait_s: float) -> Standing:
        """Replace a set."""
        standing: Standing = await self._ask("update_set", descriptors, etag=etag, wait_s=wait_s)
        return standing

    async def delete_set(self, name: str, *, etag: str) -> None:
        """Delete a set."""
        await self._ask("delete_set", name, etag=etag)

    async def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import DeploymentUnavailableError

        response = self._handle.answer.remote(carried(), method, *args, **kwargs)
        try:
            with stage("classification"):
                answer = await response
        except asyncio.CancelledError:
            # The caller has gone, so nobody waits for the replica either.
            response.cancel()  # type: ignore[no-untyped-call]
            raise
        except (RayActorError, DeploymentUnavailableError) as error:
            raise ClassificationDown("the encoder's process has ended; repeat the call, another is started") from error
        if isinstance(answer, CallError):
            raise answer
        return answer
