"""Garbage collection where machines share versions: never what a label needs or any process anywhere holds."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recollect.artifacts import GALLERIES, INDEXES, ArtifactStore, signs
from recollect.artifacts.remote import Remote
from recollect.artifacts.shared_labels import REMEMBERED
from recollect.errors import ArtifactError, RemoteError

MachineAt = Callable[..., Any]
Model = Callable[[str], Path]


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    """A URL; once in a directory, once in S3."""
    return url_of(request.param)


@pytest.fixture
def machine(place: str, machine_at: MachineAt) -> Callable[..., Any]:
    return lambda name, **kind: machine_at(place, name, **kind)


@pytest.fixture
def versions(machine: MachineAt, model: Model, clock: Any) -> list[str]:
    """Five of machine a, a day old."""
    made = [machine("a").publish("dare", model(str(number))).version for number in range(5)]
    clock.pass_a_day()
    return made


def test_labels_keep_their_version_and_those_before_it(machine: MachineAt, versions: list[str]) -> None:
    a, b = machine("a"), machine("b")
    for version in versions[:4]:
        a.set_label("dare", "stable", version)
    b.set_label("dare", "canary", versions[0])
    removed = b.remove_unneeded("dare", keep=1)
    assert removed.versions == (versions[1],)  # 4 never had a label and is the newest of these
    assert removed.bytes > 1_000
    assert b.versions("dare") == [versions[each] for each in (0, 2, 3, 4)]
    assert b.roll_back("dare", "stable") == versions[2]
    # a has its copy still, and would share it again.
    assert a.where("dare", versions[1]) == ["here"]
    a.remove_unneeded("dare", keep=0)
    assert a.versions("dare") == [versions[0], versions[2]]


def test_what_is_young_stays(machine: MachineAt, versions: list[str], model: Model, clock: Any) -> None:
    """Its label may be on the way, on the machine that has built it."""
    a, b = machine("a"), machine("b")
    b.set_label("dare", "stable", versions[0])
    young = a.publish("dare", model("young")).version
    assert b.remove_unneeded("dare", keep=0).versions == tuple(versions[1:])
    assert b.versions("dare") == [versions[0], young]
    # The copy on this machine may go sooner.
    b.resolve(f"dare/{young}")
    removed = b.remove_unneeded("dare", keep=0)
    assert (removed.versions, removed.evicted) == ((), (young,))
    assert b.where("dare", young) == ["shared"]
    clock.pass_a_day()
    assert b.remove_unneeded("dare", keep=0).versions == (young,)


def test_a_version_that_is_shared_again_is_young(machine: MachineAt, versions: list[str]) -> None:
    """Its name is old; what counts is when it was uploaded."""
    a, b = machine("a"), machine("b")
    b.set_label("dare", "stable", versions[0])
    b.remove_unneeded("dare", keep=0)
    a._share("dare", versions[3])
    assert b.remove_unneeded("dare", keep=0).versions == ()
    assert b.versions("dare") == [versions[0], versions[3]]


HOLDER = """
import sys
from datetime import datetime
from pathlib import Path
from recollect.artifacts.remote import Remote
from recollect.artifacts.shared import SharedStore
now = datetime.fromisoformat(sys.argv[3])
store = SharedStore(Path(sys.argv[1]), Remote(sys.argv[2]), clock=lambda: now)
held = store.hold(store.resolve(sys.argv[4]))
print("held", flush=True)
sys.stdin.readline()
held.release()
print("released", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("ends", ["released", "killed"])
def test_what_a_process_elsewhere_holds_stays(
    machine: MachineAt, place: str, versions: list[str], clock: Any, tmp_path: Path, eventually: Any, ends: str
) -> None:
    a = machine("a")
    a.set_label("dare", "stable", versions[4])
    arguments = [tmp_path / "b" / "models", f"{place}/models", clock().isoformat(), f"dare/{versions[1]}"]
    command = [sys.executable, "-c", HOLDER, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"held\n"
        removed = a.remove_unneeded("dare", keep=0)
        assert removed.held == (versions[1],)
        assert a.versions("dare") == [versions[1], versions[4]]
        if ends == "released":
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"released\n"
            eventually(lambda: not a.remote.list(signs.HOLDS))
        else:
            # Nobody can tell that it is dead, so that its sign counts for a day.
            os.kill(process.pid, signal.SIGKILL)
            assert a.remove_unneeded("dare", keep=0).held == (versions[1],)
            clock.pass_a_day()
        assert a.remove_unneeded("dare", keep=0).versions == (versions[1],)
        assert a.versions("dare") == [versions[4]]
        assert a.remote.list(signs.HOLDS) == {}
        process.kill()


@pytest.mark.parametrize("ends", ["released", "held"])
def test_a_process_that_ends_in_order_leaves_no_sign(
    machine: MachineAt, place: str, versions: list[str], clock: Any, tmp_path: Path, ends: str
) -> None:
    a = machine("a")
    arguments = [tmp_path / "b" / "models", f"{place}/models", clock().isoformat(), f"dare/{versions[1]}"]
    code = HOLDER.split("print", 1)[0] + ("held.release()" if ends == "released" else "")
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True, timeout=60)
    assert a.remote.list(signs.HOLDS) == {}


def test_a_hold_is_renewed(
    machine: MachineAt, versions: list[str], clock: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signs, "RENEW_S", 0.02)
    a, b = machine("a"), machine("b")
    b.set_label("dare", "stable", versions[4])
    with a.hold(a.resolve(f"dare/{versions[1]}")):
        for _ in range(3):
            clock.pass_a_day()
            now = clock()
            (path,) = a.remote.list(signs.HOLDS)
            eventually(lambda path=path, now=now: json.loads(a.remote.read(path))["written"] > now.isoformat())
            assert b.remove_unneeded("dare", keep=0).held == (versions[1],)
    eventually(lambda: not a.remote.list(signs.HOLDS))


def test_a_hold_without_an_answer_holds_here(
    machine: MachineAt, versions: list[str], eventually: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """A replica must not stop because others cannot be told; they are as soon as that is possible."""
    monkeypatch.setattr(signs, "RETRY_S", 0.02)
    caplog.set_level(logging.WARNING, logger="recollect")
    a = machine("a")
    artifact = a.resolve(f"dare/{versions[1]}")

    def silent(path: str, data: bytes) -> None:
        raise RemoteError("no answer")

    a.remote.write = silent
    with a.hold(artifact):
        assert caplog.messages == [f"other machines are not told that dare/{versions[1]} is in use here: no answer"]
        assert ArtifactStore(a.root).remove_unneeded("dare", keep=0).held == (versions[1],)
        del a.remote.write
        eventually(lambda: a.remote.list(signs.HOLDS))
    assert len(caplog.messages) == 1


def test_an_upload_that_goes_on_is_left_alone(machine: MachineAt, model: Model, versions: list[str]) -> None:
    a, b = machine("a"), machine("b")
    b.set_label("dare", "stable", versions[0])
    real, looked = a.remote.upload, []

    def upload(file: Path, path: str, transfer: Any) -> None:
        real(file, path, transfer)
        looked.append(b.remove_unneeded("dare", keep=0).leftovers)

    a.remote.upload = upload
    version = a.publish("dare", model("new")).version
    assert looked == [0, 0]
    assert machine("c").resolve(f"dare/{version}").version == version


def test_a_version_that_is_labelled_while_it_is_removed_stays(machine: MachineAt, versions: list[str]) -> None:
    """Between the manifest's going and the last look another machine activates it."""
    a, b = machine("a"), machine("b")
    a.set_label("dare", "stable", versions[0])
    real = b.remote.remove

    def remove(paths: list[str]) -> None:
        real(paths)
        if paths == [f"dare/{versions[2]}/manifest.json"]:
            a._labels("dare").set("stable", versions[2])

    b.remote.remove = remove
    removed = b.remove_unneeded("dare", keep=0)
    assert versions[2] in removed.held
    assert removed.versions == (versions[1], *versions[3:])
    assert machine("c").resolve("dare@stable").version == versions[2]


def test_a_version_that_another_machine_is_removing_is_left_to_it(machine: MachineAt, versions: list[str]) -> None:
    """It has withdrawn the manifest, and gives it back to who began to need the version."""
    a, b, c = machine("a"), machine("b"), machine("c")
    a.set_label("dare", "stable", versions[0])
    path = f"dare/{versions[2]}/manifest.json"
    manifest, real = b.remote.read(path), c.remote.read

    def read(looked_at: str) -> bytes | None:
        if looked_at == path:
            c.remote.read = real
            b.remote.remove([path])
            found = real(looked_at)
            a._labels("dare").set("canary", versions[2])
            b.remote.write(path, manifest)
            return bytes(found) if found else None
        return real(looked_at)  # type: ignore[no-any-return]

    c.remote.read = read
    removed = c.remove_unneeded("dare", keep=0)
    assert (removed.versions, removed.held) == ((versions[1], *versions[3:]), ())
    assert machine("d").resolve("dare@canary").version == versions[2]


@pytest.mark.parametrize("has_files", [True, False])
def test_a_version_that_is_removed_while_it_is_labelled(
    machine: MachineAt, versions: list[str], has_files: bool
) -> None:
    """All of it goes after the activation looked and before the label moved: who has the files shares them again."""
    a, b = machine("a"), machine("b")
    a.set_label("dare", "stable", versions[0])
    activating = a if has_files else machine("c")
    real = activating.remote.create

    def create(path: str, data: bytes) -> bool:
        activating.remote.create = real
        b.remove_unneeded("dare", keep=0)
        return bool(real(path, data))

    activating.remote.create = create
    if has_files:
        activating.set_label("dare", "stable", versions[2])
        assert machine("d").resolve("dare@stable").version == versions[2]
    else:
        with pytest.raises(RemoteError, match=f"was removed by another machine .* dare@stable points at {versions[0]}"):
            activating.set_label("dare", "stable", versions[2])
        assert machine("d").resolve("dare@stable").version == versions[0]


def test_old_changes_of_labels_are_forgotten(url_of: Callable[[str], str], machine_at: MachineAt, model: Model) -> None:
    store = machine_at(url_of("directory"), "a")
    versions = [store.publish("dare", model(name)).version for name in ("one", "two")]
    for number in range(REMEMBERED + 5):
        store.set_label("dare", "stable", versions[number % 2])
    store.set_label("dare", "canary", versions[0])
    store.remove_unneeded("dare")
    told = store.label_history("dare")
    assert [each.label for each in told].count("stable") == REMEMBERED
    assert [each.label for each in told].count("canary") == 1
    assert store.labels("dare") == {"canary": versions[0], "stable": versions[(REMEMBERED + 4) % 2]}
    store.set_label("dare", "stable", versions[1])
    assert store.roll_back("dare", "stable") == versions[0]


def test_versions_of_another_kind_stay(url_of: Callable[[str], str], machine_at: MachineAt, tmp_path: Path) -> None:
    url = url_of("directory")
    (tmp_path / "source" / "index").mkdir(parents=True)
    (tmp_path / "source" / "index" / "file").write_text("x")
    indexes = machine_at(url, "a", kind=INDEXES)
    version = indexes.publish("items", tmp_path / "source").version
    machine_at(url, "a", kind=GALLERIES).remove_unneeded("items", keep=0)
    assert indexes.versions("items") == [version]
    assert indexes.verify(f"items/{version}").version == version


def test_a_damaged_manifest_keeps_its_files(
    url_of: Callable[[str], str], machine_at: MachineAt, model: Model, clock: Any
) -> None:
    """A manifest of a later release, or one that was altered, is not half of an upload."""
    store = machine_at(url_of("directory"), "a")
    version = store.publish("dare", model("first")).version
    path = f"dare/{version}/manifest.json"
    store.remote.write(path, store.remote.read(path).replace(b'"schema_version": 1', b'"schema_version": 2'))
    clock.pass_a_day()
    store = machine_at(store.remote.url.removesuffix("/models"), "b")
    assert store.versions("dare") == []
    assert store.remove_unneeded("dare", keep=0).leftovers == 0
    assert len(store.remote.list("dare")) == 3


def test_what_this_machine_alone_labelled_stays_here(
    url_of: Callable[[str], str], machine_at: MachineAt, model: Model
) -> None:
    """From before machines shared."""
    store = machine_at(url_of("directory"), "a")
    alone = ArtifactStore(store.root)
    versions = [alone.publish("dare", model(name)).version for name in ("one", "two")]
    alone.set_label("dare", "stable", versions[0])
    assert store.remove_unneeded("dare", keep=0).versions == (versions[1],)
    assert alone.resolve("dare@stable").version == versions[0]


def test_what_is_remembered_of_removed_versions_goes(machine: MachineAt, versions: list[str]) -> None:
    b = machine("b")
    b.set_label("dare", "stable", versions[0])
    b.version("dare", versions[3])
    b.remove_unneeded("dare", keep=0)
    remembered = sorted(path.stem for path in (b.root / ".shared").glob("*/manifests/dare/*.json"))
    assert remembered == versions[:1]
    assert not list((b.root / ".shared").glob("*/glances/dare/*"))
    with pytest.raises(ArtifactError, match=f"no version '{versions[3]}' of 'dare'"):
        b.resolve(f"dare/{versions[3]}")


def test_nothing_is_removed_without_an_answer(machine: MachineAt, versions: list[str]) -> None:
    a = machine("a")

    def silent(below: str = "") -> dict[str, int | None]:
        raise RemoteError("no answer")

    a.remote.list = silent
    with pytest.raises(RemoteError, match="no answer"):
        a.remove_unneeded("dare", keep=0)
    a.remote.list = lambda below="": Remote.list(a.remote, below)
    assert a.versions_here("dare") == versions
    assert a.versions("dare") == versions
