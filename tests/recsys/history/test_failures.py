"""What a caller sees when Redis is gone, hangs, is full, or holds something else."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from recollect.embedded.redis import EmbeddedRedis
from recsys.errors import ConfigError, HistoryError, HistoryUnavailable
from recsys.history import Append, AppendResult, EventBatch, HistoryConfig, HistoryStore
from recsys.history.connection import public_address

ONE = EventBatch.of([1], [1])


def open_store(url: str, timeout_s: float = 10.0) -> HistoryStore:
    return HistoryStore(url, config=HistoryConfig(timeout_s=timeout_s), clock=lambda: 1_000)


def test_a_stopped_server_is_unavailable_and_its_return_is_noticed(tmp_path: Path) -> None:
    async def scenario(server: EmbeddedRedis) -> None:
        async with asyncio.timeout(60), open_store(server.url) as store:
            await store.append("u", ONE)
            url = server.url
            server.stop()
            for call in (
                store.append("u", ONE),
                store.append_many([Append(user_id="u", events=ONE)]),
                store.read("u", limit=1),
                store.ping(),
            ):
                with pytest.raises(HistoryUnavailable, match=rf"Redis at {url} cannot be reached .* retry"):
                    await call
            server.start()
            assert (await store.append("u", ONE)).duplicates == 1

    with EmbeddedRedis(tmp_path) as server:
        asyncio.run(scenario(server))


def test_a_server_that_hangs_is_unavailable_after_the_timeout(tmp_path: Path) -> None:
    async def scenario(server: EmbeddedRedis) -> None:
        assert server.pid is not None
        async with open_store(server.url, timeout_s=0.2) as store:
            await store.ping()
            os.kill(server.pid, signal.SIGSTOP)
            try:
                async with asyncio.timeout(30):
                    with pytest.raises(HistoryUnavailable, match=r"did not answer within 0\.2 s"):
                        await store.read("u", limit=1)
                    with pytest.raises(HistoryUnavailable):
                        await store.append_many([Append(user_id="u", events=ONE)])
            finally:
                os.kill(server.pid, signal.SIGCONT)
        async with open_store(server.url) as patient:
            assert len(await patient.read("u", limit=1)) in (0, 1)  # what was sent may have been applied late

    with EmbeddedRedis(tmp_path) as server:
        asyncio.run(scenario(server))


def test_the_password_is_never_shown(tmp_path: Path) -> None:
    async def scenario() -> str:
        async with open_store("redis://me:s3cret@127.0.0.1:1/0?client_name=s3cret") as store:
            with pytest.raises(HistoryUnavailable) as caught:
                await store.ping()
        return str(caught.value)

    message = asyncio.run(scenario())
    assert "redis://***@127.0.0.1:1/0" in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        pytest.param("redis://cache:6379/0", "redis://cache:6379/0", id="open"),
        pytest.param("rediss://u:p%40ss@cache:6379/0?x=y", "rediss://***@cache:6379/0", id="login"),
        pytest.param("redis://:p@ss@cache/0", "redis://***", id="password-not-encoded"),
        pytest.param("redis://:p/ss@cache/0", "redis://***", id="password-with-slash"),
        pytest.param("unix:///run/r.sock?password=x", "unix:///run/r.sock", id="unix"),
    ],
)
def test_addresses_as_they_are_shown(url: str, shown: str) -> None:
    assert public_address(url) == shown


@pytest.mark.parametrize("url", ["cache:6379", "http://cache", "redis://:p/ss@cache/0"])
def test_urls_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="write redis://HOST:PORT/DB") as caught:
        open_store(url)
    assert "p/ss" not in str(caught.value)


def test_a_key_of_another_type_is_named(each_redis_url: str, admin_of: Any) -> None:
    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            with admin_of(each_redis_url) as admin:
                admin.rpush(store.key_of("listed"), "x")
                admin.set(store.key_of("noted"), "something else")
            for user, say in (("listed", "WRONGTYPE"), ("noted", "HISTORYFORMAT")):
                with pytest.raises(HistoryError, match=rf"{say}.*the key holds something else") as caught:
                    await store.append(user, ONE)
                assert not isinstance(caught.value, HistoryUnavailable)
                with pytest.raises(HistoryError, match=say):
                    await store.read(user, limit=1)
            bad, good = await store.append_many([Append(user_id=user, events=ONE) for user in ("listed", "fine")])
            assert isinstance(good, AppendResult)
            assert isinstance(bad, HistoryError)
            with pytest.raises(HistoryError, match=r"key recollect:history:\{listed\}.*WRONGTYPE"):
                raise bad
            assert (await store.read("fine", limit=1)).length == 1

    asyncio.run(scenario())


def test_a_full_server_says_so_and_keeps_what_it_has(redis_binary: Path, tmp_path: Path) -> None:
    async def scenario(server: EmbeddedRedis) -> None:
        async with open_store(server.url) as store:
            await store.append("u", ONE)
            with Redis.from_url(server.url) as admin:
                admin.config_set("maxmemory", 1)
            with pytest.raises(HistoryUnavailable, match=r"used memory > 'maxmemory'.*raise maxmemory"):
                await store.append("u", EventBatch.of([2], [2]))
            assert (await store.read("u", limit=9)).item_ids.tolist() == [1]
            assert (await store.read("u", limit=9, before_ms=5)).item_ids.tolist() == [1]

    with EmbeddedRedis(tmp_path, binary=redis_binary) as server:
        asyncio.run(scenario(server))


def test_a_server_with_a_password_asks_for_it(redis_binary: Path, tmp_path: Path) -> None:
    async def scenario(server: EmbeddedRedis) -> None:
        with Redis.from_url(server.url) as admin:
            admin.config_set("requirepass", "s3cret")
            for url in (server.url, f"{server.url}?password=wrong"):
                async with open_store(url) as store:
                    with pytest.raises(HistoryError, match="put user and password into the URL") as caught:
                        await store.read("u", limit=1)
                    assert not isinstance(caught.value, HistoryUnavailable)
            async with open_store(f"{server.url}?password=s3cret") as store:
                assert (await store.append("u", ONE)).accepted == 1
            admin.config_set("requirepass", "")

    with EmbeddedRedis(tmp_path, binary=redis_binary) as server:
        asyncio.run(scenario(server))


def test_check_reports_persistence_and_warns_of_its_absence(redis_binary: Path, tmp_path: Path) -> None:
    async def scenario(server: EmbeddedRedis, admin: Any) -> None:
        async with open_store(server.url) as store:
            report = await store.check()
            assert report.persistence == "append-only file, fsync everysec"
            assert report.eviction == "noeviction"
            assert report.server.split()[0] in ("redis", "valkey")
            assert report.warnings == []
            admin.config_set("appendonly", "no")
            admin.config_set("maxmemory", 10**9)
            admin.config_set("maxmemory-policy", "allkeys-lru")
            report = await store.check()
            assert report.persistence == "none"
            assert report.memory_limit_bytes == 10**9
            assert [warning.split(" is ")[0] for warning in report.warnings] == ["appendonly", "maxmemory-policy"]

    with EmbeddedRedis(tmp_path, binary=redis_binary) as server, Redis.from_url(server.url) as admin:
        asyncio.run(scenario(server, admin))
