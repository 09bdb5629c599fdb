"""What was deleted leaves Redis's append-only file, whatever becomes of Redis on the way."""

import asyncio

from recollect.embedded.redis import EmbeddedRedis
from recollect.gateway.log_erasure import LogErasure
from recsys.history import EventBatch, HistoryConfig, HistoryStore, LogState


def test_a_redis_that_is_lost_meanwhile_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setattr("recollect.gateway.log_erasure.AGAIN_S", 0.05)

    async def scenario(server):
        async with HistoryStore(server.url, config=HistoryConfig(timeout_s=10)) as store:
            await store.append("u", EventBatch.of([1], [1]))
            assert (await store.delete("u")).log is LogState.PENDING
            server.stop()
            erasure = LogErasure(store)
            asked = erasure.ask("u")
            await asyncio.sleep(0.2)
            server.start()
            await asyncio.wait_for(asked, 30)
            assert (await store.delete("u")).log is LogState.ERASED
            await erasure.close()

    with EmbeddedRedis(tmp_path) as server:
        asyncio.run(scenario(server))
