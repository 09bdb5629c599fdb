"""Run blocking work off the event loop, in a few threads: what is urgent first, what ranks together where it gains, and
nothing for a caller who has gone. What is over in a moment is done at once, where nobody else waits."""

import asyncio
import contextlib
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc.aio  # type: ignore[import-untyped]

from recollect.gateway.errors import DeadlinePassed
from recollect.gateway.pace import Pace
from recollect.telemetry.metrics import RANKING_BATCH, RANKING_QUEUE
from recollect.telemetry.stages import stage, took

if TYPE_CHECKING:
    from recollect.gateway.models import Ranker
    from recsys.ranking import Ranking, RankingCall

T = TypeVar("T")

MOST_TOGETHER = 16
"""Calls that are ranked together, at most."""
MOST_PAIRS = 4_000_000
"""Pairs of a behaviour and a candidate that are ranked together, at most: all of a batch wait for its last, and calls
of 10,000 behaviours gain less from company than short ones."""
MOST_AT_ONCE_S = 0.004
"""What the event loop ranks itself takes no longer: whoever comes meanwhile waits for it, as he would for a thread."""
NICENESS = 5
"""How much nicer threads that rank are than the event loop. When the processors are full, it needs little of them to
take calls, to refuse those that are too many, and to hand answers over; an equal share would make all of that late."""
MOST_PADDING = 1.25
"""How many times as many candidates as were asked for a batch may score, since all of it are padded to the longest."""


class Priority(IntEnum):
    """Whose turn comes first."""

    SCORING = 0
    """Somebody waits for the answer to this one call."""
    BATCH = 1
    """One of many, whose caller waits for the last of them."""


_WAITS = {Priority.SCORING: "queue", Priority.BATCH: "batch_queue"}
"""What waiting is called among the stages of calls."""


class Work(ABC, Generic[T]):
    """What a thread is to do."""

    @abstractmethod
    def alone(self, pace: Pace) -> T:
        """The result; `pace` is told of a ranking."""


@dataclass(frozen=True, slots=True)
class Calling(Work[T]):
    """Work that has nothing in common with other work."""

    call: Callable[[], T]

    def alone(self, pace: Pace) -> T:  # noqa: ARG002 - nothing is ranked
        """What the function returns."""
        return self.call()


@dataclass(frozen=True, kw_only=True, slots=True)
class RankingWork(Work[T]):
    """Work that ranks, and may do so together with other work of the same ranker."""

    ranker: "Ranker"
    call: "RankingCall"
    answer: "Callable[[Ranking], T]"
    """Makes the result of the ranking."""

    def alone(self, pace: Pace) -> T:
        """Rank, then answer."""
        call, began = self.call, time.monotonic()
        with stage("ranking"):
            ranking = self.ranker.rank(call.history_item_ids, call.candidate_item_ids, explain=call.explain)
        pace.note(self.ranker, self.pairs, time.monotonic() - began)
        return self.answered(ranking)

    def answered(self, ranking: "Ranking") -> T:
        """The result of the ranking."""
        with stage("answer"):
            return self.answer(ranking)

    @property
    def pairs(self) -> int:
        """Pairs of a behaviour and a candidate, one at least for each candidate."""
        return max(1, len(self.call.history_item_ids)) * self.candidates

    @property
    def candidates(self) -> int:
        """How many are ranked."""
        return len(self.call.candidate_item_ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """Work that waits for a thread, and who waits for it."""

    work: Work[Any]
    result: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    until: float | None
    """When nobody waits for the result any more, seconds of the monotonic clock."""
    since: float
    """Since when it waits, likewise."""
    priority: Priority
    call: Context = field(default_factory=copy_context)
    """What the work is a part of: what its thread measures and logs is that call's."""


class Workers:
    """A few threads that rank.

    Of what waits, `Priority.SCORING` comes first, and of one priority what came first. A thread that takes work that
    ranks takes more of the same ranker along (see `MOST_TOGETHER`): an idle thread ranks one call at once, so nobody
    waits for company. Work whose deadline has passed, or whose caller has gone, is never begun: gRPC cancels the
    coroutine of such a call, and the deadline is looked at once more where the work would begin.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        """How many there are."""
        self._waiting: dict[Priority, deque[_Job]] = {priority: deque() for priority in Priority}
        self._changed = threading.Condition()
        self._closed = False
        self._pace = Pace()
        self._loops: set[int] = set()
        """Threads of event loops that have ranked."""
        for number in range(threads):
            threading.Thread(target=self._work, name=f"ranking-{number}", daemon=True).start()

    async def run(
        self,
        work: Work[T],
        *,
        priority: Priority = Priority.SCORING,
        until: float | None = None,
        only: bool = False,
    ) -> T:
        """The result of `work`; raises what it raises, and DeadlinePassed where it would begin after `until`.

        `until` is in seconds of the monotonic clock. `only` says that no other call is inside: a quick ranking is then
        done before anything else, which spares two threads their waking.
        """
        if only and self._is_quick(work):
            return self._at_once(work, priority, until)
        loop = asyncio.get_running_loop()
        job = _Job(
            work=work,
            result=loop.create_future(),
            loop=loop,
            until=until,
            since=time.monotonic(),
            priority=priority,
        )
        with self._changed:
            if self._closed:
                raise RuntimeError("the workers are closed")
            self._waiting[priority].append(job)
            self._tell_depth()
            self._changed.notify()
        return await job.result  # type: ignore[no-any-return] # the future's is that of the work

    def _is_quick(self, work: Work[Any]) -> bool:
        """Whether it ranks, is over in a moment as far as is known, and nobody waits; reasons take long to tell."""
        if not isinstance(work, RankingWork) or work.call.explain or any(self._waiting.values()):
            return False
        expected_s = self._pace.expected_s(work.ranker, work.pairs)
        return expected_s is not None and expected_s <= MOST_AT_ONCE_S

    def _at_once(self, work: Work[T], priority: Priority, until: float | None) -> T:
        if self._closed:
            raise RuntimeError("the workers are closed")
        if until is not None and time.monotonic() >= until:
            raise _too_late()
        thread = threading.get_ident()
        if thread not in self._loops:
            use_one_torch_thread()
            self._loops.add(thread)
        took(_WAITS[priority], 0.0)
        RANKING_BATCH.observe(1)
        return work.alone(self._pace)

    def close(self) -> None:
        """Begin no more work; what waits is cancelled."""
        with self._changed:
            self._closed = True
            waiting = [job for jobs in self._waiting.values() for job in jobs]
            for jobs in self._waiting.values():
                jobs.clear()
            self._tell_depth()
            self._changed.notify_all()
        for job in waiting:
            job.loop.call_soon_threadsafe(job.result.cancel)

    def _work(self) -> None:
        use_one_torch_thread()
        _stand_back()
        while jobs := self._take():
            _do(jobs, self._pace)

    def _take(self) -> list[_Job]:
        """What to do next, waiting for it; nothing once closed."""
        with self._changed:
            while True:
                if self._closed:
                    return []
                for waiting in self._waiting.values():
                    taken = _taken(waiting)
                    if taken:
                        self._tell_depth()
                        return taken
                self._tell_depth()
                self._changed.wait()

    def _tell_depth(self) -> None:
        RANKING_QUEUE.set(sum(map(len, self._waiting.values())))


def require_time(context: grpc.aio.ServicerContext) -> None:
    """Raise DeadlinePassed where the caller no longer waits."""
    remaining = context.time_remaining()
    if remaining is not None and remaining <= 0:
        raise _too_late()


def deadline_of(context: grpc.aio.ServicerContext) -> float | None:
    """Until when the caller waits, seconds of the monotonic clock; None: for ever."""
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


def use_one_torch_thread() -> None:
    """Keep torch to the calling thread: replicas and their pools already use every core, more threads only wait."""
    import torch

    torch.set_num_threads(1)


def _stand_back() -> None:
    """Let other threads go before the calling one, where a single thread can be nice, which is on Linux."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # what keeps it from being nice keeps it from nothing else
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)


def _taken(waiting: deque[_Job]) -> list[_Job]:
    """The next of `waiting` that is still of use, with those that rank well together with it."""
    taken: list[_Job] = []
    pairs = candidates = longest = 0
    while waiting and len(taken) < MOST_TOGETHER:
        job = waiting[0]
        if not _of_use(job):
            waiting.popleft()
            continue
        work = job.work
        if not isinstance(work, RankingWork):
            return taken or [waiting.popleft()]
        pairs, candidates, longest = pairs + work.pairs, candidates + work.candidates, max(longest, work.candidates)
        if taken:
            first = taken[0].work
            assert isinstance(first, RankingWork), "nothing else is joined"
            padded = longest * (len(taken) + 1) > MOST_PADDING * candidates
            if work.ranker is not first.ranker or pairs > MOST_PAIRS or padded:
                return taken
        taken.append(waiting.popleft())
    return taken


def _of_use(job: _Job) -> bool:
    """Whether anybody waits for it; who has come too late is told so."""
    if job.result.cancelled():
        return False
    if job.until is not None and time.monotonic() >= job.until:
        _settle([(job, None, _too_late())])
        return False
    return True


def _do(jobs: Sequence[_Job], pace: Pace) -> None:
    now = time.monotonic()
    for job in jobs:
        job.call.run(took, _WAITS[job.priority], now - job.since)
    if isinstance(jobs[0].work, RankingWork):
        RANKING_BATCH.observe(len(jobs))
    _settle([_alone(job, pace) for job in jobs] if len(jobs) == 1 else _together(jobs, pace))


def _alone(job: _Job, pace: Pace) -> "tuple[_Job, Any, Exception | None]":
    return job, *_outcome(partial(job.call.run, job.work.alone, pace))


def _together(jobs: Sequence[_Job], pace: Pace) -> "list[tuple[_Job, Any, Exception | None]]":
    works = [job.work for job in jobs if isinstance(job.work, RankingWork)]
    began = time.monotonic()
    rankings, error = _outcome(lambda: works[0].ranker.rank_together([work.call for work in works]))
    if error is not None or rankings is None:
        # One of them may be at fault: each for itself, so that the others are answered.
        return [_alone(job, pace) for job in jobs]
    seconds = time.monotonic() - began
    for job in jobs:
        job.call.run(took, "ranking", seconds)
    return [
        (job, *_outcome(partial(job.call.run, work.answered, ranking)))
        for job, work, ranking in zip(jobs, works, rankings, strict=True)
    ]


def _outcome(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error


def _settle(outcomes: "Sequence[tuple[_Job, Any, Exception | None]]") -> None:
    """Hand the outcomes of one loop's jobs over to it."""

    def tell() -> None:
        for job, result, error in outcomes:
            if job.result.done():  # its caller has gone meanwhile
                continue
            if error is None:
                job.result.set_result(result)
            else:
                job.result.set_exception(error)

    if outcomes and not outcomes[0][0].loop.is_closed():
        outcomes[0][0].loop.call_soon_threadsafe(tell)


def _too_late() -> DeadlinePassed:
    return DeadlinePassed("the deadline passed before the work began; allow more time or send fewer calls at once")
