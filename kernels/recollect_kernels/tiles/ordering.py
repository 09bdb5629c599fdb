"""The total order of `behavior_search.ordering` in kernels: int32 keys of scores, to find a threshold among many, and
int64 keys of scores and positions, no two alike, to put a few in order.
"""

import triton
import triton.language as tl

_LARGEST_POSITION = tl.constexpr(0x7FFFFFFF)
ABSENT = tl.constexpr(-0x80000000)
"""Key of what is not there: below every behaviour."""
NAN = tl.constexpr(-0x7FFFFFFF)
"""Key of NaN: below every number, -inf included."""


@triton.jit
def key_of_score(score, there):
    """Order-preserving int32 of fp32 scores, -0 as +0; ABSENT where not `there`."""
    bits = (score + 0.0).to(tl.int32, bitcast=True)  # -0 + 0 is +0
    key = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # negative floats sort backwards as integers
    key = tl.where(score == score, key, NAN)
    return tl.where(there, key, ABSENT)


@triton.jit
def score_of_key(key):
    """The fp32 score that went into a key; -inf for ABSENT."""
    bits = key ^ ((key >> 31) & 0x7FFFFFFF)
    score = tl.where(key == NAN, float("nan"), bits.to(tl.float32, bitcast=True))
    return tl.where(key == ABSENT, float("-inf"), score)


@triton.jit
def sort_key(key, position):
    """int64 of which the greater comes first: the key of a score above the reversed position."""
    return (key.to(tl.int64) << 32) | (_LARGEST_POSITION - position)


@triton.jit
def split_sort_key(order):
    """(key, position), both int32."""
    return (order >> 32).to(tl.int32), _LARGEST_POSITION - (order & 0xFFFFFFFF).to(tl.int32)
