"""Kernels that pool whole histories and never hold a [B, T, L] or a [B, L, d]: the backward ones compute the weights
again from the saved log-sum-exp."""
# ruff: noqa: N803 - compile-time constants are written in capitals, as everywhere in Triton

import triton
import triton.language as tl

from recollect_kernels.target_attention.kept_kernels import LOWEST
from recollect_kernels.target_attention.segment_kernels import chunk_bounds, chunk_place, store_sum
from recollect_kernels.tiles.rows import load_columns, load_row, load_rows


@triton.jit
def _length(offsets, history):
    begin = tl.load(offsets + history)
    return begin, (tl.load(offsets + history + 1) - begin).to(tl.int32)


@triton.jit
def _behaviours(rows, begin, length, recency, table_rows):
    """Table rows at `recency`, and which of them are there: within the history and within the table."""
    row = tl.load(rows + begin + (length - 1 - recency), mask=recency < length, other=-1)
    return row, (recency < length) & (row >= 0) & (row < table_rows)


@triton.jit(do_not_specialize=["targets", "table_rows", "bias_count", "recency_count", "longest"])
def attend_all_kernel(
    query, keys, key_scales, values, value_scales, rows, offsets, bias, recency_values, output, log_sum,
    targets, table_rows, bias_count, recency_count, longest,
    BLOCK_T: tl.constexpr, BLOCK_L: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, E: tl.constexpr, EP: tl.constexpr,
    R: tl.constexpr, RP: tl.constexpr, SCALED_KEYS: tl.constexpr, SCALED_VALUES: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Output [BLOCK_T, E + R] and log-sum-exp [BLOCK_T] of one history's targets, newest behaviours first."""
    history = tl.program_id(0).to(tl.int64)
    target = tl.program_id(1) * BLOCK_T + tl.arange(0, BLOCK_T)
    live = target < targets
    target = history * targets + target
    q = load_rows(query, query, target, live, D, DP, False)
    begin, length = _length(offsets, history)
    top = tl.full([BLOCK_T], LOWEST, dtype=tl.float32)  # the score of what pads a history to the longest
    total = tl.zeros([BLOCK_T], dtype=tl.float32) + tl.maximum(longest - length, 0).to(tl.float32)
    pooled = tl.zeros([BLOCK_T, EP], dtype=tl.float32)
    pooled_recency = tl.zeros([BLOCK_T, RP], dtype=tl.float32)
    for first in range(0, length, BLOCK_L):
        recency = first + tl.arange(0, BLOCK_L)
        row, there = _behaviours(rows, begin, length, recency, table_rows)
        key = load_rows(keys, key_scales, row, there, D, DP, SCALED_KEYS)
        score = tl.dot(q, tl.trans(key), input_precision="ieee")
        if HAS_BIAS:
            score += tl.load(bias + tl.minimum(recency, bias_count - 1)).to(tl.float32)[None, :]
        score = tl.where(there[None, :], score, tl.where(recency < length, LOWEST, float("-inf"))[None, :])
        higher = tl.maximum(top, tl.max(score, axis=1))
        shrink = tl.exp(top - higher)
        weight = tl.exp(score - higher[:, None])
        total = total * shrink + tl.sum(weight, axis=1)
        value = load_rows(values, value_scales, row, there, E, EP, SCALED_VALUES)
        pooled = tl.dot(weight, value, pooled * shrink[:, None], input_precision="ieee")
        if R > 0:
            value = load_rows(recency_values, query, tl.minimum(recency, recency_count - 1), there, R, RP, False)
            pooled_recency = tl.dot(weight, value, pooled_recency * shrink[:, None], input_precision="ieee")
        top = higher
    column = tl.arange(0, EP)
    mask = live[:, None] & (column < E)[None, :]
    tl.store(output + target[:, None] * (E + R) + column[None, :], pooled / total[:, None], mask=mask)
    if R > 0:
        column = tl.arange(0, RP)
        mask = live[:, None] & (column < R)[None, :]
        tl.store(output + target[:, None] * (E + R) + E + column[None, :], pooled_recency / total[:, None], mask=mask)
    tl.store(log_sum + target, top + tl.log(total), mask=live)


@triton.jit(do_not_specialize=["targets", "table_rows", "bias_count", "recency_count"])
def query_gradient_kernel(
    query, keys, key_scales, values, value_scales, rows, offsets, bias, recency_values, output, log_sum,
    grad_output, grad_query, delta,
    targets, table_rows, bias_count, recency_count,
    BLOCK_T: tl.constexpr, BLOCK_L: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, E: tl.constexpr, EP: tl.constexpr,
    R: tl.constexpr, RP: tl.constexpr, SCALED_KEYS: tl.constexpr, SCALED_VALUES: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Gradient of the query [BLOCK_T, D], and delta [BLOCK_T] = output · its gradient, which the other kernels read."""
    history = tl.program_id(0).to(tl.int64)
    target = tl.program_id(1) * BLOCK_T + tl.arange(0, BLOCK_T)
    live = target < targets
    target = history * targets + target
    q = load_rows(query, query, target, live, D, DP, False)
    g = load_columns(grad_output, target, live, 0, E, EP, E + R)
    dot = tl.sum(g * load_columns(output, target, live, 0, E, EP, E + R), axis=1)
    if R > 0:
        g_recency = load_columns(grad_output, target, live, E, R, RP, E + R)
        dot += tl.sum(g_recency * load_columns(output, target, live, E, R, RP, E + R), axis=1)
    tl.store(delta + target, dot, mask=live)
    log_total = tl.load(log_sum + target, mask=live, other=0.0)
    begin, length = _length(offsets, history)
    g_query = tl.zeros([BLOCK_T, DP], dtype=tl.float32)
    for first in range(0, length, BLOCK_L):
        recency = first + tl.arange(0, BLOCK_L)
        row, there = _behaviours(rows, begin, length, recency, table_rows)
        key = load_rows(keys, key_scales, row, there, D, DP, SCALED_KEYS)
        score = tl.dot(q, tl.trans(key), input_precision="ieee")
        if HAS_BIAS:
            score += tl.load(bias + tl.minimum(recency, bias_count - 1)).to(tl.float32)[None, :]
        weight = tl.exp(score - log_total[:, None])
        value = load_rows(values, value_scales, row, there, E, EP, SCALED_VALUES)
        g_weight = tl.dot(g, tl.trans(value), input_precision="ieee")
        if R > 0:
            value = load_rows(recency_values, query, tl.minimum(recency, recency_count - 1), there, R, RP, False)
            g_weight = tl.dot(g_recency, tl.trans(value), g_weight, input_precision="ieee")
        g_score = tl.where(there[None, :], weight * (g_weight - dot[:, None]), 0.0)
        g_query = tl.dot(g_score, key, g_query, input_precision="ieee")
    column = tl.arange(0, DP)
    mask = live[:, None] & (column < D)[None, :]
    tl.store(grad_query + target[:, None] * D + column[None, :], g_query.to(grad_query.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["targets", "bias_count", "recency_count", "count", "n_ids"])
def table_gradient_kernel(
    query, keys, key_scales, values, value_scales, offsets, bias, recency_values, log_sum, delta, grad_output,
    starts, ids, order, history_of, grad_keys, grad_values, partial_keys, partial_values,
    targets, bias_count, recency_count, count, n_ids,
    D: tl.constexpr, DP: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, R: tl.constexpr, RP: tl.constexpr,
    SCALED_KEYS: tl.constexpr, SCALED_VALUES: tl.constexpr, HAS_BIAS: tl.constexpr,
    GRAD_KEYS: tl.constexpr, GRAD_VALUES: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """What one chunk of a row's occurrences adds to its key and value gradient: the row is read once, and every target
    of every occurrence is met in turn."""
    begin, end, owner = chunk_bounds(starts, ids, tl.program_id(0), count, n_ids)
    if begin < end:
        key = load_row(keys, key_scales, owner, D, DP, SCALED_KEYS)
        value = load_row(values, value_scales, owner, E, EP, SCALED_VALUES)
        g_key = tl.zeros([DP], dtype=tl.float32)
        g_value = tl.zeros([EP], dtype=tl.float32)
        for first in range(0, (end - begin).to(tl.int32) * targets, BLOCK):
            pair = first + tl.arange(0, BLOCK)  # an occurrence and a target
            place = begin + pair // targets
            there = place < end
            occurrence = tl.load(order + place, mask=there, other=0)
            history = tl.load(history_of + occurrence, mask=there, other=0).to(tl.int64)
            target = history * targets + pair % targets
            q = load_rows(query, query, target, there, D, DP, False)
            g = load_columns(grad_output, target, there, 0, E, EP, E + R)
            score = tl.sum(q * key[None, :], axis=1)
            g_weight = tl.sum(g * value[None, :], axis=1)
            recency = tl.load(offsets + history + 1, mask=there, other=1) - 1 - occurrence
            if HAS_BIAS:
                at = tl.minimum(recency, bias_count - 1)
                score += tl.load(bias + at, mask=there, other=0.0).to(tl.float32)
            if R > 0:
                g_recency = load_columns(grad_output, target, there, E, R, RP, E + R)
                at = tl.minimum(recency, recency_count - 1)
                g_weight += tl.sum(g_recency * load_rows(recency_values, query, at, there, R, RP, False), axis=1)
            log_total = tl.load(log_sum + target, mask=there, other=0.0)
            weight = tl.where(there, tl.exp(score - log_total), 0.0)
            g_score = weight * (g_weight - tl.load(delta + target, mask=there, other=0.0))
            g_key += tl.sum(g_score[:, None] * q, axis=0)
            g_value += tl.sum(weight[:, None] * g, axis=0)
        alone, slot = chunk_place(ids, begin, end, owner, count, CHUNK)
        if GRAD_KEYS:
            store_sum(g_key, grad_keys, partial_keys, alone, owner, slot, D, DP)
        if GRAD_VALUES:
            store_sum(g_value, grad_values, partial_values, alone, owner, slot, E, EP)


@triton.jit(do_not_specialize=["batch", "targets", "table_rows", "bias_count", "recency_count", "share"])
def recency_gradient_kernel(
    query, keys, key_scales, values, value_scales, rows, offsets, bias, recency_values, log_sum, delta, grad_output,
    partial, batch, targets, table_rows, bias_count, recency_count, share,
    BLOCK_L: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, E: tl.constexpr, EP: tl.constexpr,
    R: tl.constexpr, RP: tl.constexpr, SCALED_KEYS: tl.constexpr, SCALED_VALUES: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Gradient of BLOCK_L recencies' bias and value, summed over `share` histories into a row of `partial`
    [., 1 + R]."""
    recency = tl.program_id(0) * BLOCK_L + tl.arange(0, BLOCK_L)
    g_bias = tl.zeros([BLOCK_L], dtype=tl.float32)
    g_values = tl.zeros([BLOCK_L, RP], dtype=tl.float32)
    recency_bias = tl.zeros([BLOCK_L], dtype=tl.float32)
    if HAS_BIAS:
        recency_bias += tl.load(bias + tl.minimum(recency, bias_count - 1)).to(tl.float32)
    if R > 0:
        everywhere = recency >= 0  # entries past the history weigh nothing
        recency_value = load_rows(
            recency_values, query, tl.minimum(recency, recency_count - 1), everywhere, R, RP, False
        )
    first = tl.program_id(1) * share
    for history in range(first, tl.minimum(first + share, batch)):
        begin, length = _length(offsets, history)
        if tl.program_id(0) * BLOCK_L < length:
            row, there = _behaviours(rows, begin, length, recency, table_rows)
            key = load_rows(keys, key_scales, row, there, D, DP, SCALED_KEYS)
            value = load_rows(values, value_scales, row, there, E, EP, SCALED_VALUES)
            for t in range(targets):
                target = tl.cast(history, tl.int64) * targets + t
                q = load_row(query, query, target, D, DP, False)
                column = tl.arange(0, EP)
                g = tl.load(grad_output + target * (E + R) + column, mask=column < E, other=0.0)
                score = tl.sum(key * q[None, :], axis=1) + recency_bias
                g_weight = tl.sum(value * g[None, :], axis=1)
                weight = tl.where(there, tl.exp(score - tl.load(log_sum + target)), 0.0)
                if R > 0:
                    column = tl.arange(0, RP)
                    g = tl.load(grad_output + target * (E + R) + E + column, mask=column < R, other=0.0)
                    g_weight += tl.sum(recency_value * g[None, :], axis=1)
                    g_values += weight[:, None] * g[None, :]
                g_bias += tl.where(there, weight * (g_weight - tl.load(delta + target)), 0.0)
    at = (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)).to(tl.int64) * BLOCK_L + tl.arange(0, BLOCK_L)
    tl.store(partial + at * (1 + R), g_bias)
    if R > 0:
        column = tl.arange(0, RP)
        tl.store(partial + at[:, None] * (1 + R) + 1 + column[None, :], g_values, mask=(column < R)[None, :])
