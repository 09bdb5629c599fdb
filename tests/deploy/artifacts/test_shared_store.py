"""Machines share versions: what one publishes another serves, checked, whatever the place is."""

import json
import logging
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from recollect.artifacts import GALLERIES, INDEXES, ArtifactStore
from recollect.artifacts.opening import below, open_store
from recollect.artifacts.remote import Remote
from recollect.artifacts.transfers import heard
from recollect.errors import ArtifactError, LabelMoved, RemoteError

MachineAt = Callable[..., Any]
Model = Callable[[str], Path]
PLACES = ("directory", "s3")
"""For what does not depend on the place: the simplest, and the one that most will use."""


@pytest.fixture(params=PLACES)
def usual_url(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    return url_of(request.param)


def test_what_one_machine_publishes_another_resolves(url: str, machine_at: MachineAt, model: Model) -> None:
    here, there = machine_at(url, "a"), machine_at(url, "b")
    first = here.publish("dare", model("first"), parents={"store": "x"})
    second = here.publish("dare", model("second"))
    here.set_label("dare", "stable", first.version)
    found = there.resolve("dare@stable")
    assert (found.name, found.version) == ("dare", first.version)
    assert found.directory == there.root / "dare" / first.version
    assert (found.directory / "tables" / "weights").read_text() == "first" * 1_000
    assert json.loads((found.directory / "manifest.json").read_text())["parents"] == {"store": "x"}
    there.set_label("dare", "stable", second.version)
    assert here.labelled("dare", "stable") == second.version
    assert there.resolve("dare@stable").version == second.version
    assert there.names() == here.names() == ["dare"]
    assert there.versions("dare") == [first.version, second.version]
    assert here.roll_back("dare", "stable") == first.version
    assert there.labels("dare") == {"stable": first.version}
    told = [(each.version, each.before, each.how) for each in there.label_history("dare")]
    assert told == [
        (first.version, None, "set"),
        (second.version, first.version, "set"),
        (first.version, second.version, "rollback"),
    ]


def test_what_is_fetched_is_fetched_once(usual_url: str, machine_at: MachineAt, model: Model) -> None:
    here, there = machine_at(usual_url, "a"), machine_at(usual_url, "b")
    version = here.publish("dare", model("first")).version
    told: list[tuple[str, int, int]] = []
    with heard(lambda *said: told.append(said)):
        there.resolve(f"dare/{version}")
        there.resolve(f"dare/{version}")
    size = sum(path.stat().st_size for path in model("first").rglob("*") if path.is_file())
    assert {what for what, _, _ in told} == {f"fetching dare/{version}"}
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[0][1:] == (0, size)
    assert told[-1][1:] == (size, size)
    assert there.where("dare", version) == ["here", "shared"]


def test_the_same_content_is_one_version(usual_url: str, machine_at: MachineAt, model: Model) -> None:
    """Two builders on two machines come to the same result."""
    a, b = machine_at(usual_url, "a"), machine_at(usual_url, "b")
    first = a.publish("dare", model("first"))
    again = b.publish("dare", model("first"))
    assert again.version == first.version
    assert again.directory != first.directory
    assert b.versions("dare") == [first.version]


def test_two_builders_that_expect_the_same(url: str, machine_at: MachineAt, model: Model) -> None:
    a, b = machine_at(url, "a"), machine_at(url, "b")
    versions = [store.publish("dare", model(name)).version for store, name in ((a, "one"), (b, "two"), (a, "three"))]
    a.set_label("dare", "stable", versions[0])
    b.set_label("dare", "stable", versions[1], expected=versions[0])
    with pytest.raises(LabelMoved, match=f"points at {versions[1]}, not at {versions[0]} as expected"):
        a.set_label("dare", "stable", versions[2], expected=versions[0])
    assert b.labelled("dare", "stable") == versions[1]


def test_a_label_that_moves_between_looking_and_moving(usual_url: str, machine_at: MachineAt, model: Model) -> None:
    """The other machine is faster by a moment: with an expectation that is an error, without one the last one wins."""
    a, b = machine_at(usual_url, "a"), machine_at(usual_url, "b")
    versions = [a.publish("dare", model(name)).version for name in ("one", "two", "three")]
    a.set_label("dare", "stable", versions[0])
    a.set_label("dare", "stable", versions[1])
    labels = a._labels("dare")
    with labels.changing():
        b.set_label("dare", "stable", versions[2])
        with pytest.raises(LabelMoved, match=f"points at {versions[2]}, not at {versions[1]} as expected") as caught:
            labels.set("stable", versions[0], expected=versions[1])
        assert caught.value.current == versions[2]
    with labels.changing():
        b.set_label("dare", "stable", versions[1])
        with pytest.raises(LabelMoved, match="was moved by another machine at this very moment"):
            labels.set("stable", labels.previous("stable"), how="rollback")
    assert b.labelled("dare", "stable") == versions[1]
    with labels.changing():
        b.set_label("dare", "stable", versions[2])
        labels.set("stable", versions[0])
    assert b.labelled("dare", "stable") == versions[0]
    assert [each.version for each in b.label_history("dare")] == [versions[each] for each in (0, 1, 2, 1, 2, 0)]


@pytest.mark.parametrize("where", ["resolve", "verify"])
def test_what_was_altered_there_is_not_used(url: str, machine_at: MachineAt, model: Model, where: str) -> None:
    here, there = machine_at(url, "a"), machine_at(url, "b")
    version = here.publish("dare", model("first")).version
    path = f"dare/{version}/tables/weights"
    here.remote.write(path, b"X" + here.remote.read(path)[1:])
    with pytest.raises(RemoteError, match=f"{path} is altered since it was published; restore it or use another"):
        there.resolve(f"dare/{version}")
    assert not (there.root / "dare" / version).exists()
    # What was whole is not fetched again, and what is restored is used.
    here.remote.write(path, (here.root / path).read_bytes())
    assert there.verify(f"dare/{version}").version == version
    here.remote.write(path, here.remote.read(path)[:-1])
    with pytest.raises(RemoteError, match=f"{path} has 4,999 bytes and should have 5,000; restore it"):
        here.verify(f"dare/{version}")
    here.remote.remove([path])
    with pytest.raises(RemoteError, match=f"{path} is missing"):
        there.verify(f"dare/{version}")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda data: data[:-10], "is torn", id="torn"),
        pytest.param(lambda data: data.replace(b'"sha256": "', b'"sha256": "0'), "is altered", id="hash"),
        pytest.param(lambda data: data.replace(b"tables/weights", b"../../weights"), "is altered", id="outside"),
        pytest.param(
            lambda data: data.replace(b'"schema_version": 1', b'"schema_version": 9'), "schema 9", id="schema"
        ),
        pytest.param(lambda _: b"[]", "is torn", id="something else"),
    ],
)
def test_an_altered_manifest_is_not_believed(
    url_of: Callable[[str], str],
    machine_at: MachineAt,
    model: Model,
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    url = url_of("directory")
    here, there = machine_at(url, "a"), machine_at(url, "b")
    version = here.publish("dare", model("first")).version
    here.set_label("dare", "stable", version)
    path = f"dare/{version}/manifest.json"
    here.remote.write(path, damage(here.remote.read(path)))
    with pytest.raises(RemoteError, match=message):
        there.resolve("dare@stable")
    assert there.versions("dare") == []


def test_files_stay_inside_their_version(url_of: Callable[[str], str], machine_at: MachineAt, model: Model) -> None:
    """A manifest that is consistent with itself and names a path elsewhere: nothing is written there."""
    from recollect.artifacts.manifests import content_of

    url = url_of("directory")
    here, there = machine_at(url, "a"), machine_at(url, "b")
    version = here.publish("dare", model("first")).version
    manifest = json.loads(here.remote.read(f"dare/{version}/manifest.json"))
    manifest["files"]["../../../evil"] = manifest["files"].pop("metrics.json")
    bad = f"{version[:-8]}{content_of(manifest['files'])[:8]}"
    here.remote.write(f"dare/{bad}/manifest.json", json.dumps({**manifest, "version": bad}).encode())
    with pytest.raises(RemoteError, match=r"names '../../../evil', which is not a file of a version"):
        there.resolve(f"dare/{bad}")


def test_a_truncated_upload_is_found(url_of: Callable[[str], str], machine_at: MachineAt, model: Model) -> None:
    """A file system that takes half and says nothing."""
    url = url_of("directory")
    here, there = machine_at(url, "a"), machine_at(url, "b")
    real = here.remote.upload

    def half(file: Path, path: str, transfer: Any) -> None:
        real(file, path, transfer)
        if path.endswith("weights"):
            here.remote.write(path, file.read_bytes()[:100])

    here.remote.upload = half
    with pytest.raises(RemoteError, match=r"is whole here, in .*, but not shared yet: .*weights has 100 bytes and"):
        here.publish("dare", model("first"))
    version = here.versions_here("dare")[0]
    assert there.versions("dare") == []
    with pytest.raises(ArtifactError, match="no version"):
        there.resolve(f"dare/{version}")
    here.remote.upload = real
    here.set_label("dare", "stable", version)
    assert there.resolve("dare@stable").version == version


def test_what_was_published_before_machines_shared(usual_url: str, machine_at: MachineAt, model: Model) -> None:
    """Activating a version that is only here shares it."""
    store = machine_at(usual_url, "a")
    alone = ArtifactStore(store.root)
    version = alone.publish("dare", model("first")).version
    alone.set_label("dare", "stable", version)
    assert store.versions("dare") == [version]
    assert store.where("dare", version) == ["here"]
    with pytest.raises(ArtifactError, match=r"no model 'dare@stable' in .*: there is no label of 'dare'"):
        store.resolve("dare@stable")
    store.set_label("dare", "stable", version)
    assert machine_at(usual_url, "b").resolve("dare@stable").version == version
    # A damaged one is not.
    second = alone.publish("dare", model("second"))
    (second.directory / "metrics.json").write_text("x")
    with pytest.raises(ArtifactError, match=r"metrics.json is altered"):
        store.set_label("dare", "stable", second.version)


def test_nothing_is_known_of_what_is_not_there(url: str, machine_at: MachineAt, model: Model) -> None:
    store = machine_at(url, "a")
    assert store.names() == []
    assert store.versions("dare") == []
    assert store.labels("dare") == {}
    assert store.labelled("dare", "stable") is None
    assert not store.has("dare/1")
    with pytest.raises(ArtifactError, match="there is no label of 'dare'; train one"):
        store.resolve("dare@stable")
    with pytest.raises(ArtifactError, match=r"no version '1' of 'dare' in .*; versions there: none"):
        store.set_label("dare", "stable", "1")
    with pytest.raises(ArtifactError, match="no version '1' of 'dare'"):
        store.resolve("dare/1")
    with pytest.raises(ArtifactError, match="no model 'dare@stable'"):
        store.roll_back("dare", "stable")
    with pytest.raises(ArtifactError, match="neither"):
        store.resolve("dare")
    assert store.resolve(str(model("first"))).version == "unversioned"


def test_kinds_are_kept_apart(usual_url: str, machine_at: MachineAt, tmp_path: Path) -> None:
    for kind in ("index", "gallery"):
        (tmp_path / f"source-{kind}" / kind).mkdir(parents=True)
        (tmp_path / f"source-{kind}" / kind / "file").write_text("x")
    indexes, galleries = machine_at(usual_url, "a", kind=INDEXES), machine_at(usual_url, "b", kind=GALLERIES)
    index, gallery = (
        indexes.publish("items", tmp_path / "source-index"),
        galleries.publish("shop", tmp_path / "source-gallery"),
    )
    assert (indexes.names(), galleries.names()) == (["items"], ["shop"])
    with pytest.raises(ArtifactError, match=r"'items' in .* is not gallery but something else; choose another name"):
        galleries.publish("items", tmp_path / "source-gallery")
    indexes.set_label("items", "stable", index.version)
    galleries.set_label("shop", "stable", gallery.version)
    fresh = machine_at(usual_url, "c", kind=GALLERIES)
    fresh.refresh(now=True)
    assert fresh.all_last_seen("stable") == {"shop": gallery.version}
    assert machine_at(usual_url, "c", kind=INDEXES).all_last_seen("stable") == {"items": index.version}


def test_a_list_fetches_only_what_it_tells(usual_url: str, machine_at: MachineAt, model: Model) -> None:
    here, there = machine_at(usual_url, "a"), machine_at(usual_url, "b")
    version = here.publish("dare", model("first")).version
    seen = there.version("dare", version)
    assert json.loads((seen.directory / "metrics.json").read_text()) == {"test": {"auc": 0.5}}
    assert not (seen.directory / "tables").exists()
    assert there.bytes_of(seen) == 5_000 + len('{"test": {"auc": 0.5}}')
    assert there.where("dare", version) == ["shared"]
    assert there.versions_here("dare") == []


def test_many_threads_of_a_machine_look_at_once(
    url_of: Callable[[str], str], machine_at: MachineAt, model: Model
) -> None:
    url = url_of("directory")
    here = machine_at(url, "a")
    versions = [here.publish("dare", model(name)).version for name in ("one", "two", "three")]
    here.set_label("dare", "stable", versions[0])
    stores, gate = [machine_at(url, "b") for _ in range(8)], threading.Barrier(8)

    def look(store: Any) -> tuple[Any, ...]:
        gate.wait(30)
        return (
            store.versions("dare"),
            store.version("dare", versions[1]).version,
            store.labels("dare"),
            store.resolve("dare@stable").version,
        )

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(look, stores))
    assert found == [(versions, versions[1], {"stable": versions[0]}, versions[0])] * 8


def test_what_this_machine_has_goes_on_without_the_place(
    url_of: Callable[[str], str], machine_at: MachineAt, model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory that is emptied, then gone: what is known stays known."""
    url = url_of("directory")
    here, there = machine_at(url, "a"), machine_at(url, "b")
    version = here.publish("dare", model("first")).version
    here.set_label("dare", "stable", version)
    there.resolve("dare@stable")
    shutil.rmtree(tmp_path / "mount" / "shop" / "models")
    caplog.set_level(logging.WARNING, logger="recollect")
    assert there.resolve("dare@stable").version == version
    assert there.last_seen("dare", "stable") == version
    there.refresh(now=True)
    assert [each.message for each in caplog.records].count(
        f"dare@stable is not in {there.remote.shown} any more; it is taken as last seen"
    ) == 1
    (tmp_path / "mount" / "shop").rmdir()
    assert there.resolve("dare@stable").version == version
    assert f"there is no folder {tmp_path}/mount/shop; mount it" in caplog.messages[-1]
    with pytest.raises(RemoteError, match=f"there is no folder {tmp_path}/mount/shop; mount it"):
        there.versions("dare")
    with pytest.raises(RemoteError, match="mount it"):
        there.publish("dare", model("second"))


def test_a_server_that_is_gone_is_told_once(
    start_s3: Callable[..., Any],
    s3_environment: Callable[[int], None],
    machine_at: MachineAt,
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    server = start_s3()
    s3_environment(server.port)
    s3fs.S3FileSystem().mkdir("bucket")
    here, there = machine_at("s3://bucket", "a"), machine_at("s3://bucket", "b")
    version = here.publish("dare", model("first")).version
    here.set_label("dare", "stable", version)
    there.resolve("dare@stable")
    server.kill()
    server.wait()
    caplog.set_level(logging.WARNING, logger="recollect")
    there.refresh()
    there.refresh()
    # Not to ask, because that was done just now, is no answer either.
    there._refresh_s = 3600.0
    there.refresh()
    there._refresh_s = 0.0
    there.refresh()
    assert there.last_seen("dare", "stable") == version
    told = [each.message for each in caplog.records]
    assert len(told) == 1
    assert told[0].startswith("what is here answers on, and labels that move are not followed: cannot list s3://bucket")
    assert there.resolve("dare@stable").version == version
    assert caplog.records[-1].message.startswith(f"dare@stable is taken as last seen, {version}: cannot list")
    with pytest.raises(RemoteError):
        there.labelled("dare", "stable")
    with pytest.raises(RemoteError, match="cannot list"):
        there.publish("dare", model("second"))
    # A machine that knows nothing cannot go on.
    with pytest.raises(RemoteError, match="cannot list s3://bucket"):
        machine_at("s3://bucket", "c").resolve("dare@stable")
    monkeypatch.setattr(Remote, "list", lambda *_: {})
    there.refresh()
    assert caplog.records[-1].message == "s3://bucket/models answers again"


def test_machines_ask_no_oftener_than_they_should(
    url_of: Callable[[str], str], machine_at: MachineAt, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = url_of("directory")
    here, there = machine_at(url, "a"), machine_at(url, "b")
    there._refresh_s = 10.0
    version = here.publish("dare", model("first")).version
    here.set_label("dare", "stable", version)
    asked = []
    monkeypatch.setattr(there.remote, "list", lambda below: asked.append(below) or Remote.list(there.remote, below))
    for _ in range(20):  # its clock goes on by more than a second each time
        there.refresh()
    assert 2 <= len(asked) <= 4
    assert there.last_seen("dare", "stable") == version


def test_a_directory_is_shared_by_its_path(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RemoteError, match=f"there is no folder {tmp_path}/mount; mount it, make it, or correct it"):
        open_store(tmp_path / "a", shared=below("mount", "models")).publish("dare", model("first"))
    (tmp_path / "mount").mkdir()
    stores = [open_store(tmp_path / name, shared=below("mount", "models")) for name in ("a", "b")]
    version = stores[0].publish("dare", model("first")).version
    assert stores[1].resolve(f"dare/{version}").version == version
    assert (tmp_path / "mount" / "models" / "dare" / version / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket/a/", "s3://bucket/a/models"),
        ("dir://a::file:///b", "dir://a/models::file:///b"),
        ("simplecache::s3://bucket/a", "simplecache::s3://bucket/a/models"),
        ("/mnt/shop", "/mnt/shop/models"),
    ],
)
def test_folders_below_a_url(url: str, expected: str) -> None:
    assert below(url, "models") == expected
