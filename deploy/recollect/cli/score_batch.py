"""`recollect score --input`: score requests of a file instead of asking a service, and go on where it was killed."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recollect.cli.console import err, out, progress, show_json, show_table
from recollect.cli.history_store import history_url

if TYPE_CHECKING:
    from recollect.batch_scoring.histories import HistorySource
    from recollect.batch_scoring.requests import Requests
    from recollect.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What the options say."""

    input: Path
    output: Path
    model: str
    redis: str | None
    events: Path | None
    workers: int | None
    overwrite: bool
    ray_address: str | None


def score_batch(batch: Batch, *, as_json: bool) -> None:
    """Score the requests of `batch.input` into `batch.output`, and say how many there were of each status."""
    from recollect.batch_scoring import parts as on_disk
    from recollect.batch_scoring.ray_scoring import ScoringJob, score_parts
    from recollect.batch_scoring.requests import find_requests
    from recollect.batch_scoring.scoring import DEGRADED, REFUSED, SCORED, Limits
    from recollect.embedded.ray import ray_cluster
    from recollect.serve_config import artifact_models
    from recollect.settings import Settings

    settings = Settings.load(ray_address=batch.ray_address)
    begun, output = time.monotonic(), batch.output.absolute()
    requests = find_requests(batch.input.absolute())
    models = artifact_models(settings)
    model = models.pin(batch.model)
    with ExitStack() as stack:
        stack.enter_context(on_disk.claimed(output))
        on_disk.require_place(output, overwrite=batch.overwrite)
        histories = _histories(batch, settings, requests, stack)
        limits = Limits(candidates=settings.max_candidates)
        parts = on_disk.parts_of(requests)
        kept = on_disk.PartsOnDisk(output, parts)
        kept.begin(_identity(requests, model, histories, limits))
        bar = stack.enter_context(progress())
        task = bar.add_task("looking for finished parts", total=requests.rows)
        left = kept.missing()
        done_before = requests.rows - sum(part.stop - part.start for part in left)
        bar.update(task, completed=done_before, description="scoring")
        if left:
            job = ScoringJob(
                models=models,
                model=model,
                histories=histories,
                limits=limits,
                rows_at_once=on_disk.rows_of_a_part(requests),
            )
            stack.enter_context(ray_cluster(settings))
            for part, data in score_parts(job, left, workers=batch.workers):
                kept.write(part, data)
                bar.advance(task, part.stop - part.start)
        gathering = bar.add_task("writing", total=requests.rows)
        counts = kept.finish(progress=lambda rows: bar.advance(gathering, rows))
    result: dict[str, Any] = {
        "output": str(batch.output),
        "model": model,
        "rows": requests.rows,
        **{status: counts.get(status, 0) for status in (SCORED, DEGRADED, REFUSED)},
        "rows_done_before": done_before,
        "seconds": round(time.monotonic() - begun, 3),
    }
    if as_json:
        show_json([result])
        return
    numbers = ("rows", SCORED, DEGRADED, REFUSED, "rows_done_before")
    show_table(
        str(batch.output), ["rows", "number"], [(name, f"{result[name]:,}") for name in numbers], right=["number"]
    )
    if result[REFUSED]:
        err.print(f"{result[REFUSED]:,} rows were refused; column `reason` says why", highlight=False)
    out.print(f"by {model} in {result['seconds']:,.1f} s", highlight=False)


def _histories(batch: Batch, settings: "Settings", requests: "Requests", stack: ExitStack) -> "HistorySource":
    from recollect.batch_scoring.histories import HistorySource
    from recollect.batch_scoring.requests import HISTORY
    from recollect.errors import SetupError
    from recsys.data.event_store import EventStore

    if requests.has_histories:
        if batch.redis is not None or batch.events is not None:
            raise SetupError(
                f"{requests.source} brings histories in its column {HISTORY}; leave out --redis and --events, or the "
                "column"
            )
        return HistorySource(limit=settings.history_limit)
    if batch.events is not None and batch.redis is None:
        EventStore(batch.events)  # what is wrong with it is told before Ray starts
        return HistorySource(limit=settings.history_limit, events=batch.events.absolute())
    events = batch.events or settings.events
    if events is not None:
        EventStore(events)
    url = stack.enter_context(history_url(batch.redis))
    return HistorySource(
        limit=settings.history_limit, redis_url=url, events=None if events is None else events.absolute()
    )


def _identity(requests: "Requests", model: str, histories: "HistorySource", limits: Any) -> dict[str, Any]:
    """What finished parts are for: others are made anew."""
    from recollect.batch_scoring.parts import rows_of_a_part
    from recsys.data.event_store import MANIFEST_FILE
    from retrieval.files import digest

    directory, events = Path(model), histories.events
    return {
        "requests": [[str(file.path), file.rows, *_stamp(file.path)] for file in requests.files],
        "rows_of_a_part": rows_of_a_part(requests),
        "model": model,
        "model_files": {path.name: _stamp(path) for path in sorted(directory.iterdir())} if directory.is_dir() else {},
        "histories": {
            "limit": histories.limit,
            # Which Redis is no secret, but its URL may hold a password; a private one has another socket each time.
            "redis": histories.redis_url is not None,
            "events": None if events is None else [str(events), digest(events / MANIFEST_FILE)],
        },
        "candidates": limits.candidates,
    }


def _stamp(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]
