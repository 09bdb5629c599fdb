"""The search on a CPU in torch alone: long histories one by one by the maxima of groups, short ones all at once."""

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels.autocast import in_own_precision
from recollect_kernels.behavior_search import reference
from recollect_kernels.behavior_search.ordering import PADDING_KEY, position_of_key, sort_key
from recollect_kernels.ragged import subset
from recollect_kernels.tables import Table, gather_rows

_LONG = 512
"""Behaviours below which a history is never searched on its own."""
_MUCH = 1 << 18
"""Scores of one history from which it is searched on its own; below, the reference's padded batch is as fast."""
_TILE = 1 << 22
"""Scores held at once: 16 MB."""
_GROUP, _LARGE_GROUP, _LARGE_FROM = 32, 64, 32_768
"""Width of a group of behaviours, and of one in histories from that length on; measured."""
_GROUPS_A_RESULT = 4
"""Groups for each of the k results from which group maxima pay."""


@torch.no_grad()
@in_own_precision
def search(
    query: Float[Tensor, "b t d"],
    keys: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    k: int,
    recency_bias: Float[Tensor, " p"] | None,
) -> tuple[Float[Tensor, "b t k"], Int64[Tensor, "b t k"]]:
    """Scores and positions of the k best behaviours, in the reference's order."""
    lengths = offsets.diff()
    long = (lengths >= max(_LONG, k)) & ((lengths * query.shape[1] >= _MUCH) | (lengths >= _LARGE_FROM))
    if not bool(long.any()):
        return reference.search(query, keys, rows, offsets, k, recency_bias)
    shape = (*query.shape[:2], k)
    scores = query.new_empty(shape, dtype=torch.float32)
    positions = torch.empty(shape, dtype=torch.int64)
    short = (~long).nonzero().flatten()
    if len(short):
        some = subset(rows, offsets, short)
        scores[short], positions[short] = reference.search(query[short], keys, *some, k, recency_bias)
    for b in long.nonzero().flatten().tolist():
        history = rows[int(offsets[b]) : int(offsets[b + 1])]
        scores[b], positions[b] = _search_one(query[b], keys, history, k, recency_bias)
    return scores, positions


def _search_one(
    query: Float[Tensor, "t d"],
    keys: Table,
    history: Int[Tensor, " l"],
    k: int,
    recency_bias: Float[Tensor, " p"] | None,
) -> tuple[Float[Tensor, "t k"], Int64[Tensor, "t k"]]:
    """The search in one history of at least k behaviours."""
    length = len(history)
    group = _LARGE_GROUP if length >= _LARGE_FROM else _GROUP
    grouped = length >= _GROUPS_A_RESULT * k * group
    padded = -(-length // group) * group if grouped else length
    # The bias is one more feature, so that one product gives the scores: [L, d + 1] and a query that ends in 1.
    features = torch.zeros(padded, query.shape[1] + 1)
    features[:length, :-1] = gather_rows(keys, history)
    features[length:, -1] = -torch.inf  # what pads the last group is never selected
    if recency_bias is not None:
        features[:length, -1] = reference.bias_by_column(recency_bias.float(), length)
    wanted = torch.cat([query.float(), torch.ones(len(query), 1)], dim=1)
    scores = torch.empty(len(query), k)
    positions = torch.empty(len(query), k, dtype=torch.int64)
    step = max(1, _TILE // padded)
    memory = torch.empty(min(step, len(query)), padded)
    for start in range(0, len(query), step):
        part = wanted[start : start + step]
        tile = torch.mm(part, features.T, out=memory[: len(part)])  # [t, L]
        best = _select_grouped(tile, k, group) if grouped else _select(tile, k)
        # NaN, and fewer than k scores above -inf, leave no bound to select by.
        key = sort_key(tile[:, :length]).topk(k).values if best is None else best
        position = position_of_key(key)
        positions[start : start + step] = position
        scores[start : start + step] = tile.gather(1, position)
    return scores, positions


def _select(scores: Float[Tensor, "t l"], k: int) -> Int64[Tensor, "t k"] | None:
    """Keys of the k best of each row, best first; None where the k-th score is no bound."""
    bound = scores.topk(k, sorted=False).values.amin(1)
    if not bool((bound > -torch.inf).all()) or bool(scores.isnan().any()):
        return None
    target, position = (scores >= bound.unsqueeze(1)).nonzero(as_tuple=True)
    return _best_of(scores, target, position, k)


def _select_grouped(scores: Float[Tensor, "t l"], k: int, group: int) -> Int64[Tensor, "t k"] | None:
    """As `_select`, reading the scores once: the k best lie in the k groups with the best maxima.

    Groups are ordered by maximum and then by position. Were one of the k best scores outside the first k groups, each
    of those would hold a score that precedes it, which is k too many.
    """
    targets, length = scores.shape
    maxima = scores.view(targets, length // group, group).amax(2)  # [t, L / group]
    best = sort_key(maxima).topk(k, sorted=False).indices.sort(1).values  # [t, k], by position
    bound = maxima.gather(1, best).amin(1)
    if not bool((bound > -torch.inf).all()) or bool(maxima.isnan().any()):
        return None
    candidates = scores.view(targets, length // group, group).gather(1, best.unsqueeze(2).expand(-1, -1, group))
    target, place = (candidates.flatten(1) >= bound.unsqueeze(1)).nonzero(as_tuple=True)
    position = best[target, place // group] * group + place % group
    return _best_of(scores, target, position, k)


def _best_of(
    scores: Float[Tensor, "t l"], target: Int64[Tensor, " c"], position: Int64[Tensor, " c"], k: int
) -> Int64[Tensor, "t k"]:
    """Keys of the k best of each row among the candidates (target, position), at least k a row, ascending by row."""
    counts = torch.bincount(target, minlength=len(scores))
    rank = torch.arange(len(target)) - (counts.cumsum(0) - counts)[target]  # candidate's number within its row
    key = torch.full((len(scores), int(counts.max())), PADDING_KEY)
    key[target, rank] = sort_key(scores[target, position].unsqueeze(1), position.unsqueeze(1)).squeeze(1)
    return key.topk(k).values
