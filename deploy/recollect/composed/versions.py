"""Follow the labels of galleries: a new version is opened beside the one that answers, then takes its place."""

import asyncio
import contextlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from recollect.artifacts import GALLERIES, Hold, open_store
from recollect.composed.calls import GalleryStanding
from recollect.composed.galleries import OpenGallery, close_to
from recollect.errors import ArtifactError, RemoteError
from recollect.gateway.errors import GalleryNotFound, GalleryUnusable
from recollect.telemetry.answers import serving
from retrieval.errors import RetrievalError

log = logging.getLogger(__name__)

RETRY_S = 10.0
"""How long a version that could not be opened is left alone."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """A version that could not be opened."""

    version: str
    problem: str
    when: float


class GalleryVersions:
    """The galleries that answer. Use it in one event loop.

    Which version answers is decided by one small file, replaced in one step and read for every call; where machines
    share galleries it is what this machine has last seen of them. A version that cannot be opened, or was made with
    another model, leaves the one before in its place.
    """

    def __init__(self, root: Path, *, shared: str | None = None, label: str, fingerprint: str, look_s: float) -> None:
        """`fingerprint` is that of the model whose queries are searched for."""
        self._store = open_store(root, shared=shared, kind=GALLERIES)
        self._label = label
        self._fingerprint = fingerprint
        self._look_s = look_s
        # Hashing a large gallery must not keep searches from their threads.
        self._opening = ThreadPoolExecutor(1, thread_name_prefix="opening")
        self._open: dict[str, OpenGallery] = {}
        self._holds: dict[str, Hold] = {}
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, _Failure] = {}
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the galleries that there are, then look for new versions from time to time."""
        await asyncio.to_thread(self._store.refresh, now=True)
        await asyncio.gather(*[self._begin(name, version) for name, version in await self._labelled()])
        self._looking = asyncio.get_running_loop().create_task(self._look_for_ever())

    async def stop(self) -> None:
        """End the background work."""
        tasks = [*self._jobs.values(), *([self._looking] if self._looking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._opening.shutdown(wait=False, cancel_futures=True)
        for hold in self._holds.values():
            hold.release()

    async def current(self, name: str) -> OpenGallery:
        """The version of `name` that answers now.

        GalleryNotFound names those that there are; GalleryUnusable says why none can be opened.
        """
        # A file of a few bytes takes less time than a thread to read it in.
        version = self._store.last_seen(name, self._label)
        if version is None:
            self._open.pop(name, None)
            if name in self._holds:
                self._holds.pop(name).release()
            raise GalleryNotFound(await asyncio.to_thread(self._not_found, name))
        found = self._open.get(name)
        if found is None and await asyncio.to_thread(self._is_no_gallery, name):
            raise GalleryNotFound(await asyncio.to_thread(self._not_found, name))
        if found is None or found.version != version:
            job = self._begin(name, version)
            if found is None:
                # Shielded: another caller may wait for the same.
                await asyncio.shield(job)
                found = self._open.get(name)
        if found is None:
            raise GalleryUnusable(self._failed[name].problem)
        return found

    async def standings(self) -> tuple[GalleryStanding, ...]:
        """All galleries, by name."""
        return tuple([self._standing(name, version) for name, version in await self._labelled()])

    def _standing(self, name: str, wanted: str) -> GalleryStanding:
        found, failure = self._open.get(name), self._failed.get(name)
        problem = failure.problem if failure is not None and failure.version == wanted else ""
        if found is None:
            return GalleryStanding(name=name, problem=problem or f"version {wanted} is being opened")
        return found.standing(problem="" if found.version == wanted else problem)

    def _begin(self, name: str, version: str) -> asyncio.Task[None]:
        """The task that opens `version`, unless one opens that gallery already or it failed just now."""
        job = self._jobs.get(name)
        if job is None:
            job = self._jobs[name] = asyncio.get_running_loop().create_task(self._replace(name, version))
            job.add_done_callback(lambda _: self._jobs.pop(name, None))
        return job

    async def _replace(self, name: str, version: str) -> None:
        failure = self._failed.get(name)
        if failure is not None and failure.version == version and time.monotonic() < failure.when + RETRY_S:
            return
        try:
            opened, hold = await asyncio.get_running_loop().run_in_executor(self._opening, self._opened, name, version)
        except Exception as error:
            # What anyone may read of an error that nobody foresaw is that there was one.
            foreseen = isinstance(error, ArtifactError | RetrievalError | GalleryUnusable)
            log.exception("version %s of gallery %r cannot be opened", version, name)
            problem = str(error) if isinstance(error, GalleryUnusable) else _damaged(name, version)
            if isinstance(error, RemoteError):
                problem = f"version {version} of gallery {name!r} cannot be fetched yet; the service's log says why"
            if not foreseen:
                problem = f"gallery {name!r} cannot be opened; the service's log says why"
            self._failed[name] = _Failure(version, problem, time.monotonic())
            return
        self._failed.pop(name, None)
        self._open[name], before = opened, self._holds.get(name)
        serving("gallery", name, version)
        self._holds[name] = hold
        if before is not None:
            before.release()  # what still searches it has its files open

    def _opened(self, name: str, version: str) -> tuple[OpenGallery, Hold]:
        artifact = self._store.resolve(f"{name}/{version}")
        hold = self._store.hold(artifact)
        try:
            opened = OpenGallery.open(artifact, fingerprint=self._fingerprint)
            opened.warm()
        except BaseException:
            hold.release()
            raise
        return opened, hold

    async def _labelled(self) -> list[tuple[str, str]]:
        """Every gallery that has the label, by name, and the version that it points at."""
        found = await asyncio.to_thread(self._store.all_last_seen, self._label)
        return sorted(found.items())

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            with contextlib.suppress(OSError):  # looked at again soon
                await asyncio.to_thread(self._store.refresh)
                for name, version in await self._labelled():
                    found = self._open.get(name)
                    if found is None or found.version != version:
                        self._begin(name, version)

    def _is_no_gallery(self, name: str) -> bool:
        """Whether `name` is that of an index, which are kept beside galleries."""
        try:
            self._store.require_kind(name)
        except RemoteError:
            return False  # it will be seen when it is opened
        except ArtifactError:
            return True
        return False

    def _not_found(self, name: str) -> str:
        names = sorted(self._store.all_last_seen(self._label))
        if not names:
            return f"no gallery {name!r}: there is none yet; make one with `recollect composed index`"
        return f"no gallery {name!r}; there is {close_to(name, names)}"


def _damaged(name: str, version: str) -> str:
    return (
        f"version {version} of gallery {name!r} is damaged; publish it again, or let the label point at another one. "
        "The service's log says what is wrong"
    )
