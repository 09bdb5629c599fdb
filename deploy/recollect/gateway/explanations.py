"""Say which behaviours a score rests on."""

from typing import TYPE_CHECKING

import numpy as np

from recollect.gateway.times import timestamp
from recollect_api.v1 import event_pb2, recommender_pb2
from recsys.history.store import History

if TYPE_CHECKING:
    from recsys.ranking import Ranking


def explanations(candidates: int, history: History | None, ranking: "Ranking") -> list[recommender_pb2.Explanation]:
    """One explanation a candidate: what was found, highest weight first, the newer of two equal ones first."""
    positions, weights = ranking.found_positions, ranking.found_weights
    if history is None or positions is None or weights is None:
        return [recommender_pb2.Explanation() for _ in range(candidates)]
    told = []
    for found, weight in zip(positions, weights, strict=True):
        # [K]; the last key of lexsort counts first.
        order = np.lexsort((-found, -weight))
        told.append(
            recommender_pb2.Explanation(
                behaviours=[_found(history, int(found[at]), float(weight[at])) for at in order if found[at] >= 0]
            )
        )
    return told


def _found(history: History, position: int, weight: float) -> recommender_pb2.FoundBehaviour:
    return recommender_pb2.FoundBehaviour(
        item_id=int(history.item_ids[position]),
        time=timestamp(int(history.times_ms[position])),
        type=event_pb2.EventType.ValueType(int(history.types[position])),
        weight=weight,
    )
