"""Threads that rank: what comes first, what ranks together, and what is never begun."""

import asyncio
import os
import sys
import threading
import time

import numpy as np
import pytest

from recollect.gateway import workers as gateway_workers
from recollect.gateway.errors import DeadlinePassed
from recollect.gateway.pace import Pace
from recollect.gateway.workers import MOST_PAIRS, MOST_TOGETHER, NICENESS, Calling, Priority, RankingWork, Workers
from recsys.ranking import RankingCall


class Recorder:
    """A ranker that tells which calls it ranked together; a candidate -1 fails, alone and in company."""

    def __init__(self):
        self.batches = []

    def rank(self, history_item_ids, candidate_item_ids, *, explain=False):
        call = RankingCall(history_item_ids=history_item_ids, candidate_item_ids=candidate_item_ids, explain=explain)
        return self.rank_together([call])[0]

    def rank_together(self, calls):
        ids = [call.candidate_item_ids.tolist() for call in calls]
        self.batches.append(ids)
        if any(-1 in each for each in ids):
            raise RuntimeError("a bad candidate")
        return ids


def ranking(ranker, *candidates, history=0, explain=False):
    call = RankingCall(
        history_item_ids=np.zeros(history, dtype=np.int64),
        candidate_item_ids=np.array(candidates, dtype=np.int64),
        explain=explain,
    )
    return RankingWork(ranker=ranker, call=call, answer=lambda ranked: ranked)


class Gate:
    """Work that keeps the only thread until it is opened."""

    def __init__(self):
        self.entered, self.may_go = threading.Event(), threading.Event()

    def __call__(self):
        self.entered.set()
        assert self.may_go.wait(30)


@pytest.fixture
def workers():
    workers = Workers(1)
    yield workers
    workers.close()


async def blocked(workers, *calls):
    """What becomes of `calls`, which all wait while the only thread is busy; each is (work, options)."""
    gate = Gate()
    first = asyncio.ensure_future(workers.run(Calling(gate)))
    await asyncio.to_thread(gate.entered.wait, 30)
    waiting = []
    for work, options in calls:
        waiting.append(asyncio.ensure_future(workers.run(work, **options)))
        await asyncio.sleep(0)
    return gate, first, waiting


async def outcomes(workers, *calls):
    gate, first, waiting = await blocked(workers, *calls)
    gate.may_go.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    await first
    return results


def test_calls_that_wait_rank_together_and_each_gets_its_own(workers):
    ranker = Recorder()
    results = asyncio.run(outcomes(workers, *((ranking(ranker, at, at + 1), {}) for at in range(3))))
    assert results == [[0, 1], [1, 2], [2, 3]]
    assert ranker.batches == [[[0, 1], [1, 2], [2, 3]]]


def test_an_idle_thread_waits_for_no_company(workers):
    ranker = Recorder()
    assert asyncio.run(workers.run(ranking(ranker, 5))) == [5]
    assert ranker.batches == [[[5]]]


def test_no_batch_outgrows_its_limits(workers):
    many, long = Recorder(), Recorder()
    calls = [(ranking(many, at), {}) for at in range(MOST_TOGETHER + 1)]
    calls += [(ranking(long, at, history=MOST_PAIRS // 2), {}) for at in range(3)]
    asyncio.run(outcomes(workers, *calls))
    assert [len(batch) for batch in many.batches] == [MOST_TOGETHER, 1]
    assert [len(batch) for batch in long.batches] == [2, 1]


def test_few_candidates_are_not_padded_to_many(workers):
    ranker = Recorder()
    asyncio.run(
        outcomes(workers, (ranking(ranker, *range(100)), {}), (ranking(ranker, 1), {}), (ranking(ranker, 2), {}))
    )
    assert [len(batch) for batch in ranker.batches] == [1, 2]


def test_models_never_rank_together(workers):
    before, after = Recorder(), Recorder()
    asyncio.run(outcomes(workers, (ranking(before, 1), {}), (ranking(after, 2), {}), (ranking(before, 3), {})))
    assert before.batches == [[[1]], [[3]]]
    assert after.batches == [[[2]]]


def test_one_call_that_fails_in_company_fails_alone(workers):
    ranker = Recorder()
    good, bad, other = asyncio.run(
        outcomes(workers, (ranking(ranker, 1), {}), (ranking(ranker, -1), {}), (ranking(ranker, 3), {}))
    )
    assert (good, other) == ([1], [3])
    assert isinstance(bad, RuntimeError)


def test_an_answer_that_fails_is_that_calls_alone(workers):
    ranker = Recorder()

    def refuse(_ranked):
        raise ValueError("cannot be told")

    work = ranking(ranker, 1)
    failing = RankingWork(ranker=work.ranker, call=work.call, answer=refuse)
    bad, good = asyncio.run(outcomes(workers, (failing, {}), (ranking(ranker, 2), {})))
    assert isinstance(bad, ValueError)
    assert good == [2]
    assert len(ranker.batches) == 1


def test_scoring_comes_before_batches(workers):
    done = []
    calls = [(Calling(lambda: done.append("batch")), {"priority": Priority.BATCH})] * 3
    calls += [(Calling(lambda: done.append("scoring")), {})] * 2
    asyncio.run(outcomes(workers, *calls))
    assert done == ["scoring"] * 2 + ["batch"] * 3


def test_work_past_its_deadline_is_not_begun(workers):
    begun = []

    async def main():
        gate, first, (late, timely) = await blocked(
            workers,
            (Calling(lambda: begun.append("late")), {"until": time.monotonic() + 0.05}),
            (Calling(lambda: begun.append("timely")), {"until": time.monotonic() + 60}),
        )
        await asyncio.sleep(0.1)
        gate.may_go.set()
        await timely
        await first
        with pytest.raises(DeadlinePassed):
            await late

    asyncio.run(main())
    assert begun == ["timely"]


def test_work_whose_caller_has_gone_is_not_begun(workers):
    begun = []

    async def main():
        gate, first, (gone, other) = await blocked(
            workers, (Calling(lambda: begun.append("gone")), {}), (Calling(lambda: begun.append("other")), {})
        )
        gone.cancel()
        await asyncio.sleep(0)
        gate.may_go.set()
        await other
        await first

    asyncio.run(main())
    assert begun == ["other"]


def test_what_waits_when_the_workers_close_is_cancelled():
    workers = Workers(1)

    async def main():
        gate, first, (waiting,) = await blocked(workers, (Calling(lambda: None), {}))
        workers.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.may_go.set()
        await first
        with pytest.raises(RuntimeError, match="closed"):
            await workers.run(Calling(lambda: None))

    asyncio.run(main())


class Whereabouts(Recorder):
    """Tells in which thread it ranked."""

    def rank_together(self, calls):
        super().rank_together(calls)
        return [threading.current_thread().name for _ in calls]


def test_a_quick_call_that_is_the_only_one_is_ranked_at_once(workers, monkeypatch):
    monkeypatch.setattr(gateway_workers, "MOST_AT_ONCE_S", 60)
    ranker, here = Whereabouts(), threading.current_thread().name

    async def where(*candidates, ranker=ranker, explain=False, **options):
        return await workers.run(ranking(ranker, *candidates, explain=explain), **options)

    async def check():
        assert await where(1, only=True) == "ranking-0", "nobody knows yet how long it takes"
        assert await where(1, only=True) == here
        assert await where(1) == "ranking-0", "others are inside"
        assert await where(1, only=True, explain=True) == "ranking-0", "reasons take long to tell"
        assert await where(1, ranker=Whereabouts(), only=True) == "ranking-0", "another model"

    asyncio.run(check())


def test_a_call_that_takes_long_is_not_ranked_at_once(workers, monkeypatch):
    monkeypatch.setattr(gateway_workers, "MOST_AT_ONCE_S", 0)
    ranker = Whereabouts()
    for _ in range(2):
        assert asyncio.run(workers.run(ranking(ranker, 1), only=True)) == "ranking-0"


def test_who_waits_already_comes_first(workers, monkeypatch):
    monkeypatch.setattr(gateway_workers, "MOST_AT_ONCE_S", 60)
    ranker = Whereabouts()
    asyncio.run(workers.run(ranking(ranker, 1)))
    assert asyncio.run(outcomes(workers, (ranking(ranker, 2), {}), (ranking(ranker, 3), {"only": True}))) == [
        "ranking-0",
        "ranking-0",
    ]


def test_what_is_ranked_at_once_fails_as_in_a_thread(workers, monkeypatch):
    monkeypatch.setattr(gateway_workers, "MOST_AT_ONCE_S", 60)
    ranker = Recorder()

    async def check():
        await workers.run(ranking(ranker, 1))
        with pytest.raises(RuntimeError, match="a bad candidate"):
            await workers.run(ranking(ranker, -1), only=True)
        with pytest.raises(DeadlinePassed):
            await workers.run(ranking(ranker, 2), only=True, until=time.monotonic())
        workers.close()
        with pytest.raises(RuntimeError, match="closed"):
            await workers.run(ranking(ranker, 3), only=True)

    asyncio.run(check())
    assert ranker.batches == [[[1]], [[-1]]]


@pytest.mark.skipif(sys.platform != "linux", reason="a single thread can be nice on Linux alone")
def test_threads_that_rank_stand_back_and_no_others(workers):
    def niceness():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()
    assert asyncio.run(workers.run(Calling(niceness))) == min(before + NICENESS, 19)
    assert niceness() == before


def test_a_pace_is_that_of_the_latest_ranking_and_never_expects_less():
    pace, model, other = Pace(), Recorder(), Recorder()
    assert pace.expected_s(model, 1) is None
    pace.note(model, 100, 0.5)
    assert pace.expected_s(model, 300) == pytest.approx(1.5)
    assert pace.expected_s(model, 1) == 0.5
    assert pace.expected_s(other, 1) is None
    pace.note(model, 100, 0.1)
    assert pace.expected_s(model, 100) == pytest.approx(0.1)
