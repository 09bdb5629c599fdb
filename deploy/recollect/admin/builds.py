"""Build indexes in processes of their own, one at a time of each name, and tell of each as an operation."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from google.longrunning.operations_pb2 import Operation  # type: ignore[import-untyped]

from recollect.admin.audit import audit
from recollect.admin.errors import (
    BuildCancelled,
    BuildDied,
    BuildFailed,
    BuildRunning,
    IndexMayNotAnswer,
    LabelMovedMeanwhile,
    ServiceStopped,
    TooManyBuilds,
)
from recollect.admin.jobs import BuildJob
from recollect.admin.messages import index_version, stamp, without_paths
from recollect.admin.operations import OperationLog
from recollect.admin.process import WorkerProcess
from recollect.admin.worker import PUBLISHING
from recollect.artifacts import INDEXES, ArtifactStore, indexes_of
from recollect.errors import AlreadyRunning
from recollect.gateway.errors import CallError, incident
from recollect.gateway.statuses import to_status
from recollect.indexes.building import discard_unfinished
from recollect.indexes.facts import facts_of
from recollect_api.v1.indexes_pb2 import BuildStep, IndexesBuildMetadata, IndexesBuildResponse, MergedChanges

log = logging.getLogger(__name__)

MOST = 4
"""Indexes that are built at one time."""


@dataclass
class _Build:
    """One that runs."""

    operation: Operation
    metadata: IndexesBuildMetadata
    job: BuildJob
    over: asyncio.Event = field(default_factory=asyncio.Event)
    worker: WorkerProcess | None = None
    publishing: bool = False
    report: dict[str, Any] | None = None
    """How it ended, as the worker says."""
    task: asyncio.Task[None] | None = None
    ending: asyncio.Task[None] | None = None


class Builds:
    """Builds of this service. Used in one event loop."""

    def __init__(
        self, operations: OperationLog, *, niceness: int, files_below: Path, clock: Callable[[], datetime]
    ) -> None:
        """Workers stand back by `niceness`; files are told of by their path below `files_below`."""
        self._operations = operations
        self._niceness = niceness
        self._files_below = files_below
        self._clock = clock
        self._running: dict[str, _Build] = {}
        self._stopping = False

    def recover(self) -> None:
        """Tell of what ran when an earlier service ended, whichever way, that it runs no longer."""
        for operation in self._operations.all():
            if not operation.done:
                metadata = IndexesBuildMetadata()
                operation.metadata.Unpack(metadata)
                self._fail(operation, metadata, _stopped(metadata))

    def start(self, job: BuildJob, metadata: IndexesBuildMetadata) -> Operation:
        """Begin to build; BuildRunning where that index is built already, TooManyBuilds where too many are."""
        if self._stopping:
            raise ServiceStopped("the service is being stopped; ask the one that comes after it")
        self.require_none(job.name)
        if len(self._running) >= MOST:
            names = ", ".join(self._running)
            raise TooManyBuilds(f"{len(self._running)} indexes are being built ({names}); wait for one or cancel it")
        metadata.create_time.CopyFrom(stamp(self._clock()))
        build = _Build(operation=Operation(name=self._operations.new_name()), metadata=metadata, job=job)
        self._save(build)
        self._running[job.name] = build
        build.task = asyncio.create_task(self._run(build))
        return build.operation

    def require_none(self, name: str) -> None:
        """BuildRunning where the index `name` is being built here."""
        if name in self._running:
            operation = self._running[name].operation.name
            raise BuildRunning(
                f"index {name!r} is being built by {operation}; wait for it or cancel it", operation=operation
            )

    def cancel(self, name: str) -> None:
        """Have an operation end; one that has ended stays as it is."""
        operation = self._operations.get(name)
        build = self._build_of(operation)
        if build is None or build.metadata.cancel_requested:
            return
        build.metadata.cancel_requested = True
        self._save(build)
        # A build that publishes is over in a moment, and its version may be seen already.
        self._end(build, patient=lambda: build.publishing)

    async def wait(self, name: str, timeout_s: float | None) -> Operation:
        """The operation once it has ended, or as it is when the time has passed."""
        build = self._build_of(self._operations.get(name))
        if build is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(build.over.wait(), timeout_s)
        return self._operations.get(name)

    async def stop(self) -> None:
        """End every build; each can go on when it is asked for again."""
        self._stopping = True
        builds = list(self._running.values())
        for build in builds:
            self._end(build, patient=lambda: False)
        await asyncio.gather(*(build.task for build in builds if build.task is not None))

    def _build_of(self, operation: Operation) -> _Build | None:
        return next((each for each in self._running.values() if each.operation.name == operation.name), None)

    def _end(self, build: _Build, *, patient: Callable[[], bool]) -> None:
        if build.worker is not None:
            build.ending = asyncio.create_task(build.worker.end(patient=patient))

    async def _run(self, build: _Build) -> None:
        try:
            status = await self._work(build)
            await self._conclude(build, status)
        except Exception:
            log.exception("%s failed", build.operation.name)
            self._fail(build.operation, build.metadata, incident(build.operation.name))
        finally:
            del self._running[build.job.name]
            build.over.set()

    async def _work(self, build: _Build) -> int:
        """The exit status of the worker, all its reports heard."""
        build.worker = await WorkerProcess.start(build.job, niceness=self._niceness)
        try:
            if build.metadata.cancel_requested or self._stopping:
                self._end(build, patient=lambda: build.publishing)
            async for event in build.worker.events():
                if event["event"] == "step":
                    self._hear(build, event)
                elif event["event"] == "left_out":
                    self._hear_left_out(build, event)
                else:
                    build.report = event
        except BaseException:
            await build.worker.end()
            raise
        finally:
            status = await build.worker.wait()
        if build.ending is not None:
            await build.ending
        return status

    def _hear(self, build: _Build, event: dict[str, Any]) -> None:
        """Note how far it is; on the disk only as steps begin and end."""
        steps, now = build.metadata.steps, stamp(self._clock())
        if event["step"] == PUBLISHING:
            build.publishing = True
        changed = not steps or steps[-1].name != event["step"]
        if changed:
            if steps and not steps[-1].HasField("end_time"):
                steps[-1].end_time.CopyFrom(now)
            steps.append(BuildStep(name=event["step"], begin_time=now))
        steps[-1].done, steps[-1].total = event["done"], event["total"]
        if event["done"] >= event["total"] and not steps[-1].HasField("end_time"):
            steps[-1].end_time.CopyFrom(now)
            changed = True
        build.operation.metadata.Pack(build.metadata)
        if changed:
            self._save(build)

    def _hear_left_out(self, build: _Build, event: dict[str, Any]) -> None:
        """Note what of the source cannot be used."""
        build.metadata.refused_count = event["count"]
        for each in event["refused"]:
            reason = without_paths(each["reason"], build.job.settings.var, self._files_below)
            build.metadata.refused.add(id=each["id"], reason=reason)
        self._save(build)

    async def _conclude(self, build: _Build, status: int) -> None:
        """Tell how it ended."""
        report = build.report
        if report is None:
            error = await self._unreported(build, status)
            self._fail(build.operation, build.metadata, error)
            return
        store = indexes_of(build.job.settings, INDEXES)
        name, _, version = str(report.get("reference", "")).partition("/")
        build.metadata.version = version
        if report["event"] != "built":
            self._fail(build.operation, build.metadata, await asyncio.to_thread(self._failure, build, store, report))
            return
        made = await asyncio.to_thread(index_version, store, name, version, self._files_below)
        build.metadata.end_time.CopyFrom(stamp(self._clock()))
        build.operation.done = True
        build.operation.response.Pack(IndexesBuildResponse(version=made, merged=MergedChanges(**report["merged"])))
        self._save(build)
        audit(f"{build.operation.name} of index {name}", "OK", version=version, labels=list(made.labels))

    async def _unreported(self, build: _Build, status: int) -> CallError:
        """Why the worker ended without saying so."""
        if build.metadata.cancel_requested:
            # Another command may build the index by now; what is there is its own then.
            with contextlib.suppress(AlreadyRunning):
                root = build.job.settings.var / "indexes"
                await asyncio.to_thread(discard_unfinished, root, build.job.name)
            return BuildCancelled("the build was cancelled, and what it had made is removed")
        if self._stopping:
            return _stopped(build.metadata)
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        return BuildDied(
            f"the build's process was ended {how} while {_step(build.metadata)}; ask for the build again, it goes on "
            "where it was",
            status=str(status),
        )

    def _failure(self, build: _Build, store: ArtifactStore, report: dict[str, Any]) -> CallError:
        """What the worker reports, as it is told to callers."""
        event, reference = report["event"], report.get("reference", "")
        message = without_paths(report.get("message", ""), build.job.settings.var, self._files_below)
        if event == "refused":
            name, version = reference.split("/")
            return IndexMayNotAnswer(reference, facts_of(store.version(name, version)).verdict.failed)
        if event == "moved":
            return LabelMovedMeanwhile(message, current=report["current"] or "", version=reference)
        if event == "busy":
            return BuildRunning(message)
        if event == "incident":
            return incident(report["incident"])
        return BuildFailed(message)

    def _fail(self, operation: Operation, metadata: IndexesBuildMetadata, error: CallError) -> None:
        metadata.end_time.CopyFrom(stamp(self._clock()))
        operation.done = True
        operation.error.CopyFrom(to_status(error))
        operation.metadata.Pack(metadata)
        self._operations.save(operation)
        audit(
            f"{operation.name} of index {metadata.name}", f"{error.code.name} {error.reason}", version=metadata.version
        )

    def _save(self, build: _Build) -> None:
        build.operation.metadata.Pack(build.metadata)
        self._operations.save(build.operation)


def _stopped(metadata: IndexesBuildMetadata) -> CallError:
    return ServiceStopped(
        f"the service was stopped while {_step(metadata)}; ask for the build again, it goes on where it was"
    )


def _step(metadata: IndexesBuildMetadata) -> str:
    return metadata.steps[-1].name if metadata.steps else "starting"
