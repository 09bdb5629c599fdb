"""Do the parts of a loop here, or let the threads of a team take one after the other; see `recollect_kernels.team`."""

import numpy as np
from llvmlite import ir
from numba import int64, njit, types
from numba.core import cgutils
from numba.core.typing.templates import signature as typed
from numba.extending import intrinsic

from recollect_kernels.compiled.building import at
from recollect_kernels.team import ID, IDS, NUMBER, REGION, THREADS

_BYTES, _I32, _I64 = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)


@intrinsic
def _told(_, address):
    """What the C function `int f(void)` at that address says."""

    def generate(_context, builder, _signature, arguments):
        function = builder.inttoptr(arguments[0], ir.FunctionType(_I32, []).as_pointer())
        return builder.sext(builder.call(function, []), _I64)

    return int64(address), generate


@intrinsic
def _next(_, counter):
    """counter[0], to which 1 is added; no two threads are told the same."""

    def generate(context, builder, signature, arguments):
        place = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", place, ir.Constant(_I64, 1), "seq_cst")

    return int64(counter), generate


def _region_of(function):
    """What has `function(*call)` called by each of so many threads: `GOMP_parallel`, at an address, is told to."""

    @intrinsic
    def in_region(_, parallel, threads, call):
        kinds = tuple(call)
        function.get_call_template(kinds, {})  # compiles

        def generate(context, builder, _signature, arguments):
            compiled = function.get_compile_result(typed(types.void, *kinds))
            context.active_code_library.add_linking_library(compiled.library)
            given = cgutils.alloca_once_value(builder, arguments[2])
            outlined = ir.Function(
                builder.module,
                ir.FunctionType(ir.VoidType(), [_BYTES]),
                name=builder.module.get_unique_name(f"{builder.function.name}.region"),
            )
            outlined.linkage = "internal"
            inside = ir.IRBuilder(outlined.append_basic_block())
            received = inside.load(inside.bitcast(outlined.args[0], given.type))
            values = [inside.extract_value(received, i) for i in range(len(kinds))]
            context.call_internal_no_propagate(inside, compiled.fndesc, compiled.signature, values)
            inside.ret_void()
            kind = ir.FunctionType(ir.VoidType(), [outlined.type, _BYTES, _I32, _I32])
            start, count = builder.inttoptr(arguments[0], kind.as_pointer()), builder.trunc(arguments[1], _I32)
            builder.call(start, [outlined, builder.bitcast(given, _BYTES), count, ir.Constant(_I32, 0)])
            return context.get_dummy_value()

        return types.void(parallel, threads, call), generate

    return in_region


def in_parts(loop):
    """A function of `(call, parts, part, team)` that does `loop(part, parts, *call)`, for -1 all parts by the team."""

    @njit(nogil=True)
    def take(call, parts, end, counter, team):
        if len(team) > 0:
            team[at(IDS + _told(team[NUMBER]))] = _told(team[ID])
        part = np.int64(_next(counter))
        while part < end:
            loop(part, parts, *call)
            part = np.int64(_next(counter))

    in_region = _region_of(take)

    @njit(nogil=True, inline="always")
    def run(call, parts, part, team):
        if part < 0:
            team[IDS:] = 0
            in_region(team[REGION], team[THREADS], (call, parts, parts, np.zeros(1, np.int64), team))
        else:
            take(call, parts, part + 1, np.full(1, part), team)

    return run
