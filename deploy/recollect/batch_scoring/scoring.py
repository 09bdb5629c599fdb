"""Score some requests as the service would: each by itself, what is wrong with one told beside the scores of others."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from recollect.batch_scoring.histories import Asked, Histories
from recollect.batch_scoring.requests import AS_OF, HISTORY, ITEMS, USER, plain
from recollect.gateway.errors import InvalidCall
from recollect.gateway.models import Ranker
from recollect.gateway.times import MAX_TIME_S
from recollect.gateway.validation import Violations, check_candidates
from recsys.ranking import Ranking

SCORED, DEGRADED, REFUSED = "scored", "degraded", "refused"
"""Statuses of a row. What is degraded has scores, too; its reasons are those of the service."""
HISTORY_EMPTY, ITEM_UNKNOWN = "HISTORY_EMPTY", "ITEM_UNKNOWN"
RESULTS: dict[str, pl.DataType] = {
    "status": pl.String(),
    "reason": pl.String(),
    "scores": pl.List(pl.Float32),
    "unknown_positions": pl.List(pl.Int64),
    "history_length": pl.Int64(),
    "model": pl.String(),
}
"""What is told of each request: why it is degraded or refused, else null; the scores in the order of its candidates,
null where it is refused; which candidates the model does not know; how many behaviours the scores rest on."""
_READ_AT_ONCE = 32
"""Histories that are in memory at once."""
_MOST_REASONS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a row may ask for, as the service has it."""

    candidates: int
    """Most candidates."""


@dataclass(frozen=True, slots=True)
class _Call:
    asked: Asked
    candidates: npt.NDArray[np.int64]


class RowScorer:
    """Answers requests."""

    def __init__(self, ranker: Ranker, model: str, histories: Histories, limits: Limits) -> None:
        """`model` is what the answers are labelled by."""
        self._ranker, self._model, self._histories, self._limits = ranker, model, histories, limits

    def score(self, rows: pl.DataFrame) -> pl.DataFrame:
        """`rows` of a file of requests without their histories, and RESULTS beside them, row by row."""
        told = [answer for some in plain(rows).iter_slices(_READ_AT_ONCE) for answer in self._answers(some)]
        columns = [pl.Series(name, [each[name] for each in told], dtype) for name, dtype in RESULTS.items()]
        return rows.drop(HISTORY, strict=False).hstack(columns)

    def _answers(self, rows: pl.DataFrame) -> Iterator[dict[str, object]]:
        calls = [self._checked(rows, at) for at in range(len(rows))]
        asked = [call.asked for call in calls if isinstance(call, _Call)]
        histories = iter(self._histories.read(asked))
        for call in calls:
            if isinstance(call, str):
                yield {**dict.fromkeys(RESULTS), "status": REFUSED, "reason": call, "model": self._model}
            else:
                history = next(histories)
                yield self._answer(history, self._ranker.rank(history, call.candidates))

    def _answer(self, history: npt.NDArray[np.int64], ranking: Ranking) -> dict[str, object]:
        unknown = np.flatnonzero(~ranking.known).tolist()
        reasons = [HISTORY_EMPTY] * (len(history) == 0) + [ITEM_UNKNOWN] * bool(unknown)
        return {
            "status": DEGRADED if reasons else SCORED,
            "reason": ", ".join(reasons) or None,
            "scores": ranking.scores.tolist(),  # arrays of one length would become a column of another type
            "unknown_positions": unknown,
            "history_length": len(history),
            "model": self._model,
        }

    def _checked(self, rows: pl.DataFrame, at: int) -> _Call | str:
        """What a row asks for, or why it cannot be answered."""
        violations = Violations()
        user_id, before_ms = rows[USER][at], rows[AS_OF][at]
        if user_id is None:
            violations.add(USER, "must not be null; write the id of the user")
        else:
            violations.require_user(user_id)
        candidates = _numbers(violations, ITEMS, rows[ITEMS][at])
        if candidates is not None:
            check_candidates(violations, candidates.tolist(), most=self._limits.candidates)
        if before_ms is not None and not 0 <= before_ms < (MAX_TIME_S + 1) * 1_000:
            violations.add(AS_OF, "must be in the years 1970 to 9999; check the unit")
        given = None
        if HISTORY in rows.columns:
            given = _numbers(violations, HISTORY, rows[HISTORY][at])
            if given is not None and len(given) and given.min() < 0:
                place = int(np.argmax(given < 0))
                violations.add(f"{HISTORY}[{place}]", f"must be 0 or more, got {given[place]}; map keys to ids first")
        try:
            violations.raise_any()
        except InvalidCall as refusal:
            return _reason(refusal)
        assert candidates is not None
        return _Call(Asked(user_id, before_ms, given), candidates)


def _numbers(violations: Violations, field: str, value: pl.Series | None) -> npt.NDArray[np.int64] | None:
    """A list's whole numbers; None where there is something else, which is noted."""
    if value is None:
        violations.add(field, "must not be null; write a list of item ids")
        return None
    if value.null_count():
        place = int(value.is_null().arg_max() or 0)
        violations.add(f"{field}[{place}]", "must be a whole number below 2^63, got null or a larger one; leave it out")
        return None
    return value.to_numpy()


def _reason(refusal: InvalidCall) -> str:
    told = [f"{each.field} {each.description}" for each in refusal.violations[:_MOST_REASONS]]
    more = len(refusal.violations) - len(told)
    return "; ".join([*told, *([f"and {more} more"] if more else [])])
