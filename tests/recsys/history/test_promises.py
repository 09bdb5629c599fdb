"""The history is the same whatever the order and however often events arrive, and never longer than its cap."""

import asyncio
import itertools
from itertools import pairwise

import numpy as np
import pytest

from recsys.history import EventBatch, HistoryConfig, HistoryStore

NOW = 1_700_000_000_000
HOUR_MS = 3_600_000


def open_store(url: str, **config: int) -> HistoryStore:
    return HistoryStore(url, config=HistoryConfig(timeout_s=60.0, **config), clock=lambda: NOW)


@pytest.mark.parametrize("cap", [50_000, 1_000], ids=["all fit", "trimmed"])
def test_events_sent_three_times_in_any_order_an_hour_off_make_the_same_history(each_redis_url: str, cap: int) -> None:
    """4,000 events of four days, over four connections, in an order that is up to an hour off, thrice each."""
    generator = np.random.default_rng(3)
    count = 4_000
    times = np.sort(generator.choice(96 * HOUR_MS, count, replace=False)) + NOW - 96 * HOUR_MS
    items, types = generator.integers(0, 50, count), generator.integers(0, 5, count)
    thrice = np.tile(np.arange(count), 3)
    arrivals = thrice[np.argsort(times[thrice] + generator.integers(-HOUR_MS, HOUR_MS, 3 * count), kind="stable")]
    batches = np.split(arrivals, np.sort(generator.choice(3 * count, 900, replace=False)))

    def events(at: np.ndarray) -> EventBatch:
        return EventBatch.of(items[at], times[at], types[at], [f"event-{event}" for event in at])

    async def scenario() -> None:
        async with open_store(each_redis_url, cap=cap) as store:
            await store.append("clean", events(np.arange(count)))
            for four in range(0, len(batches), 4):
                await asyncio.gather(*(store.append("sent", events(batch)) for batch in batches[four : four + 4]))
            clean, sent = await store.read("clean", limit=count), await store.read("sent", limit=count)
        assert len(clean) == min(cap, count)
        for name in ("item_ids", "times_ms", "types"):
            assert getattr(sent, name).tolist() == getattr(clean, name).tolist()
        assert sent.length == clean.length

    asyncio.run(scenario())


def test_two_hundred_thousand_events_of_one_user_keep_to_the_cap(each_redis_url: str) -> None:
    """In batches of all sizes; what is kept are the newest, in order."""
    sizes = itertools.cycle([1, 20, 500, 3_000])

    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            sent = longest = 0
            while sent < 200_000:
                some = np.arange(sent, min(sent + next(sizes), 200_000))
                longest = max(longest, (await store.append("u", EventBatch.of(some, 1_000 * some))).length)
                sent += len(some)
            history = await store.read("u", limit=200_000)
            assert longest == history.length == len(history) == 50_000
            assert history.item_ids.tolist() == list(range(150_000, 200_000))
            assert all(a < b for a, b in pairwise(history.times_ms.tolist()))

    asyncio.run(scenario())
