"""Stores whose clock goes on by a second with every look, and real servers that machines share versions at."""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from recollect.artifacts import MODELS, ArtifactKind, ArtifactStore
from recollect.artifacts.opening import below
from recollect.artifacts.remote import Remote
from recollect.artifacts.shared import SharedStore

PLACES = ("directory", "dir", "memory", "s3", "ftp")
DEADLINE_S = 30.0


class Clock:
    """A second later with every look."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def pass_a_day(self) -> None:
        self.now += timedelta(days=1, seconds=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> ArtifactStore:
    return ArtifactStore(tmp_path / "models", clock=clock)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a Python program with `{port}` in its arguments filled in; gives its process, with `port` told of it."""
    with ExitStack() as stack:

        def start(arguments: list[str], **environment: str) -> subprocess.Popen[bytes]:
            port = _free_port()
            command = [sys.executable, *(each.format(port=port) for each in arguments)]
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **environment}
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            _listens(port, process)
            process.port = port  # type: ignore[attr-defined]
            return process

        yield start


@pytest.fixture(scope="session")
def start_s3(start_server: Callable[..., subprocess.Popen[bytes]]) -> Callable[..., subprocess.Popen[bytes]]:
    """Start an S3 server."""
    return partial(start_server, ["-m", "moto.server", "-H", "127.0.0.1", "-p", "{port}"])


@pytest.fixture(scope="session")
def s3_port(start_s3: Callable[..., subprocess.Popen[bytes]]) -> int:
    """An S3 server in a process of its own."""
    pytest.importorskip("moto")
    return start_s3().port  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def s3_environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let s3:// mean the server at a port of this machine."""

    def use(port: int) -> None:
        s3fs = pytest.importorskip("s3fs")
        # It keeps what it has opened, and would go on with the server of another test.
        s3fs.S3FileSystem.clear_instance_cache()
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        }.items():
            monkeypatch.setenv(name, value)

    return use


@pytest.fixture
def s3_url(s3_port: int, s3_environment: Callable[[int], None]) -> str:
    """A prefix in a bucket of the test's own."""
    import s3fs

    s3_environment(s3_port)
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}/shop"


@pytest.fixture(scope="session")
def start_ftp(start_server: Callable[..., subprocess.Popen[bytes]]) -> Callable[[Path], subprocess.Popen[bytes]]:
    """Start an FTP server on a directory: a file system without conditional writes, which shows half-written files."""
    pytest.importorskip("pyftpdlib")
    arguments = ["-m", "pyftpdlib", "-i", "127.0.0.1", "-p", "{port}", "-w", "-u", "me", "-P", "secret"]
    return lambda directory: start_server([*arguments, "-d", str(directory)])


@pytest.fixture(scope="session")
def ftp_server(
    start_ftp: Callable[[Path], subprocess.Popen[bytes]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """URL and directory of one for all tests."""
    directory = tmp_path_factory.mktemp("ftp")
    process = start_ftp(directory)
    return f"ftp://me:secret@127.0.0.1:{process.port}", directory  # type: ignore[attr-defined]


@pytest.fixture
def url_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """The URL of a fresh place of some kind."""

    def make(place: str) -> str:
        if place == "s3":
            return str(request.getfixturevalue("s3_url"))
        if place == "ftp":
            url, directory = request.getfixturevalue("ftp_server")
            folder = uuid.uuid4().hex
            (directory / folder).mkdir()
            return f"{url}/{folder}"
        if place == "memory":
            return f"memory://{uuid.uuid4().hex}"
        (tmp_path / "mount" / "shop").mkdir(parents=True, exist_ok=True)
        return {"directory": f"file://{tmp_path}/mount/shop", "dir": f"dir://shop::file://{tmp_path}/mount"}[place]

    return make


@pytest.fixture(params=PLACES)
def url(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    """Where machines share versions; once for every kind of place."""
    return url_of(request.param)


Machine = Callable[..., SharedStore]


@pytest.fixture
def machine_at(tmp_path: Path, clock: Clock) -> Callable[..., SharedStore]:
    """The store of a machine: `machine_at(url, "a")`."""

    def make(url: str, name: str, *, kind: ArtifactKind = MODELS) -> SharedStore:
        remote = Remote(below(url, "models"))
        return SharedStore(tmp_path / name / "models", remote, kind=kind, clock=clock, refresh_s=0)

    return make


@pytest.fixture
def model(tmp_path: Path) -> Callable[[str], Path]:
    """A directory to publish, of some content."""

    def write(content: str) -> Path:
        directory = tmp_path / f"source-{content[:20]}"
        (directory / "tables").mkdir(parents=True, exist_ok=True)
        (directory / "tables" / "weights").write_text(content * 1_000)
        (directory / "metrics.json").write_text('{"test": {"auc": 0.5}}')
        return directory

    return write


@pytest.fixture
def files_at() -> Callable[[str], list[str]]:
    """What is at a URL, whoever wrote it."""

    def listed(url: str) -> list[str]:
        return sorted(Remote(url).list())

    return listed


def kill_self() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), 9)
