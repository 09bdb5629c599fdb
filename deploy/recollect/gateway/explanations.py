"""Say which behaviours a score rests on, and what was missing."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recollect.gateway.times import timestamp
from recollect_api.v1 import event_pb2, recommender_pb2
from recsys.history.store import History

if TYPE_CHECKING:
    from recsys.ranking import Ranking


Names = Callable[[npt.NDArray[np.int64]], Mapping[int, str]]
"""Item → name, of those of some items that have one."""


def explanations(
    candidates: int,
    history: History | None,
    ranking: "Ranking",
    names: Names | None = None,
    *,
    most: int | None = None,
) -> list[recommender_pb2.Explanation]:
    """One explanation a candidate: what was found, highest weight first, the newer of two equal ones first.

    With `names`, items are called by name as well; with `most`, no more behaviours are told of each.
    """
    positions, weights = ranking.found_positions, ranking.found_weights
    if history is None or positions is None or weights is None:
        return [recommender_pb2.Explanation() for _ in range(candidates)]
    called = {} if names is None else names(np.unique(history.item_ids[positions[positions >= 0]]))
    told = []
    for found, weight in zip(positions, weights, strict=True):
        # [K]; the last key of lexsort counts first.
        order = np.lexsort((-found, -weight))
        order = order[found[order] >= 0][:most]
        told.append(
            recommender_pb2.Explanation(
                behaviours=[_found(history, int(found[at]), float(weight[at]), called) for at in order]
            )
        )
    return told


def degraded_by(history: History | None, *, unknown: bool) -> list[recommender_pb2.DegradedReason.ValueType]:
    """Why scores for `history`, None where it cannot be had, are worse than they could be."""
    degraded = []
    if history is None or not history.complete:
        degraded.append(recommender_pb2.DEGRADED_REASON_HISTORY_UNAVAILABLE)
    elif len(history.item_ids) == 0:
        degraded.append(recommender_pb2.DEGRADED_REASON_HISTORY_EMPTY)
    if unknown:
        degraded.append(recommender_pb2.DEGRADED_REASON_ITEM_UNKNOWN)
    return degraded


def _found(history: History, position: int, weight: float, called: Mapping[int, str]) -> recommender_pb2.FoundBehaviour:
    item_id = int(history.item_ids[position])
    return recommender_pb2.FoundBehaviour(
        item_id=item_id,
        time=timestamp(int(history.times_ms[position])),
        type=event_pb2.EventType.ValueType(int(history.types[position])),
        weight=weight,
        item_name=called.get(item_id, ""),
    )
