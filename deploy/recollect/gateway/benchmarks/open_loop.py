"""Call a service as its users do: when they want to, not when it has answered the call before.

A generator that waits for each answer sends less as soon as the service slows down, and what it measures then leaves
out what everybody else would have waited. Here calls have their times beforehand, and how long one takes is counted
from then, however late it could be sent.
"""

import asyncio
import gc
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

OK = "OK"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Offered:
    """What became of N calls."""

    rate: float
    """Calls a second that were to be sent."""
    due_s: Floats
    """[N] when each was to be sent, seconds after the first could have been."""
    taken_s: Floats
    """[N] from then to its end, seconds."""
    late_s: Floats
    """[N] how much of that passed before it was sent, seconds: the generator's own fault."""
    codes: npt.NDArray[np.str_]
    """[N] name of the gRPC status of each."""
    cpu_s: float
    """Processor time of this process meanwhile, seconds."""

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """[N] whether it has its answer."""
        return np.asarray(self.codes == OK)

    @property
    def goodput(self) -> float:
        """Answers a second while calls were to be sent; what was answered later is none, or a backlog would count."""
        in_time = self.due_s + self.taken_s <= self.seconds
        return float((self.answered & in_time).sum() / self.seconds)

    @property
    def seconds(self) -> float:
        """How long calls were to be sent."""
        return len(self.due_s) / self.rate

    def taken_ms(self, percentile: float, *, of: npt.NDArray[np.bool_] | None = None) -> float:
        """Percentile of what the calls `of` [N] took, None for those with an answer; NaN where there is none."""
        of_these = self.taken_s[self.answered if of is None else of]
        return float(np.percentile(of_these, percentile) * 1_000) if len(of_these) else float("nan")

    def refused(self) -> Counter[str]:
        """How many calls ended with each status but OK."""
        return Counter(self.codes[~self.answered].tolist())


async def offer(
    send: Callable[[int], Awaitable[str]], *, rate: float, seconds: float, random: np.random.Generator
) -> Offered:
    """`rate` calls a second for so many seconds, at random times (a Poisson process), and wait for the last of them.

    `send(n)` makes the nth call and gives the name of its status.
    """
    count = max(1, round(rate * seconds))
    # Times of a Poisson process, given their number, are uniform.
    due_s = np.sort(random.uniform(0, seconds, count))
    taken_s, late_s, codes = np.zeros(count), np.zeros(count), np.full(count, "UNKNOWN", dtype="<U24")
    loop, calls = asyncio.get_running_loop(), set[asyncio.Task[None]]()
    ended, left = asyncio.Event(), count

    async def call(at: int) -> None:
        nonlocal left
        late_s[at] = time.perf_counter() - began - due_s[at]
        codes[at] = await send(at)
        taken_s[at] = time.perf_counter() - began - due_s[at]
        left -= 1
        if left == 0:
            ended.set()

    def begin(at: int) -> None:
        task = loop.create_task(call(at))
        calls.add(task)
        task.add_done_callback(calls.discard)

    def pace() -> None:
        # A loop's own timers are a millisecond coarse, and a loop that is busy would be late for all of them.
        for at, due in enumerate(due_s):
            wait_s = began + due - time.perf_counter()
            if wait_s > 0:
                time.sleep(wait_s)
            loop.call_soon_threadsafe(begin, at)

    with _in_time():
        cpu_before, began = time.process_time(), time.perf_counter() + 0.05
        pacer = threading.Thread(target=pace, daemon=True)
        pacer.start()
        await ended.wait()
    return Offered(
        rate=rate,
        due_s=due_s,
        taken_s=taken_s,
        late_s=late_s,
        codes=codes,
        cpu_s=time.process_time() - cpu_before,
    )


@contextmanager
def _in_time() -> Iterator[None]:
    """Let the thread that keeps the time have the interpreter when it needs it, where Python's default is 5 ms later,
    and seek garbage among new objects only: to look through the others, a model perhaps, stops all for 0.2 s."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)
