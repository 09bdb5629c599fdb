"""Measure when callers of slow work see their deadline, and whether work begins for one who has gone.

The work is that of a ranker that sleeps; callers come one after the other, so that each finds the only thread that
ranks at work for the one before, and then all at once.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import numpy as np

from recollect.embedded.redis import EmbeddedRedis
from recollect.gateway.benchmarks.running import running_gateway
from recollect.gateway.models import ModelSlot, ServedModel
from recollect.gateway.server import Gateway, GatewayConfig
from recollect_api.channel import ChannelConfig, open_channel
from recollect_api.v1 import recommender_pb2, recommender_pb2_grpc
from recsys.ranking import Ranking, RankingCall


class SlowRanker:
    """Takes `seconds` for each call, whose number is its one candidate; keeps when each began."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.begun: dict[int, float] = {}

    def rank(
        self,
        history_item_ids: np.ndarray,  # noqa: ARG002 - a ranker's signature
        candidate_item_ids: np.ndarray,
        *,
        explain: bool = False,  # noqa: ARG002
    ) -> Ranking:
        """Sleep."""
        numbers = candidate_item_ids.tolist()
        self.begun |= dict.fromkeys(numbers, time.perf_counter())
        time.sleep(self._seconds)
        return _nothing_found(len(numbers))

    def rank_together(self, calls: Sequence[RankingCall]) -> list[Ranking]:
        """Sleep once for all of them."""
        together = np.concatenate([call.candidate_item_ids for call in calls])
        self.rank(together, together)
        return [_nothing_found(len(call.candidate_item_ids)) for call in calls]


def _nothing_found(candidates: int) -> Ranking:
    return Ranking(
        scores=np.zeros(candidates, dtype=np.float32),
        known=np.ones(candidates, dtype=np.bool_),
        found_positions=None,
        found_weights=None,
    )


def measure(*, calls: int, deadline_ms: float, work_ms: float, at_once: bool) -> dict[str, object]:
    """What `calls` callers saw, milliseconds after they had asked, and how many works began after that."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(EmbeddedRedis(place / "redis"))
        ranker = SlowRanker(work_ms / 1_000)
        slot = ModelSlot(ServedModel(name="slow", version="1", ranker=ranker))
        gateway, _, _ = stack.enter_context(
            running_gateway(redis.url, lambda store: Gateway(GatewayConfig(), slot=slot, histories=store))
        )
        channel = stack.enter_context(open_channel(ChannelConfig(target=f"127.0.0.1:{gateway.port}")))
        stub = recommender_pb2_grpc.RecommenderStub(channel)
        grpc.channel_ready_future(channel).result(10)
        asked, seen, codes = np.zeros(calls), np.zeros(calls), [""] * calls

        def call(number: int) -> None:
            asked[number] = time.perf_counter()
            try:
                stub.Score(recommender_pb2.ScoreRequest(user_id="u", item_ids=[number]), timeout=deadline_ms / 1_000)
                codes[number] = "OK"
            except grpc.RpcError as error:
                codes[number] = error.code().name
            seen[number] = time.perf_counter()

        if at_once:
            callers = [threading.Thread(target=call, args=(number,)) for number in range(calls)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
        else:
            for number in range(calls):
                call(number)
        time.sleep(2 * work_ms / 1_000)  # whatever would still begin does so now
        taken_ms = (seen - asked) * 1_000
        late = sum(began > seen[number] for number, began in ranker.begun.items())
    return {
        "callers": "at once" if at_once else "one after the other",
        "calls": calls,
        "deadline_ms": deadline_ms,
        "work_ms": work_ms,
        "seen_p50_ms": round(float(np.median(taken_ms)), 2),
        "seen_max_ms": round(float(taken_ms.max()), 2),
        "codes": {code: codes.count(code) for code in sorted(set(codes))},
        "begun": len(ranker.begun),
        "begun_late": int(late),
    }


def main(arguments: list[str] | None = None) -> None:
    """Print a JSON line for callers one after the other and one for all at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--deadline-ms", type=float, default=50.0)
    parser.add_argument("--work-ms", type=float, default=200.0)
    given = parser.parse_args(arguments)
    for at_once in (False, True):
        row = measure(calls=given.calls, deadline_ms=given.deadline_ms, work_ms=given.work_ms, at_once=at_once)
        print(json.dumps(row))


if __name__ == "__main__":
    main()
