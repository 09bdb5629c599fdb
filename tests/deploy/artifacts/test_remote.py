"""What is asked of a file system, of each kind of place: real S3, real FTP, directories, fsspec's own wrappers."""

import builtins
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recollect.artifacts.remote import Remote
from recollect.artifacts.transfers import Transfer, heard
from recollect.errors import RemoteError, SetupError


@pytest.fixture
def remote(url: str) -> Remote:
    return Remote(url)


def test_what_is_written_is_there(remote: Remote) -> None:
    assert remote.list() == {}
    assert remote.list("a") == {}
    remote.write("a/b/c.json", b"123")
    remote.write(".hidden/d", b"4")
    remote.write("a/b/c.json", b"12345")
    assert remote.list() == {"a/b/c.json": 5, ".hidden/d": 1}
    assert remote.list("a") == {"a/b/c.json": 5}
    assert remote.read("a/b/c.json") == b"12345"
    assert remote.read("a/b/none") is None
    assert remote.read_all(["a/b/c.json", ".hidden/d"]) == {"a/b/c.json": b"12345", ".hidden/d": b"4"}
    assert remote.read_all([]) == {}


def test_what_others_write_is_seen_at_once(remote: Remote, url: str) -> None:
    """File systems remember listings; a label that moves must not be found in an old one."""
    other = Remote(url)
    other.write("a/1", b"1")
    assert list(remote.list("a")) == ["a/1"]
    done = threading.Thread(target=lambda: other.write("a/2", b"2"))
    done.start()
    done.join()
    assert sorted(remote.list("a")) == ["a/1", "a/2"]
    other.remove(["a/1"])
    assert list(remote.list("a")) == ["a/2"]
    assert remote.read("a/1") is None


def test_only_the_first_creates(remote: Remote, url: str) -> None:
    assert remote.create("labels/1", b"mine")
    assert not Remote(url).create("labels/1", b"yours")
    assert remote.read("labels/1") == b"mine"
    # An answer that was lost: the same is created again.
    assert remote.create("labels/1", b"mine")
    assert list(remote.list("labels")) == ["labels/1"]


@pytest.mark.parametrize("place", ["directory", "s3"])
def test_of_many_who_create_at_once_one_does(url_of: Callable[[str], str], place: str) -> None:
    remote = Remote(url_of(place))
    gate = threading.Barrier(8)

    def create(number: int) -> bool:
        gate.wait(30)
        return remote.create("labels/1", f"{number}".encode())

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, range(8)))
    assert sum(created) == 1
    assert remote.read("labels/1") == str(created.index(True)).encode()
    assert list(remote.list("labels")) == ["labels/1"]


def test_files_go_there_and_back(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 300_000)
    told: list[int] = []
    with heard(lambda _what, done, _total: told.append(done)):
        transfer = Transfer("copying", 300_000)
        remote.upload(tmp_path / "file", "dare/1/file", transfer)
        transfer.finished(300_000)
    assert told[0] == 0
    assert told[-1] == 300_000
    assert told == sorted(told)
    assert remote.list() == {"dare/1/file": 300_000}
    remote.download("dare/1/file", tmp_path / "back", Transfer("", 1))
    assert (tmp_path / "back").read_bytes() == b"x" * 300_000


def test_what_is_removed_is_gone(remote: Remote) -> None:
    remote.write("dare/1/a/b", b"1")
    remote.write("dare/2/a/b", b"1")
    remote.remove(["dare/1/a/b", "dare/1/a/none"])
    remote.remove_folders("dare/1")
    remote.remove_folders("dare/none")
    assert list(remote.list()) == ["dare/2/a/b"]
    remote.remove_folders("dare/2")
    assert remote.read("dare/2/a/b") == b"1"


def test_what_a_killed_writer_left_goes(url_of: Callable[[str], str], tmp_path: Path) -> None:
    remote = Remote(url_of("directory"))
    remote.write("a", b"1")
    folder = tmp_path / "mount" / "shop" / ".partial"
    (folder / "left").write_bytes(b"half")
    remote.remove_partial(datetime.now(UTC) - timedelta(hours=1))
    assert [path.name for path in folder.iterdir()] == ["left"]
    remote.remove_partial(datetime.now(UTC) + timedelta(hours=1))
    assert list(folder.iterdir()) == []


def test_a_connection_that_was_closed_is_made_anew(url_of: Callable[[str], str]) -> None:
    remote = Remote(url_of("ftp"))
    remote.write("a", b"1")
    remote._opened()[0].ftp.close()
    assert remote.read("a") == b"1"


def test_a_missing_bucket_is_named(s3_url: str) -> None:
    remote = Remote("s3://no-such-bucket-anywhere/shop")
    for call in (remote.list, lambda: remote.write("a", b"1"), lambda: remote.create("a", b"1")):
        with pytest.raises(RemoteError, match="there is no bucket or folder 'no-such-bucket-anywhere'; make it"):
            call()


def test_a_refusal_is_told(url_of: Callable[[str], str]) -> None:
    url = url_of("ftp").replace("secret", "wrong")
    with pytest.raises(RemoteError, match=r"cannot reach ftp://me:…@127\.0\.0\.1:.*530") as caught:
        Remote(url).list()
    assert "wrong" not in str(caught.value)


def test_no_right_is_told(start_s3: Callable[..., Any], s3_environment: Callable[[int], None]) -> None:
    s3_environment(start_s3(INITIAL_NO_AUTH_ACTION_COUNT="0").port)
    remote = Remote("s3://bucket")
    for call, what in ((lambda: remote.write("b", b"1"), "write"), (remote.list, "list")):
        with pytest.raises(RemoteError, match=f"no right to {what} s3://bucket.*; check the credentials .*Permission"):
            call()


def test_a_server_that_is_gone_is_told(start_s3: Callable[..., Any], s3_environment: Callable[[int], None]) -> None:
    server = start_s3()
    s3_environment(server.port)
    server.kill()
    server.wait()
    with pytest.raises(RemoteError, match="cannot list s3://bucket/shop: EndpointConnectionError"):
        Remote("s3://bucket/shop").list()


def test_what_must_be_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.startswith("gcsfs"):
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SetupError, match="artifacts at gs://bucket cannot be used: Please install gcsfs"):
        Remote("gs://bucket").list()
    with pytest.raises(SetupError, match="Protocol not known: nosuch"):
        Remote("nosuch://bucket").list()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/a", "s3://bucket/a"),
        ("sftp://me:pass@host/a", "sftp://me:…@host/a"),
        ("dir://a::ftp://me:p:ss@host/b", "dir://a::ftp://me:…@host/b"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert Remote(url).shown == shown
