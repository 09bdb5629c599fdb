"""Garbage collection: never what a label needs or a process holds, and nothing leaks whatever dies when."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recollect.artifacts import Artifact, ArtifactStore, removal
from recollect.artifacts import store as store_module
from recollect.errors import ArtifactError


@pytest.fixture
def artifacts(store: ArtifactStore, tmp_path: Path) -> list[Artifact]:
    """Six versions, oldest first."""
    made = []
    for number in range(6):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / "weights").write_text(str(number) * 1_000)
        made.append(store.publish("dare", tmp_path / "source"))
    return made


def numbers(store: ArtifactStore, artifacts: list[Artifact]) -> list[int]:
    there = store.versions("dare")
    return [number for number, artifact in enumerate(artifacts) if artifact.version in there]


def activate(store: ArtifactStore, label: str, *chosen: Artifact) -> None:
    for artifact in chosen:
        store.set_label("dare", label, artifact.version)


def test_labels_keep_their_version_and_those_before_it(store: ArtifactStore, artifacts: list[Artifact]) -> None:
    activate(store, "stable", *artifacts[:5])
    activate(store, "canary", artifacts[0])
    removed = store.remove_unneeded("dare", keep=1)
    assert numbers(store, artifacts) == [0, 3, 4, 5]  # 5 never had a label and is the newest of these
    assert removed.versions == (artifacts[1].version, artifacts[2].version)
    assert removed.bytes > 2_000
    assert store.roll_back("dare", "stable") == artifacts[3].version


def test_keep_nothing_but_what_labels_point_at(store: ArtifactStore, artifacts: list[Artifact]) -> None:
    activate(store, "stable", artifacts[1], artifacts[2])
    store.remove_unneeded("dare", keep=0)
    assert numbers(store, artifacts) == [2]


def test_without_labels_the_newest_stay(store: ArtifactStore, artifacts: list[Artifact]) -> None:
    store.remove_unneeded("dare")
    assert numbers(store, artifacts) == [4, 5]


def test_what_a_process_holds_stays_until_it_lets_go(store: ArtifactStore, artifacts: list[Artifact]) -> None:
    activate(store, "stable", artifacts[5])
    code = (
        "import sys; from pathlib import Path; from recollect.artifacts import ArtifactStore\n"
        f"store = ArtifactStore(Path({str(store.root)!r}))\n"
        f"held = store.hold(store.resolve({artifacts[1].reference!r}))\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with store.hold(artifacts[2]):
            removed = store.remove_unneeded("dare", keep=0)
            assert removed.held == (artifacts[1].version, artifacts[2].version)
            assert numbers(store, artifacts) == [1, 2, 5]
        os.kill(process.pid, signal.SIGKILL)
    store.remove_unneeded("dare", keep=0)
    assert numbers(store, artifacts) == [5]
    assert list((store.root / "dare" / ".holds").iterdir()) == []


def test_what_is_gone_cannot_be_held(store: ArtifactStore, artifacts: list[Artifact], tmp_path: Path) -> None:
    store.remove_unneeded("dare", keep=0)
    with pytest.raises(ArtifactError, match="was removed"):
        store.hold(artifacts[0])
    with pytest.raises(ArtifactError, match="hold a version of this store"):
        store.hold(Artifact(name="dare", version="unversioned", directory=tmp_path))


def test_a_version_labelled_meanwhile_is_not_removed(store: ArtifactStore, artifacts: list[Artifact]) -> None:
    """A removal that is killed between versions leaves whole ones."""
    activate(store, "stable", artifacts[5])
    real, calls = removal.forget, []

    def dies(version: Path) -> None:
        calls.append(version)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(version)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(removal, "forget", dies)
        with pytest.raises(KeyboardInterrupt):
            store.remove_unneeded("dare", keep=0)
    assert numbers(store, artifacts) == [2, 3, 4, 5]
    for number in (2, 3, 4, 5):
        store.resolve(artifacts[number].reference)
    assert store.remove_unneeded("dare", keep=0).leftovers == 2
    assert sorted(path.name for path in (store.root / "dare").iterdir() if path.name[0] != ".") == [
        artifacts[5].version,
        "labels",
    ]


def remove_at_once(root: Path, gate: Any, told: Any) -> None:
    gate.wait(60)
    told.put(ArtifactStore(root).remove_unneeded("dare", keep=0))


def test_two_that_remove_at_once(store: ArtifactStore, tmp_path: Path) -> None:
    """Processes: what one removes, the other finds gone, and leftovers of neither are the other's."""
    (tmp_path / "source").mkdir()
    context = multiprocessing.get_context("fork")
    for again in range(3):
        made = []
        for number in range(15):
            for part in range(10):
                (tmp_path / "source" / f"{part}").write_text(f"{again} {number} {part}")
            made.append(store.publish("dare", tmp_path / "source").version)
        store.set_label("dare", "stable", made[-1])
        gate, told = context.Barrier(2), context.Queue()
        processes = [context.Process(target=remove_at_once, args=(store.root, gate, told)) for _ in range(2)]
        for process in processes:
            process.start()
        found = [told.get(timeout=60) for _ in processes]
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
        assert store.versions("dare") == made[-1:]
        assert sum(removed.leftovers for removed in found) == 0
        assert len({version for removed in found for version in removed.versions} & set(made)) == 14


def test_names_cannot_leave_the_store(store: ArtifactStore, tmp_path: Path) -> None:
    other = ArtifactStore(tmp_path / "others")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "weights").write_text("x")
    version = other.publish("dare", tmp_path / "source").version
    assert store.versions("../others/dare") == []
    with pytest.raises(ArtifactError, match="artifact name must be"):
        store.remove_unneeded("../others/dare", keep=0)
    with pytest.raises(ArtifactError, match="no version"):
        store.set_label("../others/dare", "stable", version)
    assert other.labels("dare") == {}


def test_a_publication_that_was_killed_leaves_nothing_for_long(
    store: ArtifactStore, artifacts: list[Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source" / "weights").write_text("new")
    with monkeypatch.context() as patch:
        patch.setattr(store_module.shutil, "copyfile", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.publish("dare", tmp_path / "source")
    assert list((store.root / "dare").glob("*.partial"))
    assert store.remove_unneeded("dare", keep=9).leftovers == 1
    assert not list((store.root / "dare").glob("*.partial"))
    assert len(store.versions("dare")) == 6


def test_a_full_disk_is_told_and_changes_nothing(
    store: ArtifactStore, artifacts: list[Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate(store, "stable", artifacts[0])
    (tmp_path / "source" / "weights").write_text("new")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.shutil, "copyfile", full)
    with pytest.raises(ArtifactError, match=r"cannot be published .*No space left on device.*; nothing has changed"):
        store.publish("dare", tmp_path / "source")
    assert len(store.versions("dare")) == 6
    assert not list((store.root / "dare").glob("*.partial"))
    assert store.labelled("dare", "stable") == artifacts[0].version
