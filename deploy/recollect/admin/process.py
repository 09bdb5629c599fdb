"""Run a job in a worker process, hear how far it is, and end it for good."""

import asyncio
import contextlib
import json
import os
import pickle
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from typing import Any

from recollect.admin.jobs import BuildJob, JudgeJob

GRACE_S = 5.0
"""How long a worker may go on after SIGTERM, which it heeds at once unless it publishes, before it is killed."""
_LOOK_S = 0.1
_LINE_BYTES = 1 << 20


class WorkerProcess:
    """One worker; `start` it, read `events` until they end, then `wait`."""

    def __init__(self, process: Process, scratch: str) -> None:
        self._process = process
        self._scratch = scratch

    @classmethod
    async def start(cls, job: BuildJob | JudgeJob, *, niceness: int) -> "WorkerProcess":
        """Begin the job in a session of its own, so that a Ctrl-C meant for the service does not reach it."""
        # What a killed process had there, a private Ray node for instance, is removed with it.
        scratch = await asyncio.to_thread(tempfile.mkdtemp, prefix="recollect-")
        try:
            process = await asyncio.create_subprocess_exec(
                # Without -P a file of the working directory could pass for a module.
                *(sys.executable, "-P", "-m", "recollect.admin.worker"),
                stdin=PIPE,
                stdout=PIPE,
                start_new_session=True,
                env={**os.environ, "TMPDIR": scratch},
                limit=_LINE_BYTES,
            )
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        worker = cls(process, scratch)
        assert process.stdin is not None
        process.stdin.write(pickle.dumps((niceness, job)))
        with contextlib.suppress(ConnectionError):  # it is gone already, which `events` will tell
            await process.stdin.drain()
        return worker

    @property
    def pid(self) -> int:
        """Of the process, which leads a process group of that number."""
        return self._process.pid

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """What the worker reports, until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            with contextlib.suppress(ValueError):  # cut short by its end
                yield json.loads(line)

    async def wait(self) -> int:
        """Its exit status once it has ended, minus the signal's number where one ended it; what it left is removed."""
        status = await self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)
        return status

    async def end(self, *, patient: Callable[[], bool] = lambda: False) -> None:
        """Have all its processes end: SIGTERM, and SIGKILL once `GRACE_S` are over, but not while it is `patient`."""
        self._signal(signal.SIGTERM)
        waited_s = 0.0
        while self._process.returncode is None:
            if waited_s >= GRACE_S and not patient():
                self._signal(signal.SIGKILL)
            await asyncio.sleep(_LOOK_S)
            waited_s += _LOOK_S

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
