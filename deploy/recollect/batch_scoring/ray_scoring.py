"""Score parts of requests on Ray Data: workers read rows, rank them and hand finished parts over, one at a time."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from recollect.batch_scoring.histories import HistorySource
from recollect.batch_scoring.parts import Part
from recollect.batch_scoring.requests import read_rows
from recollect.batch_scoring.scoring import Limits, RowScorer
from recollect.embedded.ray_data import keep_quiet
from recollect.errors import RecollectError, SetupError
from recsys.errors import RecsysError

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

    from recollect.gateway.models import ArtifactModels, ServedModel

MOST_PARTS = 16
"""Parts that a worker is asked for together: it reads a file from its beginning for each such run."""
_TASKS_A_WORKER = 4
_BLOCK_BYTES = 16 << 20
"""What travels together; a private node keeps few in memory."""
_MISTAKE = -1
"""In the place of a part's number: its data say what went wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringJob:
    """What every worker is told."""

    models: "ArtifactModels"
    model: str
    """Reference that always means the same model."""
    histories: HistorySource
    limits: Limits
    rows_at_once: int
    """Rows of a part."""


class PartScorer:
    """What every worker has: a model and its histories."""

    def __init__(self, job: ScoringJob, runs: Sequence[Sequence[Part]]) -> None:
        """`runs` are what it may be asked for, by their place."""
        import torch

        torch.set_num_threads(1)
        self._job, self._runs = job, runs
        self._model: ServedModel | None = None

    def __call__(self, batch: dict[str, Any]) -> "Iterator[pa.Table]":
        """`id`: places of runs → a table a part, `part` (its number) and `data` (Parquet); a mistake ends it."""
        try:
            for place in batch["id"].tolist():
                for number, data in self._scored(self._runs[place]):
                    yield _row(number, data)
        except (RecollectError, RecsysError) as error:
            # Raised here it would be taken for a worker's failure, and come out wrapped.
            yield _row(_MISTAKE, str(error).encode())

    def _scored(self, run: Sequence[Part]) -> Iterator[tuple[int, bytes]]:
        job = self._job
        if self._model is None:  # not sooner: what is wrong with it is told by a row
            self._model = job.models.load(job.model)
        frames = read_rows(run[0].file, run[0].start, run[-1].stop, at_once=job.rows_at_once)
        with job.histories.opened() as histories:
            scorer = RowScorer(self._model.ranker, self._model.reference, histories, job.limits)
            for part, rows in zip(run, frames, strict=True):
                buffer = io.BytesIO()
                scorer.score(rows).write_parquet(buffer)
                yield part.number, buffer.getvalue()


def score_parts(job: ScoringJob, parts: Sequence[Part], *, workers: int | None = None) -> Iterator[tuple[Part, bytes]]:
    """Each of `parts` with its scores as Parquet, as they are ready. Ray must be connected.

    A part that a worker died over is scored again. SetupError with what went wrong where a model, histories or requests
    cannot be read.
    """
    import ray
    import ray.data

    keep_quiet(block_bytes=_BLOCK_BYTES)
    most = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
    size = max(1, min(workers or most, most, len(parts)))
    runs = _runs(parts, longest=max(1, min(MOST_PARTS, len(parts) // (_TASKS_A_WORKER * size))))
    # Made here: what reads them would wait for ever for a processor, since workers have them all.
    asked = ray.data.from_items([{"id": place} for place in range(len(runs))], override_num_blocks=len(runs))
    scored = asked.map_batches(
        PartScorer,
        fn_constructor_args=(job, runs),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(size, len(runs))),
        num_cpus=1,
    )
    by_number = {part.number: part for part in parts}
    ready: Iterator[Any] = iter(scored.iter_batches(batch_size=None, batch_format="pyarrow"))
    for batch in ready:
        for number, data in zip(batch["part"].to_pylist(), batch["data"].to_pylist(), strict=True):
            if number == _MISTAKE:
                raise SetupError(data.decode())
            yield by_number[number], data


def _runs(parts: Sequence[Part], *, longest: int) -> list[list[Part]]:
    """Parts that follow one another in a file, together."""
    runs: list[list[Part]] = []
    for _, own in groupby(enumerate(parts), key=lambda each: (each[1].file.path, each[1].number - each[0])):
        following = [part for _, part in own]
        runs += [following[at : at + longest] for at in range(0, len(following), longest)]
    return runs


def _row(number: int, data: bytes) -> "pa.Table":
    import pyarrow as pa

    return pa.table({"part": pa.array([number], pa.int64()), "data": pa.array([data], pa.large_binary())})
