"""Whether what was served can be computed again from what training reads: the training-serving skew of an export.

Each call of a serving log is answered once more by the same model, from the user's events in the exported histories.
Where scores or retrieved behaviours come out otherwise, training would learn from something that users never met.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.errors import DataError
from recsys.history.serving_log import SCHEMA
from recsys.ranking import Ranker

_CALL = ["time", "call", "request_id", "user_id", "as_of", "model", "history_version", "history_length"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Skew:
    """How far what was served is from what the export gives."""

    calls: int
    """Calls of the model in question."""
    other_models: int
    """Calls that other models answered; they are left out."""
    changed: int
    """Calls whose history is another one in the export: events came late, or were deleted or trimmed since."""
    candidates: int
    """Candidates of the calls that are left, which were scored again."""
    largest_difference: float
    """Between a score that was served and the same computed again; 0 where there are no candidates."""
    other_behaviours: int
    """Candidates for which other behaviours were retrieved."""


def measure_skew(
    histories: Path, served: Path, ranker: Ranker, model: str, *, progress: Callable[[int, int], None] | None = None
) -> Skew:
    """Answer the calls of `served` that `model` (`name/version`) answered once more, from `histories`.

    `histories` and `served` are the files of `recollect history export`; `ranker` is that model. Calls without a
    history are counted too: an empty one can differ as well. `progress` hears of calls done and all calls. Raises
    DataError where a file cannot be read or has other columns.
    """
    rows = _read(served, SCHEMA)
    of_model = rows.filter(pl.col("model") == model)
    users = of_model["user_id"].unique()
    events = _read(histories, {"user_id": pl.String, "item_id": pl.Int64, "time": SCHEMA["time"]})
    events = events.filter(pl.col("user_id").is_in(users.implode()))
    by_user = {str(key[0]): part for key, part in events.partition_by("user_id", as_dict=True).items()}
    calls = [part for _, part in of_model.group_by(_CALL, maintain_order=True)]
    changed = candidates = other = 0
    largest = 0.0
    for done, call in enumerate(calls, start=1):
        history = _history(by_user.get(call["user_id"][0]), call)
        if len(history) != call["history_length"][0]:
            changed += 1
        else:
            ranking = ranker.rank(history["item_id"], call["item_id"], explain=True)
            assert ranking.found_positions is not None
            candidates += len(call)
            differences = np.abs(ranking.scores - call["score"].to_numpy())
            largest = max(largest, float(differences.max(initial=0)))
            found = _retrieved(history, ranking.found_positions)
            served_then = zip(call["retrieved_item_ids"], call["retrieved_times_ms"], strict=True)
            other += sum(
                sorted(zip(items, times, strict=True)) != now
                for (items, times), now in zip(served_then, found, strict=True)
            )
        if progress is not None:
            progress(done, len(calls))
    return Skew(
        calls=len(calls),
        other_models=rows.filter(pl.col("model") != model).select(_CALL).n_unique(),
        changed=changed,
        candidates=candidates,
        largest_difference=largest,
        other_behaviours=other,
    )


def _history(events: pl.DataFrame | None, call: pl.DataFrame) -> pl.DataFrame:
    """The events that the call could read: before its moment, or all that there were when it was answered."""
    if events is None:
        return pl.DataFrame(schema={"item_id": pl.Int64, "time": SCHEMA["time"]})
    as_of = call["as_of"][0]
    seen = events["time"] < as_of if as_of is not None else events["time"] <= call["time"][0]
    return events.filter(seen)


def _retrieved(history: pl.DataFrame, positions: Any) -> Iterator[list[tuple[int, int]]]:
    """Item and time of what each row of `positions` [T, K] finds, in their order."""
    items, times = history["item_id"].to_numpy(), history["time"].dt.epoch("ms").to_numpy()
    for row in positions:
        at = row[row >= 0]
        yield sorted(zip(items[at].tolist(), times[at].tolist(), strict=True))


def _read(path: Path, schema: dict[str, Any]) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path, columns=list(schema), glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read: {error}; make it with `recollect history export`") from error
    if frame.schema != pl.Schema(schema):
        raise DataError(f"{path} has columns {dict(frame.schema)}, expected {schema}; export it again")
    return frame
