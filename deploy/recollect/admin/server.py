"""Run the admin server: one of a service, in its own process, on a port of its own.

It belongs to the process that started the gateways, not to one of them: of replicas there are many, they come and go,
and a build must outlive each. It ends with the service; operations stay on the disk, and a lock keeps a second service
off the same directory.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from google.longrunning import operations_pb2, operations_pb2_grpc  # type: ignore[import-untyped]

from recollect.admin.audit import AuditInterceptor
from recollect.admin.builds import Builds
from recollect.admin.indexes import IndexAdmin, IndexesServicer
from recollect.admin.judging import Judging
from recollect.admin.models import FollowedModel, ModelsServicer
from recollect.admin.operations import OperationLog
from recollect.admin.operations_servicer import OperationsServicer
from recollect.artifacts import models_of, shared_at
from recollect.artifacts.locks import alone
from recollect.errors import AlreadyRunning, SetupError
from recollect.gateway.address import client_address
from recollect.gateway.interceptors import ErrorInterceptor
from recollect.gateway.listener import Listener, ListenerConfig
from recollect.security.exposure import require_guarded
from recollect.settings import Settings
from recollect_api.v1 import indexes_pb2, indexes_pb2_grpc, models_pb2, models_pb2_grpc

SERVICES: tuple[str, ...] = (
    indexes_pb2.DESCRIPTOR.services_by_name["Indexes"].full_name,
    models_pb2.DESCRIPTOR.services_by_name["Models"].full_name,
    operations_pb2.DESCRIPTOR.services_by_name["Operations"].full_name,
)
MAX_CALLS = 64
_OPERATIONS = "operations"
STOP_S = 2.0
"""How long calls in flight may take when the service ends; builds are ended besides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdminConfig:
    """Where the admin server listens and what it administers."""

    settings: Settings
    """Of the service."""
    port: int
    """Port to listen on; 0 takes a free one."""
    followed: FollowedModel | None = None
    """The label that the recommender answers by; None: it follows none."""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


def require_alone(settings: Settings) -> None:
    """SetupError where another service administers `var`, before anything is started in vain."""
    with _alone(_whole(settings).var):
        pass


class AdminServer:
    """`start` it and `stop` it in the same event loop."""

    def __init__(self, config: AdminConfig) -> None:
        settings = _whole(config.settings)
        self._config = config
        self._settings = settings
        self._stack = ExitStack()
        self._builds: Builds | None = None
        self._judging: Judging | None = None
        self._listener = Listener(
            ListenerConfig(
                host=settings.admin_host,
                port=config.port,
                share_port=False,
                max_calls=MAX_CALLS,
                max_connection_age_s=None,  # there is no other replica to find
                max_request_bytes=settings.max_request_bytes,
                tls=settings.tls,
                access=settings.access,
            ),
            served=SERVICES,
            known=SERVICES,
            interceptors=[ErrorInterceptor(), AuditInterceptor()],
        )

    async def start(self) -> int:
        """Listen; returns the port. SetupError where the port is taken, the address is not guarded, or another service
        administers `var`."""
        require_guarded(self._settings, admin=True)
        self._stack.enter_context(_alone(self._settings.var))
        try:
            self._add_services()
            return await self._listener.start()
        except BaseException:
            self._stack.close()
            raise

    async def stop(self) -> None:
        """End builds, judgements and calls."""
        # Builds first: who waits for one is told what became of it.
        if self._builds is not None:
            await self._builds.stop()
        await self._listener.stop(STOP_S)
        if self._judging is not None:
            await self._judging.stop()
        self._stack.close()

    def _add_services(self) -> None:
        settings, config, add = self._settings, self._config, self._listener.add
        sources = settings.build_sources or settings.var / "vectors"
        operations = OperationLog(settings.var / _OPERATIONS, config.clock)
        self._builds = Builds(operations, niceness=settings.build_niceness, files_below=sources, clock=config.clock)
        self._builds.recover()
        self._judging = Judging(
            settings.var / "indexes",
            settings.index_thresholds,
            shared=shared_at(settings, "indexes"),
            niceness=settings.build_niceness,
        )
        indexes = IndexAdmin(
            settings=settings,
            sources=sources,
            builds=self._builds,
            judging=self._judging,
            threads=os.cpu_count() or 1,
        )
        add(indexes_pb2_grpc.add_IndexesServicer_to_server, IndexesServicer(indexes))
        add(models_pb2_grpc.add_ModelsServicer_to_server, ModelsServicer(models_of(settings), config.followed))
        add(operations_pb2_grpc.add_OperationsServicer_to_server, OperationsServicer(operations, self._builds))


class RunningAdmin:
    """An admin server with an event loop in a thread of its own, for the time of a `with` block."""

    def __init__(self, config: AdminConfig) -> None:
        self._config = config
        self._thread = threading.Thread(target=self._run, name="admin", daemon=True)
        self._ready: Future[tuple[int, Callable[[], object]]] = Future()
        self.port = 0
        """Where it listens, once started."""

    @property
    def address(self) -> str:
        """`host:port` for a client on this machine."""
        return client_address(self._config.settings.admin_host, self.port)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.port, self._stop = self._ready.result()
        except BaseException:
            self._thread.join()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        server = AdminServer(self._config)
        port = await server.start()
        self._ready.set_result((port, lambda: loop.call_soon_threadsafe(over.set)))
        try:
            await over.wait()
        finally:
            await server.stop()


@contextmanager
def _alone(var: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(alone(var / _OPERATIONS / ".lock", "another service administers it"))
        except AlreadyRunning as error:
            raise SetupError(
                f"another service with --admin-port administers {var}; leave --admin-port out here"
            ) from error
        yield


def _whole(settings: Settings) -> Settings:
    """The same with whole paths, since workers may have another working directory."""
    sources: Path | None = settings.build_sources
    return settings.model_copy(
        update={
            "var": settings.var.resolve(),
            "build_sources": None if sources is None else sources.resolve(),
        }
    )
