"""A machine dies at every step of sharing and fetching: others see whole versions or none, and repeating goes on."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recollect.artifacts import copies, placing
from recollect.artifacts.remote import Remote
from recollect.artifacts.shared import SharedStore

MachineAt = Callable[..., Any]
Model = Callable[[str], Path]
STEPS = ("list", "read", "read_all", "write", "create", "upload", "download", "remove")
MOST_STEPS = 60


class Dying:
    """Kills its process at a step: before it, or, where a file is copied or written, in the middle of it."""

    def __init__(self, at: int, *, halfway: bool) -> None:
        self._left, self._halfway = at, halfway

    def wrap(self, store: SharedStore) -> None:
        """Count what `store` asks of its remote, and what it makes certain here."""
        for name in STEPS:
            setattr(store.remote, name, self._dying(name, getattr(store.remote, name)))
        for module in (copies, placing):
            module.sync = self._dying("sync", module.sync)  # type: ignore[attr-defined]

    def _dying(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*given: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                if self._halfway:
                    self._half(name, real, given)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given)

        return step

    def _half(self, name: str, real: Callable[..., Any], given: tuple[Any, ...]) -> None:
        if name == "upload":
            file, path, transfer = given
            torn = file.with_name(f"{file.name}.half")
            torn.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
            real(torn, path, transfer)
            torn.unlink()
        elif name == "download":
            path, file, transfer = given
            real(path, file, transfer)
            os.truncate(file, file.stat().st_size // 2)
        elif name in ("write", "create"):
            path, data = given
            remote: Remote = real.__self__  # type: ignore[attr-defined]
            if remote.url.startswith("ftp"):  # elsewhere it is there whole or not at all
                Remote(remote.url).write(path, data[: len(data) // 2])


def die_in(action: Callable[[SharedStore], object], store: SharedStore, at: int, *, halfway: bool) -> bool:
    """Whether a process that does `action` was killed at step `at`; False: it has fewer steps."""

    def run() -> None:
        Dying(at, halfway=halfway).wrap(store)
        action(store)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL), f"step {at}: ended with {process.exitcode}"
    return process.exitcode != 0


@pytest.mark.parametrize("halfway", [pytest.param(False, id="before"), pytest.param(True, id="halfway")])
@pytest.mark.parametrize("place", ["directory", pytest.param("ftp", marks=pytest.mark.slow)])
def test_a_publication_that_dies_anywhere(
    url_of: Callable[[str], str],
    machine_at: MachineAt,
    model: Model,
    clock: Any,
    files_at: Callable[[str], list[str]],
    place: str,
    halfway: bool,
) -> None:
    url = url_of(place)
    first = machine_at(url, "a").publish("dare", model("first")).version
    machine_at(url, "a").set_label("dare", "stable", first)
    old, new = model("first"), model("second")

    def publish(store: SharedStore) -> None:
        store.set_label("dare", "stable", store.publish("dare", new).version)

    contents = {directory: (directory / "tables" / "weights").read_text() for directory in (old, new)}
    steps = 0
    for at in range(1, MOST_STEPS):
        builder, reader = machine_at(url, f"builder-{at}"), machine_at(url, f"reader-{at}")
        if not die_in(publish, builder, at, halfway=halfway):
            break
        steps += 1
        # What is seen is whole, and the label points at what is seen.
        for version in reader.versions("dare"):
            found = reader.resolve(f"dare/{version}")
            assert (found.directory / "tables" / "weights").read_text() in contents.values()
        assert reader.resolve("dare@stable").version in reader.versions("dare")
        # The machine that died goes on, and so may any other.
        publish(builder if at % 2 else machine_at(url, f"other-{at}"))
        answer = reader.resolve("dare@stable")
        assert (answer.directory / "tables" / "weights").read_text() == contents[new]
        # Back to where it began, with nothing left of all this.
        reader.set_label("dare", "stable", first)
        clock.pass_a_day()
        reader.remove_unneeded("dare", keep=0)
        left = [path for path in files_at(f"{url}/models") if not path.startswith(".labels/")]
        assert left == [f"dare/{first}/{file}" for file in ("manifest.json", "metrics.json", "tables/weights")]
    assert 12 < steps < MOST_STEPS - 2


@pytest.mark.parametrize("halfway", [pytest.param(False, id="before"), pytest.param(True, id="halfway")])
def test_a_fetch_that_dies_anywhere(
    url_of: Callable[[str], str], machine_at: MachineAt, model: Model, halfway: bool
) -> None:
    url = url_of("directory")
    version = machine_at(url, "a").publish("dare", model("first")).version
    machine_at(url, "a").set_label("dare", "stable", version)

    def fetch(store: SharedStore) -> None:
        store.resolve("dare@stable")

    for at in range(1, MOST_STEPS):
        reader = machine_at(url, f"reader-{at}")
        if not die_in(fetch, reader, at, halfway=halfway):
            break
        # Whatever is there under the version's name is whole.
        assert reader.versions_here("dare") in ([], [version])
        assert reader.resolve("dare@stable").directory.name == version
        assert (reader.root / "dare" / version / "tables" / "weights").read_text() == "first" * 1_000
        assert not list((reader.root / "dare").glob("*.partial"))
    assert 8 < at < MOST_STEPS - 1


def test_a_fetch_goes_on_where_a_killed_one_stopped(
    url_of: Callable[[str], str], machine_at: MachineAt, model: Model
) -> None:
    url = url_of("directory")
    version = machine_at(url, "a").publish("dare", model("first")).version
    reader = machine_at(url, "b")
    done: list[str] = []
    real = Remote.download

    def one_then_die(store: SharedStore) -> None:
        calls = iter((True, False))
        store.remote.download = lambda *given: (  # type: ignore[method-assign]
            real(store.remote, *given) if next(calls) else os.kill(os.getpid(), signal.SIGKILL)
        )
        store.resolve(f"dare/{version}")

    assert die_in(one_then_die, reader, MOST_STEPS, halfway=False)
    assert len(list((reader.root / "dare").glob(".*.partial/**/*"))) > 1
    reader.remote.download = lambda path, *rest: done.append(path) or real(reader.remote, path, *rest)
    reader.resolve(f"dare/{version}")
    assert done == [f"dare/{version}/tables/weights"]


def test_a_fetch_that_was_killed_leaves_nothing_for_long(
    url_of: Callable[[str], str], machine_at: MachineAt, model: Model
) -> None:
    url = url_of("directory")
    version = machine_at(url, "a").publish("dare", model("first")).version
    reader = machine_at(url, "b")
    assert die_in(lambda store: store.resolve(f"dare/{version}"), reader, 7, halfway=True)
    assert list((reader.root / "dare").glob(".*.partial"))
    assert reader.remove_unneeded("dare").leftovers == 1
    assert not list((reader.root / "dare").glob(".*.partial"))


@pytest.mark.parametrize("halfway", [pytest.param(False, id="before"), pytest.param(True, id="halfway")])
@pytest.mark.parametrize("place", ["directory", pytest.param("ftp", marks=pytest.mark.slow)])
def test_a_removal_that_dies_anywhere(
    url_of: Callable[[str], str], machine_at: MachineAt, model: Model, clock: Any, place: str, halfway: bool
) -> None:
    url = url_of(place)
    keeper = machine_at(url, "a")
    stable = keeper.publish("dare", model("stable")).version
    keeper.set_label("dare", "stable", stable)
    for at in range(1, MOST_STEPS):
        unneeded = keeper.publish("dare", model(f"unneeded {at}")).version
        clock.pass_a_day()
        cleaner = machine_at(url, "b")
        died = die_in(lambda store: store.remove_unneeded("dare", keep=0), cleaner, at, halfway=halfway)
        reader = machine_at(url, f"reader-{at}")
        assert reader.resolve("dare@stable").version == stable
        if unneeded in reader.versions("dare"):
            reader.resolve(f"dare/{unneeded}")
        cleaner.remove_unneeded("dare", keep=0)
        assert list(cleaner.remote.list("dare")) == [
            f"dare/{stable}/{file}" for file in ("manifest.json", "metrics.json", "tables/weights")
        ]
        if not died:
            break
    assert 8 < at < MOST_STEPS - 1


UPLOADER = """
import os, signal, sys
from pathlib import Path
from recollect.artifacts import open_store
from recollect.artifacts.remote import Remote
import s3fs

real, number = s3fs.S3FileSystem._call_s3, iter(range(1_000))

async def dies(self, method, *rest, **given):
    if method in ("put_object", "upload_part", "complete_multipart_upload") and next(number) == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    return await real(self, method, *rest, **given)

s3fs.S3FileSystem._call_s3 = dies
store = open_store(Path(sys.argv[1]), shared=sys.argv[2])
store.set_label("dare", "stable", store.publish("dare", Path(sys.argv[3])).version)
"""


@pytest.mark.slow
def test_an_upload_to_s3_that_dies_between_requests(
    s3_url: str, machine_at: MachineAt, model: Model, tmp_path: Path
) -> None:
    """A large file goes in parts; whatever was sent of it, nobody sees it before it is whole."""
    source = model("first")
    with (source / "large").open("wb") as file:
        file.truncate(160 << 20)
    reader = machine_at(s3_url, "b")
    for at in range(20):
        arguments = [sys.executable, "-c", UPLOADER, tmp_path / "a", f"{s3_url}/models", source, str(at)]
        ended = subprocess.run([str(each) for each in arguments], capture_output=True, text=True, check=False)
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert reader.labels("dare") == {}
        for version in reader.versions("dare"):
            reader.resolve(f"dare/{version}")
    assert at > 5
    found = reader.resolve("dare@stable")
    assert (found.directory / "large").stat().st_size == 160 << 20
    assert reader.versions("dare") == [found.version]


FULL_DISK = """
mount -t tmpfs -o size=4m none "$1" || exit 77
exec "$2" -c '
import sys
from pathlib import Path
from recollect.artifacts import open_store
from recollect.errors import RemoteError
store = open_store(Path(sys.argv[1]) / "var", shared=sys.argv[2])
small, large, larger = sys.argv[3:]
store.resolve(small)
for version, reason in ((large, "make room and repeat"), (larger, "MB more, and")):
    try:
        store.resolve(version)
    except RemoteError as error:
        assert reason in str(error), error
        print(error)
    else:
        sys.exit("there was no room, and nobody said so")
    # What was begun is gone, so that the disk is not full because of it, and the rest answers.
    assert not list(store.root.glob("dare/.*.partial"))
    store.resolve(small)
    if version == large:
        (Path(sys.argv[1]) / "filler").unlink()
' "$1" "$3" "$4" "$5" "$6"
"""


def test_a_full_disk_is_told_and_changes_nothing(
    url_of: Callable[[str], str], machine_at: MachineAt, model: Model, tmp_path: Path
) -> None:
    """A real one: 4 MB. Once too little room is seen before, once it runs out on the way, since another fills it."""
    url = url_of("directory")
    here = machine_at(url, "a")
    versions = []
    for name, size in (("small", 1 << 10), ("large", 3 << 20), ("larger", 8 << 20)):
        (model(name) / "large").write_bytes(os.urandom(size))
        versions.append(here.publish("dare", model(name)).reference)
    (tmp_path / "disk").mkdir()
    # shutil.disk_usage tells of more room than there is: as if another process took it in between.
    script = FULL_DISK.replace(
        "small, large",
        "(Path(sys.argv[1]) / 'filler').write_bytes(bytes(2 << 20))\n"
        "import shutil\nreal = shutil.disk_usage\n"
        "shutil.disk_usage = lambda path: real(path)._replace(free=4 << 20)\nsmall, large",
        1,
    ).replace("'filler'", '"filler"')
    arguments = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"]
    ended = subprocess.run(
        [*arguments, str(tmp_path / "disk"), sys.executable, f"{url}/models", *versions],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode == 77 or "unshare:" in ended.stderr:
        pytest.skip(f"no disk can be mounted here: {ended.stderr}")
    assert ended.returncode == 0, ended.stderr
    first, second = ended.stdout.splitlines()
    assert "No space left on device" in first
    assert (
        f"{versions[2]} cannot be fetched into {tmp_path}/disk/var: it takes 8.4 MB more, and 4.2 MB are free" in second
    )
