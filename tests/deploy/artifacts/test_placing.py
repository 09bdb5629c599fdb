"""A version whose files are damaged is whole again once the same is published, or fetched from where it is shared."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recollect.artifacts import ArtifactStore
from recollect.errors import ArtifactError, RemoteError, VersionDamaged

MachineAt = Callable[..., Any]
Model = Callable[[str], Path]
DAMAGE = [
    pytest.param(lambda directory: (directory / "tables" / "weights").write_text("x"), id="altered"),
    pytest.param(lambda directory: (directory / "tables" / "weights").unlink(), id="missing"),
]


@pytest.mark.parametrize("move", [False, True], ids=["copied", "moved"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_publishing_the_same_again_mends(
    store: ArtifactStore, model: Model, damage: Callable[[Path], object], move: bool
) -> None:
    artifact = store.publish("dare", model("first"), parents={"store": "x"})
    untouched = (artifact.directory / "metrics.json").stat()
    manifest = store.manifest(artifact)
    damage(artifact.directory)
    with pytest.raises(VersionDamaged):
        store.resolve(artifact.reference)
    assert store.publish("dare", model("first"), move=move) == artifact
    assert store.resolve(artifact.reference) == artifact
    assert (artifact.directory / "metrics.json").stat().st_ino == untouched.st_ino
    assert store.manifest(artifact) == manifest
    assert store.versions("dare") == [artifact.version]
    assert not list((store.root / "dare").glob("*.partial"))


def test_who_reads_a_file_that_is_mended_has_the_old_one_to_its_end(store: ArtifactStore, model: Model) -> None:
    artifact = store.publish("dare", model("first"))
    with (artifact.directory / "tables" / "weights").open("r+") as file:
        file.write("X")
        file.seek(0)
        store.publish("dare", model("first"))
        assert file.read(5) == "Xirst"
    assert (artifact.directory / "tables" / "weights").read_text() == "first" * 1_000


def test_what_lost_its_manifest_is_published_as_another_version(store: ArtifactStore, model: Model) -> None:
    artifact = store.publish("dare", model("first"))
    (artifact.directory / "manifest.json").write_text("{")
    again = store.publish("dare", model("first"))
    assert again.version > artifact.version
    assert store.resolve(again.reference) == again


@pytest.fixture
def url(url_of: Callable[[str], str]) -> str:
    return url_of("directory")


@pytest.mark.parametrize(
    "damage", [*DAMAGE, pytest.param(lambda d: (d / "manifest.json").write_text("{"), id="torn-manifest")]
)
@pytest.mark.parametrize("use", ["resolve", "publish", "roll_back"])
def test_what_is_damaged_here_and_whole_there(
    url: str, machine_at: MachineAt, model: Model, damage: Callable[[Path], object], use: str, caplog: Any
) -> None:
    a, b = machine_at(url, "a"), machine_at(url, "b")
    first, second = a.publish("dare", model("first")), a.publish("dare", model("second"))
    for artifact in (first, second):
        a.set_label("dare", "stable", artifact.version)
    here = b.resolve(first.reference).directory
    untouched = (here / "metrics.json").stat()
    damage(here)
    caplog.set_level(logging.WARNING, logger="recollect")
    if use == "resolve":
        assert b.resolve(first.reference).directory == here
    elif use == "publish":
        assert b.publish("dare", model("first")).directory == here
    else:
        assert b.roll_back("dare", "stable") == first.version
    assert ArtifactStore(b.root).resolve(first.reference).directory == here
    assert (here / "tables" / "weights").read_text() == "first" * 1_000
    if (here / "manifest.json").read_text() == "{":
        assert (here / "metrics.json").stat().st_ino == untouched.st_ino
    assert (f"what is damaged of {first.reference} is fetched again" in caplog.text) == (use != "publish")


def test_what_is_damaged_here_and_cannot_be_had_from_there(url: str, machine_at: MachineAt, model: Model) -> None:
    a, b = machine_at(url, "a"), machine_at(url, "b")
    artifact = a.publish("dare", model("first"))
    (b.resolve(artifact.reference).directory / "tables" / "weights").unlink()
    path = f"{artifact.reference}/tables/weights"
    b.remote.remove([path])
    with pytest.raises(
        RemoteError, match=rf"{artifact.reference} is damaged here and cannot be fetched again: .*{path}"
    ):
        b.resolve(artifact.reference)
    # It is whole on the other machine, which shares it again.
    a.publish("dare", model("first"))
    assert b.resolve(artifact.reference).version == artifact.version
    # What nobody shares cannot be mended by fetching.
    alone = ArtifactStore(b.root).publish("twin", model("second"))
    (alone.directory / "metrics.json").unlink()
    with pytest.raises(VersionDamaged, match=r"metrics\.json is missing"):
        b.resolve(alone.reference)


def test_what_another_machine_has_published_is_here_too(url: str, machine_at: MachineAt, model: Model) -> None:
    a, b = machine_at(url, "a"), machine_at(url, "b")
    first = a.publish("dare", model("first"), parents={"store": "x"})
    again = b.publish("dare", model("first"))
    assert again.version == first.version
    assert (again.directory / "tables" / "weights").read_text() == "first" * 1_000
    assert b.manifest(again)["parents"] == {"store": "x"}
    assert ArtifactStore(b.root).resolve(again.reference) == again


def test_a_full_disk_leaves_what_is_damaged_as_it_was(
    store: ArtifactStore, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = store.publish("dare", model("first"))
    (artifact.directory / "metrics.json").write_text("x")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recollect.artifacts.store.shutil.copyfile", full)
    with pytest.raises(ArtifactError, match=r"cannot be published .*No space left on device"):
        store.publish("dare", model("first"))
    assert (artifact.directory / "metrics.json").read_text() == "x"
    assert not list((store.root / "dare").glob("*.partial"))
