"""Artifact versions: whole or absent, checked before use, labelled atomically."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recollect.artifacts import GALLERIES, ArtifactStore
from recollect.errors import ArtifactError


@pytest.fixture
def model(tmp_path: Path) -> Callable[[str], Path]:
    def write(content: str) -> Path:
        directory = tmp_path / f"source-{content}"
        directory.mkdir(exist_ok=True)
        (directory / "weights").write_text(content)
        (directory / "config.json").write_text("{}")
        return directory

    return write


def test_versions_are_published_labelled_and_resolved(store: ArtifactStore, model: Callable[[str], Path]) -> None:
    first, second = store.publish("dare", model("a")), store.publish("dare", model("b"), parents={"store": "x"})
    assert store.versions("dare") == [first.version, second.version]
    store.set_label("dare", "stable", first.version)
    assert store.resolve("dare@stable") == first
    store.set_label("dare", "stable", second.version)
    assert store.resolve("dare@stable") == second
    assert store.resolve(f"dare/{first.version}") == first
    assert (first.directory / "weights").read_text() == "a"


def test_equal_content_keeps_its_version(store: ArtifactStore, model: Callable[[str], Path]) -> None:
    assert store.publish("dare", model("a")) == store.publish("dare", model("a"))


def test_versions_sort_as_they_were_published_even_within_a_second(
    tmp_path: Path, model: Callable[[str], Path]
) -> None:
    moments = [datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC)] * 8 + [datetime(2025, 12, 31, tzinfo=UTC)] * 16
    store = ArtifactStore(tmp_path / "models", clock=iter(moments).__next__)
    published = [store.publish("dare", model(content)).version for content in "abcdefgh"]
    assert published == sorted(set(published)) == store.versions("dare")
    assert published[0].startswith("20260101T235959-")
    assert published[1].startswith("20260102T000000-")


def test_a_plain_directory_is_its_own_artifact(store: ArtifactStore, model: Callable[[str], Path]) -> None:
    artifact = store.resolve(str(model("a")))
    assert (artifact.name, artifact.version) == ("source-a", "unversioned")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda d: (d / "weights").write_text("x"), "weights is altered", id="altered"),
        pytest.param(lambda d: (d / "weights").unlink(), "weights is missing", id="missing"),
        pytest.param(lambda d: (d / "manifest.json").write_text("{"), "cannot be read", id="torn-manifest"),
        pytest.param(lambda d: (d / "manifest.json").write_text("{}"), "manifest schema None", id="other-schema"),
    ],
)
def test_damage_is_found_before_use(
    store: ArtifactStore, model: Callable[[str], Path], damage: Callable[[Path], object], message: str
) -> None:
    artifact = store.publish("dare", model("a"))
    store.set_label("dare", "stable", artifact.version)
    damage(artifact.directory)
    with pytest.raises(ArtifactError, match=message):
        store.resolve("dare@stable")


def test_a_publication_that_was_cut_off_is_no_version(store: ArtifactStore, model: Callable[[str], Path]) -> None:
    artifact = store.publish("dare", model("a"))
    partial = artifact.directory.parent / ".20260101T000000-deadbeef.partial"
    partial.mkdir()
    (partial / "manifest.json").write_text("{}")
    assert store.versions("dare") == [artifact.version]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        pytest.param("dare@canary", "there is dare@stable; train one", id="label"),
        pytest.param("twin@stable", "there is no label of 'twin'", id="name"),
        pytest.param("dare/nothing", "no version 'nothing' of 'dare' in .* versions there: 2026", id="version"),
        pytest.param("../../nowhere", "neither name@label, name/version nor a directory", id="outside"),
        pytest.param("nothing", "neither name@label, name/version nor a directory$", id="word"),
        pytest.param("dare", "a directory; say dare@stable for the one that answers", id="name alone"),
    ],
)
def test_what_does_not_exist_is_told_with_what_does(
    store: ArtifactStore, model: Callable[[str], Path], reference: str, message: str
) -> None:
    store.set_label("dare", "stable", store.publish("dare", model("a")).version)
    with pytest.raises(ArtifactError, match=message):
        store.resolve(reference)


@pytest.mark.parametrize("move", [False, True], ids=["copied", "moved"])
def test_folders_are_published_whole_and_every_file_in_them_is_checked(
    store: ArtifactStore, model: Callable[[str], Path], move: bool
) -> None:
    source = model("a")
    inner = source / "inner" / "most"
    inner.mkdir(parents=True)
    (inner / "weights").write_text("b")
    # A folder's own manifest is a file like any other.
    (source / "inner" / "manifest.json").write_text("c")
    artifact = store.publish("shop", source, move=move)
    store.set_label("shop", "stable", artifact.version)
    found = {
        path.relative_to(artifact.directory).as_posix() for path in artifact.directory.rglob("*") if path.is_file()
    }
    assert found == {"config.json", "inner/manifest.json", "inner/most/weights", "manifest.json", "weights"}
    assert (source / "weights").exists() != move
    assert store.resolve("shop@stable") == artifact
    (artifact.directory / "inner" / "most" / "weights").write_text("x")
    with pytest.raises(ArtifactError, match="inner/most/weights is altered"):
        store.resolve("shop@stable")


def test_what_is_labelled_is_one_look_at_a_file(store: ArtifactStore, model: Callable[[str], Path]) -> None:
    first, second = store.publish("dare", model("a")), store.publish("dare", model("b"))
    assert store.labelled("dare", "stable") is None
    store.set_label("dare", "stable", first.version)
    assert store.labelled("dare", "stable") == first.version
    store.set_label("dare", "stable", second.version)
    assert store.labelled("dare", "stable") == second.version
    assert store.labelled("twin", "stable") is None
    for name, label in (("..", "stable"), ("dare", "../stable"), ("", ""), ("dare", "x" * 300)):
        assert store.labelled(name, label) is None


def test_names_are_those_of_which_there_is_a_version(store: ArtifactStore, model: Callable[[str], Path]) -> None:
    assert store.names() == []
    store.publish("twin", model("a"))
    store.publish("dare", model("b"))
    (store.root / "empty").mkdir()
    (store.root / ".hidden" / "v").mkdir(parents=True)
    (store.root / ".hidden" / "v" / "manifest.json").write_text("{}")
    assert store.names() == ["dare", "twin"]


def test_a_store_says_what_it_keeps(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"no gallery 'shop@stable' in .*; make one with `recollect composed index`"
    ):
        ArtifactStore(tmp_path, kind=GALLERIES).resolve("shop@stable")


def test_names_cannot_leave_the_store(store: ArtifactStore, model: Callable[[str], Path]) -> None:
    with pytest.raises(ArtifactError, match="artifact name must be"):
        store.publish("../dare", model("a"))
    store.publish("dare", model("a"))
    with pytest.raises(ArtifactError, match="label must be"):
        store.set_label("dare", "../stable", "x")


def test_a_label_points_at_nothing_unknown(store: ArtifactStore, model: Callable[[str], Path]) -> None:
    store.publish("dare", model("a"))
    with pytest.raises(ArtifactError, match="no version 'x'"):
        store.set_label("dare", "stable", "x")


def test_an_empty_directory_is_no_artifact(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="holds no files"):
        store.publish("dare", tmp_path / "empty")
