"""Open the store that the settings name: of this machine alone, or one that several machines share."""

from pathlib import Path
from typing import TYPE_CHECKING

from recollect.artifacts.kinds import MODELS, ArtifactKind
from recollect.artifacts.store import ArtifactStore

if TYPE_CHECKING:
    from recollect.settings import Settings


def open_store(root: Path, *, shared: str | None = None, kind: ArtifactKind = MODELS) -> ArtifactStore:
    """Versions below `root`; with `shared`, a URL, those that machines share there."""
    if shared is None:
        return ArtifactStore(root, kind=kind)
    from recollect.artifacts.remote import Remote
    from recollect.artifacts.shared import SharedStore

    return SharedStore(root, Remote(shared), kind=kind)


def shared_at(settings: "Settings", folder: str) -> str | None:
    """Where machines share what `var` has in `folder`: whole, since replicas have another working directory."""
    return None if settings.artifacts is None else below(settings.artifacts, folder)


def below(url: str, folder: str) -> str:
    """`folder` in what `url` names; of URLs that are chained by ``::`` the first that has a path leads there."""
    if ":" not in url:
        return str(Path(url).resolve() / folder)
    parts = url.split("::")
    leads = next((number for number, part in enumerate(parts) if "://" in part), len(parts) - 1)
    parts[leads] = f"{parts[leads].rstrip('/')}/{folder}"
    return "::".join(parts)


def store_in(settings: "Settings", folder: str, kind: ArtifactKind) -> ArtifactStore:
    """What `folder` of `var` has; the whole path, since replicas have another working directory."""
    return open_store(settings.var.resolve() / folder, shared=shared_at(settings, folder), kind=kind)


def models_of(settings: "Settings", kind: ArtifactKind = MODELS) -> ArtifactStore:
    """The models of this deployment."""
    return store_in(settings, "models", kind)


def indexes_of(settings: "Settings", kind: ArtifactKind) -> ArtifactStore:
    """The indexes or galleries of this deployment."""
    return store_in(settings, "indexes", kind)
