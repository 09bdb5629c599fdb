"""Read table rows of any storage as fp32, so that no kernel knows how a table is stored."""
# ruff: noqa: N803 - compile-time constants are written in capitals, as everywhere in Triton

import triton
import triton.language as tl


@triton.jit
def load_rows(table, scales, row, there, D: tl.constexpr, DP: tl.constexpr, SCALED: tl.constexpr):
    """Rows `row` [N] of `table` [V, D] as fp32 [N, DP]: 0 where not `there` [N], and in columns from D on.

    `table` points to contiguous fp32, fp16, bf16, int8 or float8_e4m3fn; with SCALED each row is multiplied by its
    entry of `scales` fp32 [V], which is not read otherwise. DP is a power of two of at least D. Rows that are not
    `there` are never read, so their numbers may be anything.
    """
    column = tl.arange(0, DP)
    mask = there[:, None]
    if DP > D:
        mask = mask & (column < D)[None, :]
    row = row.to(tl.int64)  # V * D may pass 2^31
    tile = tl.load(table + row[:, None] * D + column[None, :], mask=mask, other=0.0).to(tl.float32)
    if SCALED:
        tile = tile * tl.load(scales + row, mask=there, other=0.0)[:, None]
    return tile


@triton.jit
def load_row(table, scales, row, D: tl.constexpr, DP: tl.constexpr, SCALED: tl.constexpr):
    """One row as fp32 [DP]; otherwise as `load_rows`."""
    column = tl.arange(0, DP)
    row = tl.cast(row, tl.int64)
    vector = tl.load(table + row * D + column, mask=column < D, other=0.0).to(tl.float32)
    if SCALED:
        vector = vector * tl.load(scales + row)
    return vector


@triton.jit
def load_columns(matrix, row, there, FIRST: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, WIDTH: tl.constexpr):
    """Columns FIRST to FIRST + D of rows `row` [N] of `matrix` [M, WIDTH] as fp32 [N, DP]; 0 as in `load_rows`."""
    column = tl.arange(0, DP)
    mask = there[:, None]
    if DP > D:
        mask = mask & (column < D)[None, :]
    row = row.to(tl.int64)
    return tl.load(matrix + row[:, None] * WIDTH + FIRST + column[None, :], mask=mask, other=0.0).to(tl.float32)
