"""Delete a user: from Redis at once, from its append-only file by a rewrite, and say how far that is.

What is done when:

- at once, in one step: the history and the remembered request ids go; a mark with the time of the deletion stays, so
  that neither a late retry nor a load from the event store brings anything older back. The mark holds the user id and
  no behaviour.
- the append-only file still has the appends until Redis has rewritten it. `rewrite_log` asks for that and waits; then
  the marks say "erased".
- the event store on the disk: `recsys.data.erasure`. Until that has run, its events of the user are not read.

Copies that Redis cannot know of, such as replicas' files, snapshots and backups, are the operator's.
"""

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from recsys.errors import HistoryError, HistoryUnavailable
from recsys.history.appending import REQUEST_BYTES, append_call
from recsys.history.codec import EventBatch, encode
from recsys.history.config import HistoryConfig
from recsys.history.connection import Connection
from recsys.history.health import info_fields
from recsys.history.scripts import APPEND, DELETE, READ

POLL_S = 0.05
"""How often a rewrite is looked after."""
PATIENCE_S = 30.0
"""How long Redis may take to say how a rewrite does: to begin one of a large memory holds everything up."""


class LogState(Enum):
    """Whether Redis's append-only file still has what was deleted."""

    PENDING = "pending"
    """It may have, until it is rewritten."""
    ERASED = "erased"
    """It has been rewritten since."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deletion:
    """The deletion of one user."""

    behaviours: int
    """How many were deleted by this very call."""
    time_ms: int
    """What is no later is deleted, milliseconds since the Unix epoch."""
    log: LogState


async def delete_history(connection: Connection, config: HistoryConfig, user_id: str, *, now_ms: int) -> Deletion:
    """What `HistoryStore.delete` does in Redis."""
    behaviours, *times = await connection.run(DELETE, (config.keys_of(user_id)[:3], (now_ms,)))
    return _deletion(min(behaviours, config.cap), *times)


async def try_out(connection: Connection, config: HistoryConfig) -> None:
    """Append, read and delete as a user of a name that nobody has; HistoryError where Redis does not let us."""
    nobody = f"\0doctor-{uuid.uuid4().hex}"
    keys = config.keys_of(nobody)
    event = encode(EventBatch.of([0], [0]))
    try:
        for _ in range(2):
            await connection.run(APPEND, append_call(config, nobody, event, request=bytes(2 * REQUEST_BYTES)))
        await connection.run(READ, (keys[:1], (1, config.cap, 1)))
        await delete_history(connection, config, nobody, now_ms=0)
    finally:
        await connection.command("DEL", *keys)


async def deletion_of(connection: Connection, config: HistoryConfig, user_id: str) -> Deletion | None:
    """What the mark that the deletion of `user_id` left says."""
    times = await connection.command("HMGET", config.keys_of(user_id).deletion, "time_ms", "erased_ms")
    return None if times[0] is None else _deletion(0, *map(int, times))


async def rewrite_log(
    connection: Connection, config: HistoryConfig, user_ids: Sequence[str], *, timeout_s: float
) -> None:
    """Let Redis rewrite its append-only file, wait for that, and mark the deletions of `user_ids` as erased.

    HistoryError where Redis does not do it: a managed one may forbid BGREWRITEAOF, and rewrites when it sees fit.
    """
    deadline = time.monotonic() + timeout_s
    marks = [config.keys_of(user_id).deletion for user_id in user_ids]
    times_ms = [await connection.command("HGET", mark, "time_ms", timeout_s=PATIENCE_S) for mark in marks]
    # A rewrite that is under way may have begun before the deletion: it does not count.
    info = await _wait(connection, deadline)
    if info.get("aof_enabled") == "1":
        await _begin(connection)
        info = await _wait(connection, deadline)
        if info.get("aof_last_bgrewrite_status") != "ok":
            raise HistoryError(
                f"Redis at {connection.address} failed to rewrite its append-only file; look into its log"
            )
    for mark, time_ms in zip(marks, times_ms, strict=True):
        if time_ms is not None:
            await connection.command("HSET", mark, "erased_ms", time_ms, timeout_s=PATIENCE_S)


def _deletion(behaviours: int, time_ms: int, erased_ms: int) -> Deletion:
    state = LogState.ERASED if erased_ms >= time_ms else LogState.PENDING
    return Deletion(behaviours=behaviours, time_ms=time_ms, log=state)


async def _begin(connection: Connection) -> None:
    """Have a rewrite begin now, or take the one that another replica has asked for since `_wait` saw none."""
    try:
        await connection.command("BGREWRITEAOF", timeout_s=PATIENCE_S)
    except HistoryUnavailable:
        raise
    except HistoryError as error:
        if "already in progress" not in str(error):
            raise


async def _wait(connection: Connection, deadline: float) -> dict[str, str]:
    """What Redis says of its persistence once no rewrite is under way or due."""
    while True:
        info = info_fields(await connection.command("INFO", "persistence", timeout_s=PATIENCE_S))
        if info.get("aof_rewrite_in_progress", "0") == "0" and info.get("aof_rewrite_scheduled", "0") == "0":
            return info
        if time.monotonic() > deadline:
            raise HistoryUnavailable(
                f"Redis at {connection.address} is still rewriting its append-only file; ask again later"
            )
        await asyncio.sleep(POLL_S)
