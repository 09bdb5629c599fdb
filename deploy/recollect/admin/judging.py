"""Judge versions in a process of its own, one at a time, so that what serves is not slowed."""

import asyncio
import os
from pathlib import Path
from typing import Any

from recollect.admin.errors import VersionUnusable
from recollect.admin.jobs import JudgeJob
from recollect.admin.messages import without_paths
from recollect.admin.process import WorkerProcess
from recollect.artifacts import Artifact
from recollect.gateway.errors import incident
from recollect.indexes.building import JudgedVersion
from retrieval.index.quality import Check, Thresholds, Verdict


class Judging:
    """Used in one event loop."""

    def __init__(self, root: Path, thresholds: Thresholds, *, shared: str | None = None, niceness: int) -> None:
        """Of versions below `root`; `shared` is the URL where machines share them."""
        self._root = root
        self._shared = shared
        self._thresholds = thresholds
        self._niceness = niceness
        self._one = asyncio.Lock()
        self._worker: WorkerProcess | None = None

    async def judge(self, artifact: Artifact, *, against: str) -> JudgedVersion:
        """What a version is worth beside the one that the label `against` points at; ended when the caller goes.

        VersionUnusable where it is altered or holds no index.
        """
        job = JudgeJob(
            root=self._root,
            shared=self._shared,
            name=artifact.name,
            version=artifact.version,
            against=against,
            thresholds=self._thresholds,
            threads=os.cpu_count() or 1,
        )
        async with self._one:
            report = await self._report(job)
        if report["event"] == "judged":
            checks = tuple(Check(**check) for check in report["checks"])
            return JudgedVersion(verdict=Verdict(checks=checks), beside=report["beside"])
        if report["event"] == "incident":
            raise incident(report["incident"])
        raise VersionUnusable(without_paths(report["message"], self._root))

    async def stop(self) -> None:
        """End what is being judged."""
        if self._worker is not None:
            await _ended(self._worker)

    async def _report(self, job: JudgeJob) -> dict[str, Any]:
        self._worker = worker = await WorkerProcess.start(job, niceness=self._niceness)
        report: dict[str, Any] | None = None
        try:
            async for event in worker.events():
                if event["event"] != "step":
                    report = event
        except BaseException:  # the caller has gone, for instance
            await asyncio.shield(_ended(worker))
            raise
        await asyncio.shield(worker.wait())
        if report is None:
            raise RuntimeError(f"the process that judged {job.name}/{job.version} was ended from outside")
        return report


async def _ended(worker: WorkerProcess) -> None:
    await worker.end()
    await worker.wait()
