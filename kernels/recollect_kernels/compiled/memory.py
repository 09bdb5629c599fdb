"""Arrays over memory by its address: numpy takes longer to make one of a tensor than a short search takes."""

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

FLOATS, INTS, LONGS = np.empty(0, np.float32), np.empty(0, np.int32), np.empty(0, np.int64)
"""Kinds of arrays."""


@intrinsic
def _pointer(_, kind, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return types.CPointer(kind.dtype)(kind, address), generate


@njit(nogil=True)
def array_at(kind, address, shape):
    """What lies at an address, one row behind the other; of the type of what the array `kind` holds."""
    return carray(_pointer(kind, address), shape)
