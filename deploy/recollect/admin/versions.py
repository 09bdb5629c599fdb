"""What indexes and models have in common when their versions are asked for over the wire."""

from collections.abc import Callable
from typing import Any, TypeVar

from recollect.admin.checks import check_optional_name, check_page, page_token
from recollect.admin.errors import LabelMovedMeanwhile, NothingToRollBack, VersionNotFound, VersionUnusable
from recollect.admin.messages import without_paths
from recollect.artifacts import Artifact, ArtifactStore
from recollect.artifacts.labels import label_moved
from recollect.artifacts.removal import Removed
from recollect.errors import ArtifactError, LabelMoved, NothingBefore, RemoteError, VersionDamaged
from recollect.gateway.errors import CallError, artifacts_down
from recollect.gateway.validation import shown

M = TypeVar("M")


def page(store: ArtifactStore, request: Any, described: Callable[[str, str], M]) -> tuple[list[M], str]:
    """One page of versions, by name and then oldest first, and the token of the next; blocking.

    VersionNotFound where a name is given that nothing has.
    """
    check_optional_name(request.name)
    behind, size = check_page(request)
    if request.name:
        require_name(store, request.name)
    names = [request.name] if request.name else store.names()
    entries = sorted((name, version) for name in names for version in store.versions(name))
    rest = [entry for entry in entries if entry > _pair(behind)]
    shown_ones = rest[:size]
    token = page_token("/".join(shown_ones[-1])) if len(rest) > size else ""
    found = []
    for name, version in shown_ones:
        try:
            found.append(described(name, version))
        except ArtifactError:
            continue  # removed a moment ago
    return found, token


def require_name(store: ArtifactStore, name: str) -> None:
    """VersionNotFound where there is no version of `name`."""
    if not store.versions(name):
        known = ", ".join(store.names()[:20]) or "none"
        raise VersionNotFound(f"there is no {store.kind.noun} {shown(name)}; there is {known}")


def require_version(store: ArtifactStore, name: str, version: str) -> Artifact:
    """The version, its bytes not checked; VersionNotFound where there is none."""
    require_name(store, name)
    try:
        return store.version(name, version)
    except ArtifactError as error:
        known = ", ".join(store.versions(name)[-5:])
        raise VersionNotFound(f"{name} has no version {shown(version)}; the newest are {known}") from error


def require_expected(store: ArtifactStore, name: str, label: str, expected: str | None) -> str:
    """What `label` points at, "" for nothing; LabelMovedMeanwhile where that is not `expected`."""
    current = store.labelled(name, label) or ""
    if expected is not None and current != expected:
        raise refusal(store, label_moved(name, label, current, expected))
    return current


def refusal(store: ArtifactStore, error: ArtifactError) -> CallError:
    """What a caller is told of an error of the store."""
    if isinstance(error, RemoteError):
        return artifacts_down(error)
    message = without_paths(error, store.root)
    if isinstance(error, LabelMoved):
        return LabelMovedMeanwhile(message, current=error.current or "")
    if isinstance(error, NothingBefore):
        return NothingToRollBack(message)
    if isinstance(error, VersionDamaged):
        return VersionUnusable(message)
    return VersionNotFound(message)


def remove(store: ArtifactStore, name: str, keep: int, *, found: bool = False) -> Removed:
    """Remove what is not needed of `name`; blocking. VersionNotFound where there is none, nor was anything `found`."""
    if not found:
        require_name(store, name)
    return store.remove_unneeded(name, keep=keep)


def _pair(entry: str) -> tuple[str, str]:
    name, _, version = entry.partition("/")
    return name, version
