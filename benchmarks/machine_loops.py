"""Loops that do nothing but read, or nothing but compute: what a processor reaches at best.

Emitted as LLVM code over vectors of eight float32, as the engine's own loops are, and without
the GIL, so that two threads can run them side by side.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numpy.typing import NDArray

from ste_lightning.kernels.jit.compiling import compiled, emitted
from ste_lightning.theory.engine.cpu import aligned
from ste_lightning.theory.engine.llvm import INDEX, LANES, VECTOR, cell_of, fma, load, splat

__all__ = ["bandwidth", "compute", "floats", "read", "seconds"]

_SUMS = 8  # independent sums, enough to hide the latency of an addition
_STEP = _SUMS * LANES  # floats that a read loop takes at once
_AHEAD = 256  # floats that one of the two prefetches ahead


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    start = clock()
    run()
    return clock() - start


def _zeros(builder):
    cells = [cell_of(builder) for _ in range(_SUMS)]
    for cell in cells:
        builder.store(ir.Constant(VECTOR, None), cell)
    return cells


def _total(builder, cells):
    total = ir.Constant(VECTOR, None)
    for cell in cells:
        total = builder.fadd(total, builder.load(cell))
    return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))


def _reading(ahead: int) -> Callable[..., object]:
    """Return the loop that adds up ``count * _STEP`` floats, prefetching ``ahead`` if not 0."""

    def add(typing, data, count):
        def code(context, builder, signature, args):
            first = context.make_array(signature.args[0])(context, builder, args[0]).data
            sums = _zeros(builder)
            byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
            fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            hints = [ir.Constant(flag, hint) for hint in (0, 3, 1)]  # read, first level, data
            with cgutils.for_range(builder, args[1]) as loop:
                place = builder.gep(first, [builder.mul(loop.index, ir.Constant(INDEX, _STEP))])
                for line in range(0, _STEP if ahead else 0, 16):
                    later = builder.gep(place, [ir.Constant(INDEX, ahead + line)])
                    builder.call(fetch, [builder.bitcast(later, byte), *hints])
                for i, cell in enumerate(sums):
                    builder.store(builder.fadd(builder.load(cell), load(builder, place, i)), cell)
            return _total(builder, sums)

        return types.float32(types.Array(types.float32, 1, "C"), types.int64), code

    return emitted(add)


_plain, _prefetching = _reading(0), _reading(_AHEAD)


@emitted
def _multiply(typing, factor, count):
    """``count`` times eight independent fused multiply-adds, in registers alone."""

    def code(context, builder, signature, args):
        sums, times = _zeros(builder), splat(builder, args[0])
        with cgutils.for_range(builder, args[1]):
            for cell in sums:
                terms = [builder.load(cell), times, times]
                builder.store(builder.call(fma(builder), terms), cell)
        return _total(builder, sums)

    return types.float32(types.float32, types.int64), code


@compiled
def read(data, repeats, prefetch):
    total = np.float32(0)
    for _ in range(repeats):
        if prefetch:
            total += _prefetching(data, len(data) // _STEP)
        else:
            total += _plain(data, len(data) // _STEP)
    return total


@compiled
def compute(factor, count):
    return _multiply(factor, count)


def floats(size: int) -> NDArray[np.float32]:
    """Return about ``size`` bytes to be read."""
    data = aligned(max(_STEP, size // 4 // _STEP * _STEP))
    data[:] = 1
    return data


def bandwidth(size: int) -> float:
    """Return bytes per second when ``size`` bytes are read again and again, by the better loop."""
    data = floats(size)
    repeats = max(2, 2**31 // data.nbytes)
    read(data, 1, True)
    plain = seconds(lambda: read(data, repeats, False))
    prefetching = seconds(lambda: read(data, repeats, True))
    return data.nbytes * repeats / min(plain, prefetching)
