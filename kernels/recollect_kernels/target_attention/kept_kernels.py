"""Kernels that pool the few behaviours that a search kept: one program a target."""
# ruff: noqa: N803 - compile-time constants are written in capitals, as everywhere in Triton

import triton
import triton.language as tl

from recollect_kernels.tiles.rows import load_row, load_rows

LOWEST: tl.constexpr = tl.constexpr(-3.4028234663852886e38)
"""The reference's score of what is left out or pads a history: it weighs 0, unless all other scores are -inf."""


@triton.jit
def _kept(positions, rows, offsets, target, first, targets, table_rows, K: tl.constexpr, BLOCK_K: tl.constexpr):
    """Slot, row, recency and presence of BLOCK_K of a target's kept behaviours; absent are position -1 and slots past
    K, and, so that nothing outside the table is ever read, positions and rows that do not exist."""
    slot = first + tl.arange(0, BLOCK_K)
    begin = tl.load(offsets + target // targets)
    length = tl.load(offsets + target // targets + 1) - begin
    position = tl.load(positions + target * K + slot, mask=slot < K, other=-1)
    there = (position >= 0) & (position < length)
    row = tl.load(rows + begin + position, mask=there, other=-1)
    there = there & (row >= 0) & (row < table_rows)
    return slot, row, length - 1 - position, there


@triton.jit
def _scores(
    q, keys, key_scales, bias, bias_count, slot, row, recency, there,
    K: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, SCALED_KEYS: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Scores [BLOCK_K] as the reference's softmax sees them."""
    score = tl.sum(load_rows(keys, key_scales, row, there, D, DP, SCALED_KEYS) * q[None, :], axis=1)
    if HAS_BIAS:
        score += tl.load(bias + tl.minimum(recency, bias_count - 1), mask=there, other=0.0).to(tl.float32)
    return tl.where(slot < K, tl.where(there, score, LOWEST), float("-inf"))


@triton.jit(do_not_specialize=["table_rows", "targets", "bias_count", "recency_count"])
def attend_kept_kernel(
    query, keys, key_scales, values, value_scales, rows, offsets, positions, bias, recency_values, output, weights,
    targets, table_rows, bias_count, recency_count,
    K: tl.constexpr, BLOCK_K: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, E: tl.constexpr, EP: tl.constexpr,
    R: tl.constexpr, RP: tl.constexpr, SCALED_KEYS: tl.constexpr, SCALED_VALUES: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Output [E + R] and weights [K] of one target."""
    target = tl.program_id(0).to(tl.int64)
    q = load_row(query, query, target, D, DP, False)
    if K > BLOCK_K:  # the maximum and the sum come first; scores wait where the weights will be
        top = LOWEST
        total = 0.0
        for first in range(0, K, BLOCK_K):
            slot, row, recency, there = _kept(positions, rows, offsets, target, first, targets, table_rows, K, BLOCK_K)
            score = _scores(
                q, keys, key_scales, bias, bias_count, slot, row, recency, there, K, D, DP, SCALED_KEYS, HAS_BIAS
            )
            tl.store(weights + target * K + slot, score, mask=slot < K)
            higher = tl.maximum(top, tl.max(score, axis=0))
            total = total * tl.exp(top - higher) + tl.sum(tl.exp(score - higher), axis=0)
            top = higher
        tl.debug_barrier()  # other threads of this program wrote the scores that are read below
    pooled = tl.zeros([EP], dtype=tl.float32)
    pooled_recency = tl.zeros([RP], dtype=tl.float32)
    for first in range(0, K, BLOCK_K):
        slot, row, recency, there = _kept(positions, rows, offsets, target, first, targets, table_rows, K, BLOCK_K)
        if K > BLOCK_K:
            score = tl.load(weights + target * K + slot, mask=slot < K, other=float("-inf"))
            weight = tl.exp(score - top) / total
        else:
            score = _scores(
                q, keys, key_scales, bias, bias_count, slot, row, recency, there, K, D, DP, SCALED_KEYS, HAS_BIAS
            )
            weight = tl.exp(score - tl.maximum(LOWEST, tl.max(score, axis=0)))
            weight = weight / tl.sum(weight, axis=0)
        weight = weight * there.to(tl.float32)
        tl.store(weights + target * K + slot, weight, mask=slot < K)
        value = load_rows(values, value_scales, row, there, E, EP, SCALED_VALUES)
        pooled += tl.sum(weight[:, None] * value, axis=0)
        if R > 0:
            value = load_rows(recency_values, query, tl.minimum(recency, recency_count - 1), there, R, RP, False)
            pooled_recency += tl.sum(weight[:, None] * value, axis=0)
    column = tl.arange(0, EP)
    tl.store(output + target * (E + R) + column, pooled, mask=column < E)
    if R > 0:
        column = tl.arange(0, RP)
        tl.store(output + target * (E + R) + E + column, pooled_recency, mask=column < R)


@triton.jit(do_not_specialize=["table_rows", "targets", "recency_count", "longest"])
def attend_kept_gradient_kernel(
    keys, key_scales, values, value_scales, rows, offsets, positions, recency_values, output, weights,
    grad_output, grad_weights, grad_query, grad_scores, found_rows, found_recency,
    targets, table_rows, recency_count, longest,
    K: tl.constexpr, BLOCK_K: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, E: tl.constexpr, EP: tl.constexpr,
    R: tl.constexpr, RP: tl.constexpr, SCALED_KEYS: tl.constexpr, SCALED_VALUES: tl.constexpr,
    HAS_GRAD_WEIGHTS: tl.constexpr,
):  # fmt: skip
    """Gradient of one target's query [D] and scores [K], with the row and recency that each slot read.

    Absent slots get row `table_rows` and recency `longest`, one past the last, so that they sort behind all others.
    """
    target = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, EP)
    g = tl.load(grad_output + target * (E + R) + column, mask=column < E, other=0.0)
    delta = tl.sum(g * tl.load(output + target * (E + R) + column, mask=column < E, other=0.0), axis=0)
    if R > 0:
        column = tl.arange(0, RP)
        g_recency = tl.load(grad_output + target * (E + R) + E + column, mask=column < R, other=0.0)
        pooled = tl.load(output + target * (E + R) + E + column, mask=column < R, other=0.0)
        delta += tl.sum(g_recency * pooled, axis=0)
    if HAS_GRAD_WEIGHTS:
        for first in range(0, K, BLOCK_K):
            slot = first + tl.arange(0, BLOCK_K)
            weight = tl.load(weights + target * K + slot, mask=slot < K, other=0.0)
            g_weight = tl.load(grad_weights + target * K + slot, mask=slot < K, other=0.0)
            delta += tl.sum(weight * g_weight, axis=0)
    g_query = tl.zeros([DP], dtype=tl.float32)
    for first in range(0, K, BLOCK_K):
        slot, row, recency, there = _kept(positions, rows, offsets, target, first, targets, table_rows, K, BLOCK_K)
        value = load_rows(values, value_scales, row, there, E, EP, SCALED_VALUES)
        g_weight = tl.sum(value * g[None, :], axis=1)
        if R > 0:
            value = load_rows(recency_values, keys, tl.minimum(recency, recency_count - 1), there, R, RP, False)
            g_weight += tl.sum(value * g_recency[None, :], axis=1)
        if HAS_GRAD_WEIGHTS:
            g_weight += tl.load(grad_weights + target * K + slot, mask=slot < K, other=0.0)
        weight = tl.load(weights + target * K + slot, mask=there, other=0.0)
        g_score = tl.where(there, weight * (g_weight - delta), 0.0)
        key = load_rows(keys, key_scales, row, there, D, DP, SCALED_KEYS)
        g_query += tl.sum(g_score[:, None] * key, axis=0)
        tl.store(grad_scores + target * K + slot, g_score, mask=slot < K)
        tl.store(found_rows + target * K + slot, tl.where(there, row, table_rows).to(tl.int32), mask=slot < K)
        recency = tl.where(there, tl.minimum(recency, longest - 1), longest)
        tl.store(found_recency + target * K + slot, recency.to(tl.int32), mask=slot < K)
    column = tl.arange(0, DP)
    tl.store(grad_query + target * D + column, g_query.to(grad_query.dtype.element_ty), mask=column < D)
