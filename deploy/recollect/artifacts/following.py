"""Follow a label while answering: what it points at is opened beside the present version, then takes its place."""

import asyncio
import contextlib
import logging
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

from recollect.artifacts.holds import Hold
from recollect.artifacts.kinds import Artifact, ArtifactKind
from recollect.artifacts.opening import open_store
from recollect.artifacts.store import ArtifactStore
from recollect.errors import ArtifactError, RemoteError
from recollect.telemetry.answers import serving
from recsys.errors import RecsysError
from retrieval.errors import RetrievalError

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often the label is looked at."""
RETRY_S = 30.0
"""How long a version that could not be fetched is left alone."""


class Served(Protocol):
    """A version that answers."""

    @property
    def version(self) -> str:
        """Which one."""
        ...

    @property
    def hold(self) -> Hold:
        """Keeps it from being removed."""
        ...


S = TypeVar("S", bound=Served)


class Followed(ABC, Generic[S]):
    """The version that a label points at, opened; a call takes `current` once and keeps it.

    A version that cannot be opened leaves the present one answering, and is tried again when the label moves; one that
    cannot be fetched also after a while.
    """

    def __init__(self, store: ArtifactStore, reference: str, *, look_s: float = LOOK_S) -> None:
        """Opens the version now: ArtifactError, or what `_open` raises, where there is none that can be."""
        self._store = store
        self._name, self._label = split_reference(reference, store.kind)
        self._look_s = look_s
        self._failed: str | None = None
        self._again_at = float("inf")
        self.current = self._opened(store.resolve(reference))
        serving(store.kind.noun, self._name, self.current.version)

    async def follow(self) -> None:
        """Look at the label for ever; run it as a task."""
        while True:
            await asyncio.sleep(self._look_s)
            with contextlib.suppress(OSError):  # looked at again soon
                await self.look()

    async def look(self) -> None:
        """Go over to the version that the label points at, if it is another one."""
        await asyncio.to_thread(self._store.refresh)
        version = self._store.last_seen(self._name, self._label)
        failed = self._failed if time.monotonic() < self._again_at else None
        if version is None or version in (self.current.version, failed):
            return
        try:
            opened = await asyncio.to_thread(lambda: self._opened(self._store.resolve(f"{self._name}/{version}")))
        except (ArtifactError, RecsysError, RetrievalError) as error:
            self._failed = version
            self._again_at = time.monotonic() + RETRY_S if isinstance(error, RemoteError) else float("inf")
            noun = self._store.kind.noun
            log.exception("%s %s/%s cannot be opened, %s answers on", noun, self._name, version, self.current.version)
            return
        self._failed = None
        before, self.current = self.current, opened
        serving(self._store.kind.noun, self._name, version)
        before.hold.release()  # who still uses it has it in memory

    def close(self) -> None:
        """Let the version go."""
        self.current.hold.release()

    @abstractmethod
    def _open(self, artifact: Artifact, hold: Hold) -> S:
        """Make a version, whose bytes are checked and which is held, one that answers."""

    def _opened(self, artifact: Artifact) -> S:
        hold = self._store.hold(artifact)
        try:
            return self._open(artifact, hold)
        except BaseException:
            hold.release()
            raise


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledSource:
    """Which label is followed. Pickled into every replica."""

    kind: ClassVar[ArtifactKind]
    root: Path
    """Directory of all versions."""
    reference: str
    """`items@stable`."""
    shared: str | None = None
    """URL where machines share them; None: they do not."""

    @property
    def store(self) -> ArtifactStore:
        """The versions."""
        return open_store(self.root, shared=self.shared, kind=self.kind)

    def check(self) -> None:
        """ArtifactError where there is no such version or it is altered."""
        split_reference(self.reference, self.kind)
        self.store.resolve(self.reference)


def split_reference(reference: str, kind: ArtifactKind) -> tuple[str, str]:
    """Name and label of `items@stable`; ArtifactError for anything else, since a version never becomes another one."""
    name, at, label = reference.partition("@")
    if not (name and at and label):
        raise ArtifactError(f"{kind.noun} must be NAME@LABEL such as items@stable, got {reference!r}")
    return name, label
