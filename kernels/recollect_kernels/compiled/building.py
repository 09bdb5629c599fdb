"""How the loops are compiled, kept on disk, and what they share."""

import hashlib
import warnings
from pathlib import Path

import numpy as np
from llvmlite import ir
from numba import njit, void
from numba.core import cgutils
from numba.extending import intrinsic

at = np.uint64
"""An unsigned index spares numba's test for a negative one, without which nothing is vectorised."""
LINE = 64
"""Bytes in a cache line."""
LANES = 16
"""Numbers in a cache line."""
ROWS = 4
"""Rows that products and sums take at a time."""
PADDING = np.finfo(np.float32).min
"""Score that stands for padding, as in `target_attention.reference.masked_softmax`."""
SUMS = {"contract", "reassoc"}
"""Fast arithmetic of sums: they may be reordered and fused; NaN, infinities and signed zeros keep their meaning."""


def compiled(signatures):
    """Compile now, or read from the cache; where there is no place for one, the process compiles for itself."""

    def decorate(function):
        function.__qualname__ += f"-{_source()}"
        try:
            return njit(signatures, nogil=True, error_model="numpy", cache=True)(function)
        except RuntimeError as error:
            warnings.warn(
                f"compiled loops cannot be kept on disk ({error}), so that every process compiles them for seconds; "
                "set NUMBA_CACHE_DIR to a directory that can be written",
                stacklevel=2,
            )
            return njit(signatures, nogil=True, error_model="numpy")(function)

    return decorate


def _source():
    """Digest of this folder: numba itself looks at a loop's own file alone, and not at what it is made of."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def prefetch_from(builder, place):
    """Let LLVM ask for the cache line of `place`."""
    pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [builder.bitcast(place, pointer), flag(0), flag(3), flag(1)])  # read, keep, data


@intrinsic
def prefetch(_, table, row, column):
    """Ask for the cache line of table[row, column] without waiting for it."""

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = cgutils.get_item_pointer(context, builder, signature.args[0], array, arguments[1:])
        prefetch_from(builder, place)
        return context.get_dummy_value()

    return void(table, row, column), generate


@njit(nogil=True)
def ask_for(table, rows, begin, end):
    """Prefetch the rows of the behaviours begin … end."""
    for column in range(0, table.shape[1], LANES):
        for j in range(begin, end):
            prefetch(table, at(rows[at(j)]), at(column))
