"""The micro-kernels of float inputs and packed weights: weights are decoded in registers.

``sums[r, n] = sum_k x_r[k] w_n[k]`` for a tile of rows and 16 outputs, one to a lane. A lane's word
holds 32 / b codes of its output, k after k; shifted right, its lowest four bits find what a code
stands for in a table of 16 floats (VPERMPS), codes of eight bits are converted.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.cpu_features import vnni_bits
from ste_lightning.kernels.jit.llvm import load, pointer_to, splat, store

__all__ = ["LANES", "WIDTHS", "floats_1", "floats_8"]

LANES = 16
WIDTHS = (2, 4, 8)  # bits of a stored code

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_WORDS, _FLOATS = ir.VectorType(_I32, LANES), ir.VectorType(ir.FloatType(), LANES)
_FUSED = ("contract",)  # one rounding where the processor has it


def _index(value: int) -> Any:
    return ir.Constant(_I64, value)


def _decoded(builder: Any, words: Any, bits: int, number: int, table: Any) -> Any:
    """Return what the ``number``-th codes of the words stand for; ``table`` is a pointer to it."""
    codes = builder.lshr(words, ir.Constant(_WORDS, [bits * number] * LANES))
    if bits < 8 and vnni_bits() == 512:  # then AVX-512 is there
        kind = ir.FunctionType(_FLOATS, [_FLOATS, _WORDS])
        name = "llvm.x86.avx512.permvar.sf.512"
        permute = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
        return builder.call(permute, [load(builder, table, _FLOATS, 4), codes])
    codes = builder.and_(codes, ir.Constant(_WORDS, [2**bits - 1] * LANES))
    zero, one = (builder.load(builder.gep(table, [_index(k)])) for k in range(2))
    step = splat(builder, builder.fsub(one, zero), LANES)
    value = builder.fmul(builder.sitofp(codes, _FLOATS), step)
    return builder.fadd(value, splat(builder, zero, LANES))


def _tile(rows: int, chains: int) -> Any:
    """Return the micro-kernel for a tile of ``rows`` rows.

    In compiled code: ``f(words, at, table, bits, tile, groups, sums)``: ``groups`` vectors of
    words from ``at`` on; ``tile`` holds the rows' k-th floats side by side; the 16 ``sums`` of
    each row are overwritten.
    """

    def micro_kernel(
        typing: Any, words: Any, at: Any, table: Any, bits: Any, tile: Any, groups: Any, sums: Any
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            words_, at_, table_, bits_, tile_, groups_, sums_ = args
            kinds = signature.args
            first = pointer_to(context, builder, kinds[0], words_, at_)
            entries, x, target = (
                pointer_to(context, builder, kinds[n], array, _index(0))
                for n, array in ((2, table_), (4, tile_), (6, sums_))
            )
            cells = [
                [cgutils.alloca_once(builder, _FLOATS) for _ in range(chains)]  # type: ignore[no-untyped-call]
                for _ in range(rows)
            ]
            for cell in (cell for row in cells for cell in row):
                builder.store(ir.Constant(_FLOATS, None), cell)

            def multiply(width: int) -> None:
                per = 32 // width
                with cgutils.for_range(builder, groups_) as loop:
                    place = builder.gep(first, [builder.mul(loop.index, _index(LANES))])
                    packed = load(builder, place, _WORDS)
                    start = builder.gep(x, [builder.mul(loop.index, _index(per * rows))])
                    for k in range(per):
                        w = _decoded(builder, packed, width, k, entries)
                        for r, row in enumerate(cells):
                            one = builder.load(builder.gep(start, [_index(k * rows + r)]))
                            product = builder.fmul(splat(builder, one, LANES), w, flags=_FUSED)
                            cell = row[k % chains]
                            total = builder.fadd(builder.load(cell), product, flags=_FUSED)
                            builder.store(total, cell)

            for width in WIDTHS:
                with builder.if_then(builder.icmp_signed("==", bits_, _index(width))):
                    multiply(width)
            for r, row in enumerate(cells):
                total = builder.load(row[0])
                for cell in row[1:]:
                    total = builder.fadd(total, builder.load(cell))
                store(builder, total, builder.gep(target, [_index(LANES * r)]), 4)
            return context.get_dummy_value()

        floats, index = types.Array(types.float32, 1, "C"), types.int64
        words_kind = types.Array(types.int32, 1, "C")
        return types.none(words_kind, index, floats, index, floats, index, floats), code

    return emitted(micro_kernel)


floats_1, floats_8 = _tile(1, 4), _tile(8, 1)
