"""A number that tells two contents of memory apart, as fast as memory can be read."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.arrays import zeros
from ste_lightning.kernels.jit.c_functions import SIZE, WORDS, addressed, carray
from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.llvm import load, pointer_to, store
from ste_lightning.kernels.jit.simd import copy

__all__ = ["fingerprint"]

_LANES, _ROTATED, _ODD = 64, 13, 0x9E3779B1
_WORDS = ir.VectorType(ir.IntType(32), _LANES)
_KINDS = types.Array(types.uint32, 1, "C")


def _all(value: int) -> Any:
    return ir.Constant(_WORDS, [value] * _LANES)


@emitted
def mix(typing: Any, words: Any, blocks: Any, lanes: Any) -> Any:
    """Let ``blocks`` of 64 words join the lanes: h = (rotate(h) xor word) * odd."""

    def code(context: Any, b: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(ir.IntType(64), 0)
        first, place = (pointer_to(context, b, signature.args[i], args[i], zero) for i in (0, 2))
        cell = cgutils.alloca_once_value(b, load(b, place, _WORDS, 4))  # type: ignore[no-untyped-call]
        with cgutils.for_range(b, args[1]) as loop:
            h, at = b.load(cell), b.mul(loop.index, ir.Constant(ir.IntType(64), _LANES))
            turned = b.or_(b.shl(h, _all(_ROTATED)), b.lshr(h, _all(32 - _ROTATED)))
            b.store(b.mul(b.xor(turned, load(b, b.gep(first, [at]), _WORDS)), _all(_ODD)), cell)
        store(b, b.load(cell), place, 4)
        return context.get_dummy_value()

    return types.none(_KINDS, types.int64, _KINDS), code


@addressed(WORDS, SIZE, SIZE, returns=SIZE)
def fingerprint(words_, first, last):  # type: ignore[no-untyped-def]
    """Return 64 bits that depend on every bit of words ``first`` to ``last``.

    A lane of 32 bits is a bijection of any one of its words: a change of a single word is always
    seen. Others pass unseen once in 2^32 if they stay within one lane, every 64th word.
    """
    words = carray(words_, (last,))[first:]
    lanes, rest = zeros(_LANES, np.uint32), zeros(_LANES, np.uint32)
    whole = len(words) // _LANES
    mix(words, whole, lanes)
    copy(words, whole * _LANES, rest, 0, len(words) - whole * _LANES)
    mix(rest, 1, lanes)
    odd, found = np.uint64(0x9E3779B97F4A7C15), np.uint64(len(words))
    for i in range(_LANES):
        found = ((found << np.uint64(23) | found >> np.uint64(41)) ^ np.uint64(lanes[i])) * odd
    return np.int64(found)
