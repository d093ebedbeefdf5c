"""The micro-kernels of inputs and weights of several bits: products of bytes and of words.

``sums[r, n] += sum_k row_r[k] panel[k, n]`` for unsigned inputs and signed weights of a byte.

* ``bytes``: VPMADDUBSW multiplies 32 pairs and adds neighbours in 16 bits, where they stay for as
  many steps as cannot overflow. A step takes four channels of every output.
* ``words``: where a pair of products alone would overflow 16 bits, VPMADDWD multiplies 16 pairs of
  16 bits and adds neighbours in 32 bits. A step takes two channels, which a row holds as uint16.

Sixteen outputs (two vectors) are side by side and four rows share them: eight sums, two vectors
of weights and a broadcast input fill the registers of AVX2.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.cpu_features import has_avx2
from ste_lightning.kernels.jit.llvm import load, splat

__all__ = ["bytes_1", "bytes_4", "words_1", "words_4"]

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES, _PAIRS, _SUMS = ir.VectorType(_I8, 32), ir.VectorType(_I16, 16), ir.VectorType(_I32, 8)
_VECTORS = 2  # of eight outputs
_WIDTH = 32  # sums of a row, from its first to that of the next row


def _index(value: int) -> Any:
    return ir.Constant(_I64, value)


def _call(builder: Any, name: str, result: Any, *operands: Any) -> Any:
    kind = ir.FunctionType(result, [operand.type for operand in operands])
    function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
    return builder.call(function, operands)


def _neighbours(builder: Any, value: Any) -> Any:
    """Return the sums of neighbouring elements."""
    half = value.type.count // 2
    parts = [
        builder.shuffle_vector(
            value,
            ir.Constant(value.type, ir.Undefined),
            ir.Constant(ir.VectorType(_I32, half), [2 * i + odd for i in range(half)]),
        )
        for odd in range(2)
    ]
    return builder.add(*parts)


def multiply_bytes(builder: Any, x: Any, w: Any) -> Any:
    """Return x w of 32 unsigned and 32 signed bytes, neighbours added, in 16 bits."""
    if has_avx2():
        return _call(builder, "llvm.x86.avx2.pmadd.ub.sw", _PAIRS, x, w)
    wide = ir.VectorType(_I16, 32)
    return _neighbours(builder, builder.mul(builder.zext(x, wide), builder.sext(w, wide)))


def multiply_words(builder: Any, x: Any, w: Any) -> Any:
    """Return x w of 16 signed words, neighbours added, in 32 bits."""
    if has_avx2():
        return _call(builder, "llvm.x86.avx2.pmadd.wd", _SUMS, x, w)
    wide = ir.VectorType(_I32, 16)
    return _neighbours(builder, builder.mul(builder.sext(x, wide), builder.sext(w, wide)))


def _emit(b: Any, words: bool, rows: list[Any], panel: Any, units: Any, sums: Any) -> None:
    sum_kind = _SUMS if words else _PAIRS
    stored = ir.VectorType(_I8, 16) if words else _BYTES
    cells = [
        [cgutils.alloca_once_value(b, ir.Constant(sum_kind, None)) for _ in range(_VECTORS)]  # type: ignore[no-untyped-call]
        for _ in rows
    ]
    for cell in (cell for row in cells for cell in row):
        b.store(ir.Constant(sum_kind, None), cell)
    with cgutils.for_range(b, units) as loop:
        k = loop.index
        first = b.gep(panel, [b.mul(k, _index(stored.count * _VECTORS))])
        weights = []
        for v in range(_VECTORS):
            loaded = load(b, b.gep(first, [_index(stored.count * v)]), stored)
            weights.append(b.sext(loaded, _PAIRS) if words else loaded)
        for row, row_cells in zip(rows, cells, strict=True):
            four = load(b, b.gep(row, [b.mul(k, _index(4))]), _I32)
            x = b.bitcast(splat(b, four, 8), weights[0].type)
            multiply = multiply_words if words else multiply_bytes
            for w, cell in zip(weights, row_cells, strict=True):
                b.store(b.add(b.load(cell), multiply(b, x, w)), cell)
    for r, row_cells in enumerate(cells):
        for v, cell in enumerate(row_cells):
            place = b.gep(sums, [_index(r * _WIDTH + v * 8)])
            place = b.bitcast(place, _SUMS.as_pointer())
            found = b.load(cell)
            if not words:
                found = multiply_words(b, found, ir.Constant(_PAIRS, [1] * 16))
            b.store(b.add(load(b, place, _SUMS, 4), found), place).align = 4


def _digits(count: int, words: bool) -> Any:
    """Return the micro-kernel for ``count`` rows.

    In compiled code: ``f(panels, panel_start, rows, row_start, row_stride, units, sums,
    sums_start)`` with starts and strides of panels and rows in bytes; the int32 ``sums`` of a row
    are 32 elements from those of the next.
    """

    def micro_kernel(
        typing: Any,
        panels: Any,
        panel_start: Any,
        rows: Any,
        row_start: Any,
        row_stride: Any,
        units: Any,
        sums: Any,
        sums_start: Any,
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            panels_, panel_start_, rows_, row_start_, stride_, units_, sums_, sums_start_ = args

            def data(position: int, array: Any) -> Any:
                kind = signature.args[position]
                return context.make_array(kind)(context, builder, array).data

            panel = builder.gep(data(0, panels_), [panel_start_])
            first = builder.gep(data(2, rows_), [row_start_])
            pointers = [builder.gep(first, [builder.mul(stride_, _index(r))]) for r in range(count)]
            place = builder.gep(data(6, sums_), [sums_start_])
            _emit(builder, words, pointers, panel, units_, place)
            return context.get_dummy_value()

        byte_array, index = types.Array(types.uint8, 1, "C"), types.int64
        sums_type = types.Array(types.int32, 1, "C")
        return types.none(
            byte_array, index, byte_array, index, index, index, sums_type, index
        ), code

    return emitted(micro_kernel)


bytes_4, bytes_1 = _digits(4, words=False), _digits(1, words=False)
words_4, words_1 = _digits(4, words=True), _digits(1, words=True)
