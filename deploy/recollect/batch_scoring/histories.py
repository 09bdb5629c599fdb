"""Where the histories of requests come from: the service's own Redis, an event store, or the requests themselves."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from recsys.history import EventSource, HistoryConfig, HistoryStore, now_ms
from recsys.history.codec import decode

_PATIENCE_S = 30.0
"""How long one read of Redis may take; nobody waits for a single row."""

Items = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose history is wanted, and as of when."""

    user_id: str
    before_ms: int | None
    """Behaviours strictly earlier count, milliseconds since the Unix epoch; None for all."""
    given: Items | None
    """[L] the history that the request brings with it, oldest first."""


class Histories(Protocol):
    """Reads histories."""

    def read(self, asked: Sequence[Asked]) -> list[Items]:
        """The latest behaviours [L] of each, oldest first, as the service would rank by them."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class HistorySource:
    """Which histories count; every worker opens them by itself."""

    limit: int
    """Longest history that is scored, in events."""
    redis_url: str | None = None
    events: Path | None = None
    """With a Redis, what it does not have is completed from there, as the service does; alone, its only source. With
    neither, requests bring their histories."""

    @contextmanager
    def opened(self) -> Iterator[Histories]:
        """The histories, for the time of a block; StoreError where there is no event store."""
        if self.redis_url is not None:
            with _InRedis(self.redis_url, self.events, self.limit) as histories:
                yield histories
        else:
            yield _Given(self.limit) if self.events is None else _InEventStore(self.events, self.limit)


class _Given:
    def __init__(self, limit: int) -> None:
        self._limit = limit

    def read(self, asked: Sequence[Asked]) -> list[Items]:
        return [np.empty(0, dtype=np.int64) if each.given is None else each.given[-self._limit :] for each in asked]


class _InEventStore:
    def __init__(self, directory: Path, limit: int) -> None:
        self._source, self._limit = EventSource(directory), limit
        self._latest_ms = now_ms() + HistoryConfig().max_clock_skew_ms

    def read(self, asked: Sequence[Asked]) -> list[Items]:
        return [self._one(each) for each in asked]

    def _one(self, asked: Asked) -> Items:
        packed = self._source.records_of(asked.user_id, cap=self._limit, latest_ms=self._latest_ms)
        records = decode(packed or b"")
        end = len(records)
        if asked.before_ms is not None:
            end = int(np.searchsorted(records.times_ms, asked.before_ms, side="left"))
        return records.item_ids[:end]


class _InRedis:
    def __init__(self, url: str, events: Path | None, limit: int) -> None:
        self._limit = limit
        self._runner = asyncio.Runner()  # a store belongs to one event loop
        self._store = HistoryStore(
            url,
            config=HistoryConfig(cap=limit, timeout_s=_PATIENCE_S),
            source=None if events is None else EventSource(events),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._store.close())
        self._runner.close()

    def read(self, asked: Sequence[Asked]) -> list[Items]:
        return self._runner.run(self._all(asked))

    async def _all(self, asked: Sequence[Asked]) -> list[Items]:
        reads = [self._store.read(each.user_id, limit=self._limit, before_ms=each.before_ms) for each in asked]
        return [history.item_ids for history in await asyncio.gather(*reads)]
