"""Hand sampled answers to the serving log: what was asked, what was read, and what the model retrieved for each
candidate."""

import logging
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recollect.gateway.models import ServedModel
from recsys.history import History, now_ms
from recsys.history.serving_log import ServedCall, ServingLog

if TYPE_CHECKING:
    from recsys.ranking import Ranking

log = logging.getLogger(__name__)


def keep(
    serving_log: ServingLog,
    *,
    call: str,
    user_id: str,
    request_id: str,
    before_ms: int | None,
    model: ServedModel,
    index: str | None,
    history: History,
    item_ids: npt.NDArray[np.int64],
    ranking: "Ranking",
) -> None:
    """Keep one answer; `ranking` is that of `item_ids`, with reasons. A disk that is full harms no answer."""
    if ranking.found_positions is None or ranking.found_weights is None:
        raise ValueError("ranking must hold what was found; rank with explain=True")
    served = ServedCall(
        time_ms=now_ms(),
        call=call,
        request_id=request_id,
        user_id=user_id,
        as_of_ms=before_ms,
        model=model.reference,
        index=index,
        history_version=history.version,
        history_item_ids=history.item_ids,
        history_times_ms=history.times_ms,
        history_types=history.types,
        item_ids=item_ids,
        scores=ranking.scores,
        found_positions=ranking.found_positions,
        found_weights=ranking.found_weights,
    )
    try:
        serving_log.add(served)
    except OSError:
        log.exception("the serving log cannot be written")
