"""Follow a label while answering: what it points at is opened beside the present version, then takes its place."""

import asyncio
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
"""How long a version that could not be fetched, or not be opened for a reason that nobody foresaw, is left alone."""


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


class Failure:
    """The version that could not be opened, if one could not; use it in one event loop."""

    def __init__(self) -> None:
        self._version: str | None = None
        self._again_at = 0.0

    def keeps_from(self, version: str) -> bool:
        """Whether the `version` that a label points at now is to be left alone.

        One that is damaged is, until the label was seen at another one: it may be whole when the label comes back.
        """
        if version != self._version:
            self._version = None
        return self._version is not None and time.monotonic() < self._again_at

    def note(self, version: str, error: Exception) -> bool:
        """Leave `version` alone because of `error`, for a while where that may not last; says whether it is new."""
        new, self._version = version != self._version, version
        stays = isinstance(error, ArtifactError | RecsysError | RetrievalError) and not isinstance(error, RemoteError)
        self._again_at = float("inf") if stays else time.monotonic() + RETRY_S
        return new


class Followed(ABC, Generic[S]):
    """The version that a label points at, opened; a call takes `current` once and keeps it.

    A version that cannot be opened leaves the present one answering, and is tried again when the label has moved; one
    that cannot be fetched, or for which there is no memory, also after a while.
    """

    def __init__(self, store: ArtifactStore, reference: str, *, look_s: float = LOOK_S) -> None:
        """Opens the version now: ArtifactError, or what `_open` raises, where there is none that can be."""
        self._store = store
        self._name, self._label = split_reference(reference, store.kind)
        self._look_s = look_s
        self._failure = Failure()
        self.current = self._opened(store.resolve(reference))
        serving(store.kind.noun, self._name, self.current.version)

    async def follow(self) -> None:
        """Look at the label for ever; run it as a task."""
        told = False
        while True:
            await asyncio.sleep(self._look_s)
            try:
                await self.look()
                told = False
            except Exception as error:  # looked at again soon
                if not (told or isinstance(error, OSError)):
                    log.exception(
                        "%s@%s cannot be looked at, %s answers on", self._name, self._label, self.current.version
                    )
                    told = True

    async def look(self) -> None:
        """Go over to the version that the label points at, if it is another one."""
        await asyncio.to_thread(self._store.refresh)
        version = self._store.last_seen(self._name, self._label)
        if version is None or self._failure.keeps_from(version) or version == self.current.version:
            return
        try:
            opened = await asyncio.to_thread(lambda: self._opened(self._store.resolve(f"{self._name}/{version}")))
        except Exception as error:
            # Whatever it is, memory that is short for instance: what answers answers on, and the label is followed.
            told = (self._store.kind.noun, self._name, version, self.current.version)
            if self._failure.note(version, error):
                log.exception("%s %s/%s cannot be opened, %s answers on", *told)
            else:
                log.warning("%s %s/%s cannot be opened yet, %s answers on: %r", *told, error)
            return
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
