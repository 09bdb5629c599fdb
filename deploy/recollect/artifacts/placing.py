"""Put a version in its place: as a whole where there is none, file by file where some of its files are damaged."""

import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from recollect.artifacts.holds import hold
from recollect.artifacts.manifests import MANIFEST_FILE, Manifest, as_text, read_manifest
from recollect.errors import VersionDamaged
from retrieval.files import digest, sync


def kept(directory: Path) -> AbstractContextManager[object]:
    """Keep what there is of a version in `directory` from being removed until the block ends."""
    return hold(directory) if directory.is_dir() else nullcontext()


def lacking(directory: Path, manifest: Manifest) -> dict[str, Any]:
    """The files of a version that are missing in its `directory` or altered, as `manifest` has them; all of them where
    it has no manifest there that can be read."""
    try:
        read_manifest(directory)
    except VersionDamaged:
        return dict(manifest["files"])
    return {file: entry for file, entry in manifest["files"].items() if _found(directory / file) != entry}


def put_in_place(partial: Path, directory: Path, manifest: Manifest, files: dict[str, Any]) -> None:
    """Make what lies in `partial`, which are `files` of a version, part of it; `partial` is gone then.

    Each file of a version that is there gets into its place in one step: who reads has the old one or the new one.
    """
    (partial / MANIFEST_FILE).write_text(as_text(manifest))
    sync(partial / MANIFEST_FILE)
    if directory.is_dir():
        for file in [*files, MANIFEST_FILE]:
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            (partial / file).replace(directory / file)
            sync((directory / file).parent)
        shutil.rmtree(partial)
    else:
        partial.rename(directory)
    sync(directory.parent)


def _found(path: Path) -> dict[str, Any] | None:
    return digest(path) if path.is_file() else None
