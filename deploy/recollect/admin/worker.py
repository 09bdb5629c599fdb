"""Do one job in a process of its own: slower than what serves, killed at any moment, never outliving who asked for it.

What to do comes as a pickle on stdin, what happens goes out as JSON lines on stdout. Stdin then stays open: its end is
the end of who asked.
"""

import json
import logging
import os
import pickle
import signal
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from typing import IO, Any

from recollect.admin.jobs import BuildJob, JudgeJob
from recollect.errors import AlreadyRunning, ArtifactError, IndexRefused, LabelMoved, RecollectError
from recollect.indexes.building import JudgedVersion, RebuiltIndex
from recsys.errors import RecsysError
from retrieval.errors import RetrievalError
from retrieval.index.vector_files import Refused

log = logging.getLogger(__name__)

PUBLISHING = "publishing"
"""The step from which on a build is not cancelled any more: others may see what it has made."""
_PAUSE_S = 0.25
"""Between two reports of the same step."""
_REFUSED = 100
"""Rows that cannot be used are reported one by one up to here."""
_GRACE_S = 10.0
"""How long publishing may take, at most, once who asked is gone."""


class _Reports:
    """JSON lines for who asked."""

    def __init__(self, lines: IO[str]) -> None:
        self._lines = lines
        self._step, self._last_s = "", 0.0

    def told(self, step: str, done: int, total: int) -> None:
        """Report a step, but no more often than somebody can read it."""
        # What is half seen by others must not be left so. Before, no handler: libraries lose the exceptions of one, and
        # what is built is as safe from SIGTERM as from SIGKILL. Ray has put one in place when it made shards.
        signal.signal(signal.SIGTERM, signal.SIG_IGN if step == PUBLISHING else signal.SIG_DFL)
        now_s = time.monotonic()
        if step == self._step and done < total and now_s - self._last_s < _PAUSE_S:
            return
        self._step, self._last_s = step, now_s
        self.write(event="step", step=step, done=done, total=total)

    def left_out(self, refused: Sequence[Refused]) -> None:
        """Report what of a source cannot be used, the first of it one by one."""
        shown = [{"id": "" if each.id is None else str(each.id), "reason": each.reason} for each in refused[:_REFUSED]]
        self.write(event="left_out", count=len(refused), refused=shown)

    def write(self, **report: Any) -> None:
        """Send one line."""
        self._lines.write(json.dumps(report) + "\n")
        self._lines.flush()


def main() -> None:
    """Do the job of stdin; exits with 0 once its end, good or bad, is reported."""
    # Libraries may print; what they print is for the log.
    reports = _Reports(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    niceness, job = pickle.load(sys.stdin.buffer)
    os.nice(niceness)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_who_asked, daemon=True).start()
    reports.write(**_outcome(job, reports))


def _outcome(job: BuildJob | JudgeJob, reports: _Reports) -> dict[str, Any]:
    """How the job ended, as a report."""
    try:
        done = job.run(reports.told, reports.left_out)
    except IndexRefused as error:
        return {"event": "refused", "reference": error.reference, "message": str(error)}
    except LabelMoved as error:
        return {"event": "moved", "reference": error.reference, "current": error.current, "message": str(error)}
    except AlreadyRunning as error:
        return {"event": "busy", "message": str(error)}
    except ArtifactError as error:
        return {"event": "damaged", "message": str(error)}
    except (RecollectError, RecsysError, RetrievalError) as error:
        return {"event": "failed", "message": str(error)}
    except OSError as error:
        log.exception("%s failed", type(job).__name__)
        return {"event": "failed", "message": f"the disk failed: {error.strerror or error}; make room and repeat"}
    except Exception:
        incident = uuid.uuid4().hex
        log.exception("incident %s in %s", incident, type(job).__name__)
        return {"event": "incident", "incident": incident}
    return _success(done)


def _success(done: RebuiltIndex | JudgedVersion) -> dict[str, Any]:
    if isinstance(done, RebuiltIndex):
        changes = done.merging
        merged = {"kept": len(changes.changes.kept), "dropped": len(changes.dropped), "left_out": changes.left_out}
        return {"event": "built", "reference": done.artifact.reference, "merged": merged}
    return {"event": "judged", "beside": done.beside, "checks": [asdict(check) for check in done.verdict.checks]}


def _end_with_who_asked() -> None:
    # Not sys.stdin: its lock would be held at the end of the program.
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGTERM)
    time.sleep(_GRACE_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    main()
