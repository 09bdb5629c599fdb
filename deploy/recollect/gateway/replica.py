"""One gateway as a Ray Serve replica: Serve starts, watches and drains it, its own gRPC server does the answering."""

import asyncio
import contextlib
import logging
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recollect.catalogues.serving import CatalogueSource
from recollect.classification.deployment import ClassificationReplica, RemoteClassification
from recollect.composed.deployment import ComposedReplica, RemoteComposed
from recollect.gateway.desired import DesiredModel
from recollect.gateway.models import NO_ITEMS, ModelSlot, ModelSource
from recollect.gateway.server import Gateway, GatewayConfig
from recollect.gateway.workers import use_one_torch_thread
from recollect.indexes.serving import IndexSource
from recollect.telemetry.setup import Telemetry, TelemetryConfig
from recsys.data.catalogue import UNKNOWN_ROW
from recsys.history import EventSource, HistoryConfig, HistoryStore, now_ms
from recsys.history.serving_log import ServingLog, ServingLogConfig

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

log = logging.getLogger(__name__)

DRAIN_S = 10.0
"""How long a replica that is to go waits for its calls in flight."""


class GatewayReplica:
    """What Serve runs. Serve calls `check_health`, `reconfigure` and, before the process ends, `__del__`."""

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self,
        *,
        config: GatewayConfig,
        redis_url: str,
        redis_timeout_s: float,
        models: ModelSource | None,
        desired: DesiredModel,
        classification: "DeploymentHandle[ClassificationReplica] | None" = None,
        composed: "DeploymentHandle[ComposedReplica] | None" = None,
        index: IndexSource | None = None,
        catalogue: CatalogueSource | None = None,
        events: Path | None = None,
        serving_log: ServingLogConfig | None = None,
        telemetry: TelemetryConfig | None = None,
    ) -> None:
        self._telemetry = await asyncio.to_thread(Telemetry, telemetry or TelemetryConfig(), "gateway")
        use_one_torch_thread()
        self._models = models
        self._desired = desired
        self._loading = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        histories = HistoryConfig(cap=config.history_limit, timeout_s=redis_timeout_s)
        source = None if events is None else await asyncio.to_thread(EventSource, events)
        self._histories = HistoryStore(redis_url, config=histories, source=source)
        self._reference = ""
        self._slot: ModelSlot | None = None
        if models is not None:
            self._reference = await asyncio.to_thread(self._wanted)
            self._slot = ModelSlot(await asyncio.to_thread(models.load, self._reference))
        self._index = None if index is None else await asyncio.to_thread(index.open, self._are_items)
        self._catalogue = None if catalogue is None else await asyncio.to_thread(catalogue.open)
        followed = [each for each in (self._index, self._catalogue) if each is not None]
        self._looking = [asyncio.create_task(each.follow()) for each in followed]
        self._log = None if serving_log is None else ServingLog(serving_log, random=Random())
        # Only now, with all that answers: a replica that listens gets its share of the connections.
        self._gateway = Gateway(
            config,
            slot=self._slot,
            histories=self._histories,
            classification=None if classification is None else RemoteClassification(classification),
            composed=None if composed is None else RemoteComposed(composed),
            index=self._index,
            catalogue=self._catalogue,
            serving_log=self._log,
        )
        await self._gateway.start()

    async def reconfigure(self, config: dict[str, str]) -> str:
        """Load the model that `config["model"]` names beside the present one, then let it answer; returns its label."""
        return await self._become(config["model"])

    async def check_health(self) -> None:
        """Called by Serve every few seconds; follows a swap whose broadcast this replica was too young to get, and
        writes what has waited long enough."""
        if self._log is not None:
            with contextlib.suppress(OSError):  # the next call that is kept says so
                await asyncio.to_thread(self._log.write_old, now_ms())
        if self._slot is None:
            return
        wanted = await asyncio.to_thread(self._wanted)
        busy = self._loading.locked() or (self._following is not None and not self._following.done())
        if wanted != self._reference and not busy:
            self._following = asyncio.create_task(self._follow(wanted))

    async def __del__(self) -> None:
        """Drain: Serve awaits this before it ends the process."""
        for task in (self._following, *self._looking):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self._gateway.stop(DRAIN_S)
        if self._log is not None:
            await asyncio.to_thread(self._log.close)
        for followed in (self._index, self._catalogue):
            if followed is not None:
                followed.close()
        await self._histories.close()
        await asyncio.to_thread(self._telemetry.stop)

    def _are_items(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of `ids` are items of the model that answers now; all of them where it tells none."""
        catalogue = NO_ITEMS if self._slot is None else self._slot.current.catalogue
        return catalogue.rows_of(ids) != UNKNOWN_ROW if catalogue.n_items else np.ones(len(ids), dtype=np.bool_)

    async def _follow(self, reference: str) -> None:
        try:
            await self._become(reference)
        except Exception:
            # The present model keeps answering, labelled as what it is; the next health check tries again.
            log.exception("cannot load %s, %s keeps answering", reference, self._reference)

    async def _become(self, reference: str) -> str:
        if self._models is None or self._slot is None:
            raise RuntimeError("this gateway was started without a recommender")
        async with self._loading:
            if reference != self._reference:
                before = self._slot.swap(await asyncio.to_thread(self._models.load, reference))
                self._reference = reference
                if before.hold is not None:
                    before.hold.release()
            return self._slot.current.reference

    def _wanted(self) -> str:
        reference = self._desired.get()
        if reference is None:
            raise RuntimeError(f"no model is set for the application {self._desired.application!r}")
        return reference
