"""Kill replicas under load, then stop the service under load: which calls were lost, and when all replicas were back.

Callers are our asyncio client with its own retries. A replica is killed by SIGKILL; it is back when as many replicas
answer as there were, each seen by its process. The service is then told to stop by SIGTERM: a call is lost if it was
sent before that and has no answer.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]

from recollect.embedded.redis import EmbeddedRedis
from recollect.gateway.benchmarks.open_loop import OK, offer
from recollect.gateway.benchmarks.proxy import free_port
from recollect.gateway.benchmarks.running import random_model
from recollect.gateway.benchmarks.service import ServiceSizes, append_histories
from recollect_api import AsyncRecollectClient, ClientError
from recsys.history.benchmarks.running import new_event_loop

REPLICA_TITLE = "ServeReplica"
STARTED_WITHIN_S = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is done to the service."""

    replicas: int = 2
    rate: float = 50.0
    """Calls a second."""
    kills: int = 5
    seconds: float = 120.0
    """How long calls come; kills are spread over it."""
    history: int = 1_000
    candidates: int = 100


class Service:
    """`recollect serve` as a process of its own."""

    def __init__(self, plan: Plan, directory: Path, redis_url: str) -> None:
        self._plan = plan
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        command = [
            *(str(Path(sys.executable).with_name("recollect")), "serve", "--model", str(directory / "model")),
            *("--redis", redis_url, "--port", str(self.port), "--replicas", str(plan.replicas), "--no-classification"),
        ]
        environment = {**os.environ, "RECOLLECT_VAR": str(directory / "var")}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    def replicas(self) -> list[psutil.Process]:
        """Its gateways' processes."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if REPLICA_TITLE in " ".join(child.cmdline()):
                    found.append(child)
            except psutil.Error:  # it has just ended
                continue
        return found

    def wait(self) -> None:
        """Return once as many replicas listen as are wanted; RuntimeError where that takes too long."""
        until = time.monotonic() + STARTED_WITHIN_S
        while self.listening() < self._plan.replicas:
            if time.monotonic() > until or self.process.poll() is not None:
                raise RuntimeError("the service did not start; run the command by hand to see why")
            time.sleep(0.05)

    def listening(self) -> int:
        """How many processes take connections on its port: a replica listens only once it is loaded and warm."""
        listeners = set()
        for replica in self.replicas():
            try:
                ports = {each.laddr.port for each in replica.net_connections("tcp") if each.status == "LISTEN"}
            except psutil.Error:
                continue
            if self.port in ports:
                listeners.add(replica.pid)
        return len(listeners)


def measure(plan: Plan) -> dict[str, Any]:
    """One row: calls by their end under kills, how long replicas were away, and what a stop lost."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(EmbeddedRedis(directory / "redis"))
        model = random_model(directory / "model", 10_000)
        sizes = ServiceSizes(history=plan.history, candidates=plan.candidates, items=10_000, users=20)
        users = list(asyncio.run(append_histories(redis.url, sizes, model, np.random.default_rng(4))))
        service = Service(plan, directory, redis.url)
        stack.callback(_end, service.process)
        service.wait()
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            ends, away_s, reasons = runner.run(_killed(plan, service, users))
            stopped = runner.run(_stopped(plan, service, users))
    return {
        **asdict(plan),
        "calls": sum(ends.values()),
        "failed": sum(ends.values()) - ends[OK],
        "ends": dict(ends),
        "reasons": reasons,
        "away_s": [round(each, 2) for each in away_s],
        **stopped,
    }


async def _killed(plan: Plan, service: Service, users: Sequence[str]) -> tuple[Counter[str], list[float], list[str]]:
    away_s: list[float] = []
    reasons: list[str] = []
    async with AsyncRecollectClient(service.address, timeout_s=5.0, connections=8) as client:
        send = _Caller(plan, client, users, reasons)
        calls = asyncio.create_task(offer(send, rate=plan.rate, seconds=plan.seconds, random=np.random.default_rng(1)))
        pause_s = plan.seconds / (plan.kills + 1)
        for number in range(plan.kills):
            await asyncio.sleep(pause_s if number == 0 else max(0.0, pause_s - away_s[-1]))
            victim = service.replicas()[0]
            os.kill(victim.pid, signal.SIGKILL)
            began = time.monotonic()
            while await asyncio.to_thread(service.listening) < plan.replicas:
                await asyncio.sleep(0.05)
            away_s.append(time.monotonic() - began)
        offered = await calls
    return Counter(offered.codes.tolist()), away_s, reasons


class _Caller:
    """Makes the nth call."""

    def __init__(
        self, plan: Plan, client: AsyncRecollectClient, users: Sequence[str], reasons: list[str] | None = None
    ) -> None:
        self._plan, self._client, self._users = plan, client, users
        self._reasons = [] if reasons is None else reasons
        self._random = np.random.default_rng(5)

    async def __call__(self, number: int) -> str:
        """The name of its status."""
        items = self._random.integers(0, 10_000, self._plan.candidates).tolist()
        try:
            await self._client.score(self._users[number % len(self._users)], items)
        except ClientError as error:
            self._reasons.append(str(error))
            return str(error.code.name)
        return OK


async def _stopped(plan: Plan, service: Service, users: Sequence[str]) -> dict[str, Any]:
    """Calls that were under way when the service was told to stop, and how many of them got no answer."""
    began: dict[int, float] = {}
    lost: list[float] = []
    async with AsyncRecollectClient(service.address, timeout_s=5.0, connections=8) as client:
        call = _Caller(plan, client, users)

        async def one(number: int) -> None:
            began[number] = time.monotonic()
            if await call(number) != OK:
                lost.append(began[number])
            del began[number]

        tasks = []
        told = None
        for number in range(int(plan.rate * 4)):
            tasks.append(asyncio.create_task(one(number)))
            if number == int(plan.rate * 2):
                # Several at once, so that some are surely under way.
                tasks += [asyncio.create_task(one(-1 - extra)) for extra in range(20)]
                await asyncio.sleep(0.002)
                told = time.monotonic()
                under_way = len(began)
                service.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(1 / plan.rate)
        await asyncio.gather(*tasks)
    assert told is not None, "rate is more than none"
    rc = await asyncio.to_thread(service.process.wait, 60)
    return {
        "under_way_at_sigterm": under_way,
        "lost_at_sigterm": sum(each <= told for each in lost),
        "exit_status": rc,
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait(60)


def main(arguments: list[str] | None = None) -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in asdict(Plan()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    print(json.dumps(measure(Plan(**vars(parser.parse_args(arguments))))))


if __name__ == "__main__":
    main()
