"""Go through the keys of histories without holding Redis up."""

import re
from collections.abc import AsyncIterator

from recsys.history.config import HistoryConfig
from recsys.history.connection import Connection

KEYS_A_TRIP = 1_000


async def keys_like(connection: Connection, prefix: str, pattern: str) -> AsyncIterator[str]:
    """Keys of `prefix`, then a glob `pattern`; one that comes or goes meanwhile may be missed, any may come twice."""
    match = re.sub(r"([\\*?\[\]^])", r"\\\1", prefix) + pattern
    cursor: int | bytes = 0
    while True:
        cursor, keys = await connection.command("SCAN", cursor, "MATCH", match, "COUNT", KEYS_A_TRIP)
        for key in keys:
            yield bytes(key).decode()
        if int(cursor) == 0:
            return


async def deletions_in_redis(connection: Connection, config: HistoryConfig) -> dict[str, int]:
    """Every user whose deletion has left a mark, and until when, milliseconds since the Unix epoch."""
    times_ms: dict[str, int] = {}
    suffix = config.keys_of("u").deletion.removeprefix(config.keys_of("u").history)
    async for key in keys_like(connection, config.prefix, f"{{*}}{suffix}"):
        user = config.user_of(key.removesuffix(suffix))
        time_ms = await connection.command("HGET", key, "time_ms")
        if user is not None and time_ms is not None:
            times_ms[user] = int(time_ms)
    return times_ms
