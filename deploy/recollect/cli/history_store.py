"""Open the histories for a command: in the Redis that is configured, else in the private one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from recsys.history import EventSource, HistoryStore

PATIENCE_S = 5.0
"""How long a person waits for Redis, where a request waits for `redis_timeout_s`, in seconds."""

RedisOption = Annotated[
    str | None,
    typer.Option(
        "--redis",
        metavar="URL",
        help="Redis to use, as redis://HOST:6379/0, unix://PATH or rediss://USER:PASSWORD@HOST:6379/0?ssl_ca_certs=FILE.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")]


@contextmanager
def history_url(url: str | None) -> Iterator[str]:
    """`url`, or that of the Redis that is configured or private; a private one runs for the time of the block."""
    from recollect.embedded.redis import history_redis
    from recollect.settings import Settings

    with history_redis(Settings.load(redis_url=url)) as address:
        yield address


def open_histories(url: str, *, source: "EventSource | None" = None) -> "HistoryStore":
    """The histories at `url`, for a person who can wait a little."""
    from recollect.settings import Settings
    from recsys.history import HistoryConfig, HistoryStore

    settings = Settings()
    config = HistoryConfig(cap=settings.history_limit, timeout_s=max(settings.redis_timeout_s, PATIENCE_S))
    return HistoryStore(url, config=config, source=source)
