"""Operations on many numbers at once, spelled out as vectors of LLVM where loops alone are not turned into them."""

import os
from functools import reduce

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import int64, types
from numba.core import cgutils
from numba.extending import intrinsic

from recollect_kernels.compiled.building import LANES, ROWS, prefetch_from

TARGETS = 4
"""Targets scored together, which share each load of a column."""
KEYS = 8
"""64-bit keys moved together."""

_F32, _I16, _I32, _I64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_NUMBERS, _SOME_KEYS = ir.VectorType(_F32, LANES), ir.VectorType(_I64, KEYS)
_WIDE = "NUMBA_CPU_NAME" not in os.environ and get_host_cpu_features().get("avx512f")
TILE = 2 * LANES if _WIDE else LANES
"""Behaviours scored together: as many as leave all sums in registers, of which AVX-512 has 32."""


def _opened(context, builder, kinds, arguments):
    """Arguments, and the place of the first number instead of each that is an array."""
    return (
        context.make_array(kind)(context, builder, argument).data if isinstance(kind, types.Array) else argument
        for kind, argument in zip(kinds, arguments, strict=True)
    )


def _row(builder, rows, place):
    """The row that rows[place] names."""
    row = builder.load(builder.gep(rows, [place]))
    return row if row.type == _I64 else builder.zext(row, _I64)


def _load(builder, pointer, index, vector):
    place = builder.bitcast(builder.gep(pointer, [index]), vector.as_pointer())
    return builder.load(place, align=4 if vector is _NUMBERS else 8)


def _store(builder, value, pointer, index):
    place = builder.bitcast(builder.gep(pointer, [index]), value.type.as_pointer())
    builder.store(value, place, align=4 if value.type is _NUMBERS else 8)


def _splat(builder, value, vector):
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_I32, 0))
    mask = ir.Constant(ir.VectorType(_I32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


def _plus(builder, a, b, total):
    """total + a · b, in one step where the processor has one."""
    kind = ir.FunctionType(_NUMBERS, [_NUMBERS] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fmuladd.v16f32"), [a, b, total])


def _summed(builder, begin, end, step, add):
    """What `add(f, sums)` makes of the vectors `begin` for f = 0, step, … below `end`, one
    after the other. There is one at least.
    """
    entry = builder.block
    body, done = builder.append_basic_block("features"), builder.append_basic_block("summed")
    builder.branch(body)
    builder.position_at_end(body)
    f, sums = builder.phi(_I64), [builder.phi(_NUMBERS) for _ in begin]
    following = [builder.add(f, _I64(step)), *add(f, sums)]
    for phi, first, after in zip([f, *sums], [_I64(0), *begin], following, strict=True):
        phi.add_incoming(first, entry)
        phi.add_incoming(after, body)
    builder.cbranch(builder.icmp_signed("<", following[0], end), body, done)
    builder.position_at_end(done)
    return following[1:]


def _above(builder, scores, bound):
    """Which scores are not at most `bound`: NaN never is, and nothing is where the bound is NaN."""
    return builder.fcmp_unordered(">", scores, bound)


def _score(builder, columns, here, block, width, query, first, begun, j):
    """Scores of TARGETS targets for TILE behaviours, as vectors: a loop over the features."""
    starts = [builder.add(j, _I64(LANES * v)) for v in range(TILE // LANES)]
    begin = [_load(builder, begun, start, _NUMBERS) for start in starts]

    def add(f, sums):
        column = builder.add(here, builder.mul(f, block))
        xs = [_load(builder, columns, builder.add(column, start), _NUMBERS) for start in starts]
        following = []
        for t in range(TARGETS):
            place = builder.add(builder.add(first, builder.mul(width, _I64(t))), f)
            q = _splat(builder, builder.load(builder.gep(query, [place])), _NUMBERS)
            following += [_plus(builder, q, x, sums[len(xs) * t + v]) for v, x in enumerate(xs)]
        return following

    sums = _summed(builder, begin * TARGETS, width, 1, add)
    return [sums[t : t + len(starts)] for t in range(0, len(sums), len(starts))]


@intrinsic
def score_tile(_, columns, here, block, width, query, first, begun, j, bounds, target, scores, masks):
    """Scores of TARGETS targets for TILE behaviours, and a mask for each of those that are not at most its bound."""

    def generate(context, builder, signature, arguments):
        columns, here, block, width, query, first, begun, j, bounds, target, scores, masks = _opened(
            context, builder, signature.args, arguments
        )
        sums = _score(builder, columns, here, block, width, query, first, begun, j)
        over = []
        for t, parts in enumerate(sums):
            bound = _splat(builder, builder.load(builder.gep(bounds, [builder.add(target, _I64(t))])), _NUMBERS)
            over.append([_above(builder, part, bound) for part in parts])
        some = reduce(builder.or_, (one for parts in over for one in parts))
        found = builder.icmp_unsigned("!=", builder.bitcast(some, _I16), _I16(0))
        with builder.if_then(found):
            for t, parts in enumerate(sums):
                mask = _I64(0)
                for v, part in enumerate(parts):
                    _store(builder, part, scores, _I64(t * TILE + v * LANES))
                    bits = builder.zext(builder.bitcast(over[t][v], _I16), _I64)
                    mask = builder.or_(mask, builder.shl(bits, _I64(LANES * v)))
                builder.store(mask, builder.gep(masks, [_I64(t)]))
        return builder.zext(found, _I64)

    return int64(columns, int64, int64, int64, query, int64, begun, int64, bounds, int64, scores, masks), generate


@intrinsic
def raise_maxima(_, columns, here, block, width, query, first, begun, j, maxima, place, stride):
    """Raise TILE maxima of each of TARGETS targets, from `place` on and `stride` apart, to their scores for a tile."""

    def generate(context, builder, signature, arguments):
        columns, here, block, width, query, first, begun, j, maxima, place, stride = _opened(
            context, builder, signature.args, arguments
        )
        for t, parts in enumerate(_score(builder, columns, here, block, width, query, first, begun, j)):
            for v, part in enumerate(parts):
                here = builder.add(builder.add(place, builder.mul(stride, _I64(t))), _I64(LANES * v))
                highest = _load(builder, maxima, here, _NUMBERS)
                higher = builder.fcmp_ordered(">", part, highest)  # NaN is higher than nothing
                _store(builder, builder.select(higher, part, highest), maxima, here)
        return context.get_dummy_value()

    return types.void(columns, int64, int64, int64, query, int64, begun, int64, maxima, int64, int64), generate


@intrinsic
def insert(_, kept, t, key):
    """Insert `key` into the descending keys kept[t, KEYS:] and lose the last of them.

    There are a multiple of KEYS, and what stands before them is the greatest key of all.
    """

    def generate(context, builder, signature, arguments):
        kept, t, key = arguments
        array = context.make_array(signature.args[0])(context, builder, kept)
        stride = builder.extract_value(array.shape, 1)
        begin = builder.mul(t, stride)
        end = builder.add(begin, stride)
        key = _splat(builder, key, _SOME_KEYS)
        entry = builder.block
        shift = builder.append_basic_block("shift")
        done = builder.append_basic_block("inserted")
        builder.branch(shift)
        builder.position_at_end(shift)
        after = builder.phi(_I64)
        after.add_incoming(end, entry)
        here = builder.sub(after, _I64(KEYS))
        greater = builder.sub(here, _I64(KEYS))
        current = _load(builder, array.data, here, _SOME_KEYS)
        # Vectors as they were stored: one across two of them would wait until both have reached the cache.
        places = ir.Constant(ir.VectorType(_I32, KEYS), list(range(KEYS - 1, 2 * KEYS - 1)))
        before = builder.shuffle_vector(_load(builder, array.data, greater, _SOME_KEYS), current, places)
        lesser = builder.select(builder.icmp_signed("<", before, key), before, key)
        following = builder.select(builder.icmp_signed(">", current, lesser), current, lesser)
        _store(builder, following, array.data, here)
        after.add_incoming(here, shift)
        builder.cbranch(builder.icmp_signed(">", greater, begin), shift, done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(kept, int64, int64), generate


@intrinsic
def lowest_bit(_, mask):
    """Place of the lowest bit of a mask that is not 0."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(_I64, [_I64, ir.IntType(1)])
        count = cgutils.get_or_insert_function(builder.module, kind, "llvm.cttz.i64")
        return builder.call(count, [arguments[0], ir.IntType(1)(1)])

    return int64(int64), generate


@intrinsic
def above(_, scores, j, bound):
    """A mask of those of LANES scores that are not at most `bound`."""

    def generate(context, builder, signature, arguments):
        scores, j, bound = _opened(context, builder, signature.args, arguments)
        over = _above(builder, _load(builder, scores, j, _NUMBERS), _splat(builder, bound, _NUMBERS))
        return builder.zext(builder.bitcast(over, _I16), _I64)

    return int64(scores, j, bound), generate


def _pairs(unit):
    """Places, in two vectors side by side, of every other `unit` numbers within every 4 · unit of them."""
    even, odd = [], []
    for lane in range(0, LANES, 4 * unit):
        for vector in (0, LANES):
            for half in (0, 2 * unit):
                even += [vector + lane + half + i for i in range(unit)]
                odd += [vector + lane + half + unit + i for i in range(unit)]
    return even, odd


def _sums(builder, vectors):
    """A vector of the sums of each of LANES vectors."""
    for unit in (1, 1, 4, 4):
        even, odd = (ir.Constant(ir.VectorType(_I32, LANES), places) for places in _pairs(unit))
        vectors = [
            builder.fadd(builder.shuffle_vector(a, b, even), builder.shuffle_vector(a, b, odd))
            for a, b in zip(vectors[::2], vectors[1::2], strict=True)
        ]
    return vectors[0]


def _turned(builder, vectors):
    """LANES vectors, of which each has one number of each of those given."""
    unit = 1
    while unit < LANES:
        low = [lane if lane & unit == 0 else LANES + lane - unit for lane in range(LANES)]
        high = [lane + unit if lane & unit == 0 else LANES + lane for lane in range(LANES)]
        low, high = (ir.Constant(ir.VectorType(_I32, LANES), places) for places in (low, high))
        for i in range(LANES):
            if i & unit == 0:
                a, b = vectors[i], vectors[i + unit]
                vectors[i], vectors[i + unit] = builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)
        unit *= 2
    return vectors


@intrinsic
def turn_lanes(_, numbers, d, rows, first, feature, columns, place, block):
    """Lay LANES features of LANES rows of d `numbers` into columns, from `place` on and `block` apart.

    The rows are those that rows[first:] names, or those from `first` on where `rows` is None.
    """

    def generate(context, builder, signature, arguments):
        kinds = signature.args
        named = isinstance(kinds[2], types.Array)
        numbers, d, rows, first, feature, columns, place, block = _opened(context, builder, kinds, arguments)
        vectors = []
        for i in range(LANES):
            row = builder.add(first, _I64(i))
            begin = builder.mul(_row(builder, rows, row) if named else row, d)
            vectors.append(_load(builder, numbers, builder.add(begin, feature), _NUMBERS))
        for f, vector in enumerate(_turned(builder, vectors)):
            column = builder.mul(block, builder.add(feature, _I64(f)))
            _store(builder, vector, columns, builder.add(place, column))
        return context.get_dummy_value()

    return types.void(numbers, int64, rows, int64, int64, columns, int64, int64), generate


@intrinsic
def score_lanes(_, table, rows, first, ahead, query, scores, j):
    """Add the products of one target with LANES behaviours, whose rows begin at rows[first], to scores[j:].

    Rows [V, d] of fp32, d a multiple of LANES. Those at rows[ahead:] are asked for.
    """

    def generate(context, builder, signature, arguments):
        d = builder.extract_value(context.make_array(table)(context, builder, arguments[0]).shape, 1)
        numbers, rows, first, ahead, query, scores, j = _opened(context, builder, signature.args, arguments)
        begins = [builder.mul(_row(builder, rows, builder.add(first, _I64(i))), d) for i in range(LANES)]
        nexts = [builder.mul(_row(builder, rows, builder.add(ahead, _I64(i))), d) for i in range(LANES)]

        def add(f, sums):
            q = _load(builder, query, f, _NUMBERS)
            following = []
            for row, later, total in zip(begins, nexts, sums, strict=True):
                prefetch_from(builder, builder.gep(numbers, [builder.add(later, f)]))
                following.append(_plus(builder, q, _load(builder, numbers, builder.add(row, f), _NUMBERS), total))
            return following

        products = _summed(builder, [ir.Constant(_NUMBERS, [0.0] * LANES)] * LANES, d, LANES, add)
        total = builder.fadd(_sums(builder, products), _load(builder, scores, j, _NUMBERS))
        _store(builder, total, scores, j)
        return context.get_dummy_value()

    return types.void(table, rows, int64, int64, query, scores, int64), generate


@intrinsic
def add_lanes(_, table, rows, n, weights, feature, sums, place):
    """Add LANES features of n rows of `table`, those that `rows` names, by their weights to sums[place:].

    Rows [V, d] of fp32; n is a multiple of ROWS, and not 0.
    """

    def generate(context, builder, signature, arguments):
        d = builder.extract_value(context.make_array(table)(context, builder, arguments[0]).shape, 1)
        numbers, rows, n, weights, feature, sums, place = _opened(context, builder, signature.args, arguments)

        def add(j, totals):
            following = []
            for i, total in enumerate(totals):
                row = builder.add(j, _I64(i))
                weight = _splat(builder, builder.load(builder.gep(weights, [row])), _NUMBERS)
                begin = builder.add(builder.mul(_row(builder, rows, row), d), feature)
                following.append(_plus(builder, weight, _load(builder, numbers, begin, _NUMBERS), total))
            return following

        begin = [_load(builder, sums, place, _NUMBERS), *[ir.Constant(_NUMBERS, [0.0] * LANES)] * (ROWS - 1)]
        a, b, c, d = _summed(builder, begin, n, ROWS, add)
        _store(builder, builder.fadd(builder.fadd(a, b), builder.fadd(c, d)), sums, place)
        return context.get_dummy_value()

    return types.void(table, rows, int64, weights, int64, sums, int64), generate
