"""One gateway as a Ray Serve replica: Serve starts, watches and drains it, its own gRPC server does the answering."""

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recollect.artifacts.following import Failure
from recollect.catalogues.serving import CatalogueSource, FollowedCatalogue
from recollect.classification.deployment import ClassificationReplica, RemoteClassification
from recollect.composed.deployment import ComposedReplica, RemoteComposed
from recollect.errors import ArtifactError
from recollect.gateway.canary import Canary, CanaryConfig
from recollect.gateway.desired import DesiredModel
from recollect.gateway.models import NO_ITEMS, ModelSlot, ModelSource
from recollect.gateway.scaling import CALLS_IN_FLIGHT
from recollect.gateway.server import Gateway, GatewayConfig
from recollect.gateway.workers import use_one_torch_thread
from recollect.indexes.serving import FollowedIndex, IndexSource
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
    """What Serve runs.

    Serve calls `reconfigure` with the deployment's `user_config` once `__init__` is done, whereupon it answers, and
    again whenever that changes; then `check_health` and, before the process ends, `__del__`.
    """

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self,
        *,
        config: GatewayConfig,
        redis_url: str,
        redis_timeout_s: float,
        models: ModelSource | None,
        desired: DesiredModel | None,
        classification: "DeploymentHandle[ClassificationReplica] | None" = None,
        composed: "DeploymentHandle[ComposedReplica] | None" = None,
        canary: CanaryConfig | None = None,
        index: IndexSource | None = None,
        catalogue: CatalogueSource | None = None,
        events: Path | None = None,
        serving_log: ServingLogConfig | None = None,
        telemetry: TelemetryConfig | None = None,
    ) -> None:
        """`models` is None where there is no recommender. With `desired`, what it says answers; without, what the
        configuration names, and its label is followed."""
        self._telemetry = await asyncio.to_thread(Telemetry, telemetry or TelemetryConfig(), "gateway")
        _warn_of_niceness()
        use_one_torch_thread()
        self._config = config
        self._models = models
        self._desired = desired
        self._configured = ""
        self._loading = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        histories = HistoryConfig(cap=config.history_limit, timeout_s=redis_timeout_s)
        source = None if events is None else await asyncio.to_thread(EventSource, events)
        self._histories = HistoryStore(redis_url, config=histories, source=source)
        self._reference = ""
        self._failure = Failure()
        self._slot: ModelSlot | None = None
        self._canary = None if canary is None or models is None else Canary(models, canary)
        self._index_source, self._catalogue_source = index, catalogue
        self._index: FollowedIndex | None = None
        self._catalogue: FollowedCatalogue | None = None
        self._looking: list[asyncio.Task[None]] = []
        self._log = None if serving_log is None else ServingLog(serving_log, random=Random())
        self._classification = None if classification is None else RemoteClassification(classification)
        self._composed = None if composed is None else RemoteComposed(composed)
        self._gateway: Gateway | None = None

    async def reconfigure(self, config: dict[str, str | None]) -> str:
        """Load the model that `config["model"]` names beside the present one, then let it answer; returns its label,
        empty where there is no recommender.

        Serve would end a replica that raises. One that answers does so only to the `swap` of a running gateway, which
        undoes it; otherwise it says in its log that it goes on with what it has.
        """
        try:
            self._configured = self._model_of(config)
            if self._models is not None:
                await self._become(await asyncio.to_thread(self._wanted))
        except Exception:
            if self._gateway is None or self._desired is not None:
                raise
            log.exception("cannot go over to %s, %s keeps answering", config, self._reference)
        if self._gateway is None:
            await self._begin()
        return self._reference if self._slot is None else self._slot.current.reference

    async def _begin(self) -> None:
        """Open what answers beside the model, then listen."""
        if self._index_source is not None:
            self._index = await asyncio.to_thread(self._index_source.open, self._are_items)
        if self._catalogue_source is not None:
            self._catalogue = await asyncio.to_thread(self._catalogue_source.open)
        followed = [each for each in (self._index, self._catalogue) if each is not None]
        self._looking = [asyncio.create_task(each.follow()) for each in followed]
        if self._canary is not None:
            await self._canary.look()
            self._looking.append(asyncio.create_task(self._canary.follow()))
        # Only now, with all that answers: a replica that listens gets its share of the connections.
        self._gateway = Gateway(
            self._config,
            slot=self._slot,
            canary=self._canary,
            histories=self._histories,
            classification=self._classification,
            composed=self._composed,
            index=self._index,
            catalogue=self._catalogue,
            serving_log=self._log,
        )
        await self._gateway.start()

    async def check_health(self) -> None:
        """Called by Serve every few seconds; follows a swap whose broadcast this replica was too young to get, and
        writes what has waited long enough."""
        if self._log is not None:
            with contextlib.suppress(OSError):  # the next call that is kept says so
                await asyncio.to_thread(self._log.write_old, now_ms())
        if self._slot is None:
            return
        try:
            wanted = await asyncio.to_thread(self._wanted)
        except (ArtifactError, OSError):
            return  # a label that cannot be read now: what answers answers on
        busy = self._loading.locked() or (self._following is not None and not self._following.done())
        if not self._failure.keeps_from(wanted) and wanted != self._reference and not busy:
            self._following = asyncio.create_task(self._follow(wanted))

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Serve every few seconds where the number of replicas follows the load."""
        return {} if self._gateway is None else {CALLS_IN_FLIGHT: self._gateway.load.mean()}

    async def __del__(self) -> None:
        """Drain: Serve awaits this before it ends the process."""
        for task in (self._following, *self._looking):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._gateway is not None:
            await self._gateway.stop(DRAIN_S)
        if self._log is not None:
            await asyncio.to_thread(self._log.close)
        for followed in (self._index, self._catalogue, self._canary):
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
        except Exception as error:
            # The present model keeps answering, labelled as what it is. What is desired is tried again at once.
            if self._desired is not None or self._failure.note(reference, error):
                log.exception("cannot load %s, %s keeps answering", reference, self._reference)
            else:
                log.warning("cannot load %s yet, %s keeps answering: %r", reference, self._reference, error)

    async def _become(self, reference: str) -> None:
        models = self._models
        if models is None:
            raise RuntimeError("this gateway was started without a recommender")
        async with self._loading:
            if reference == self._reference:
                return
            model = await asyncio.to_thread(models.load, reference)
            if self._slot is None:
                self._slot = ModelSlot(model)
            else:
                before = self._slot.swap(model)
                if before.hold is not None:
                    before.hold.release()
            self._reference = reference

    def _model_of(self, config: dict[str, str | None]) -> str:
        """The model that `user_config` names; ValueError where it names none for a recommender, or one for none."""
        model = config.get("model")
        if self._models is not None and not model:
            raise ValueError("user_config must name the model that answers, such as {model: dare@stable}; it has none")
        if self._models is None and model:
            raise ValueError(
                f"user_config names the model {model}, and the recommender is left out; set recommender, or take the "
                "model away"
            )
        return model or ""

    def _wanted(self) -> str:
        """Reference of the model that should answer; blocking."""
        if self._models is None:
            raise RuntimeError("this gateway was started without a recommender")
        if self._desired is None:
            return self._models.current(self._configured)
        reference = self._desired.get()
        if reference is None:
            raise RuntimeError(f"no model is set for the application {self._desired.application!r}")
        return reference


def _warn_of_niceness() -> None:
    """Say in the log that whatever else the machine does goes before this process, where it does."""
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    if niceness > 0:
        log.warning(
            "this gateway runs at niceness %d: callers wait for whatever else the machine does, and are refused where "
            "that takes too long; start Ray with RAY_worker_niceness=0 on nodes with gateways",
            niceness,
        )
