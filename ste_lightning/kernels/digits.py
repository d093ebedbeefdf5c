"""The micro-kernel for inputs and weights of several bits: products of bytes.

``sums[r, n] = sum_k row_r[k] panel[k, n]`` for unsigned codes that fit into a byte. Four
channels of eight outputs are one vector; VPMADDUBSW multiplies 32 pairs and adds neighbours in 16
bits, where they stay for as many steps as cannot overflow.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.compiling import emitted
from ste_lightning.kernels.target import has_avx2

__all__ = ["digits_1", "digits_2"]

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES, _PAIRS, _SUMS = ir.VectorType(_I8, 32), ir.VectorType(_I16, 16), ir.VectorType(_I32, 8)
_VECTORS = 4  # of eight outputs: a panel of 32


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


def _multiply(builder: Any, x: Any, w: Any) -> Any:
    """Return x w of unsigned bytes (w below 128), neighbours added, in 16 bits."""
    if has_avx2():
        return _call(builder, "llvm.x86.avx2.pmadd.ub.sw", _PAIRS, x, w)
    wide = ir.VectorType(_I16, 32)
    return _neighbours(builder, builder.mul(builder.zext(x, wide), builder.zext(w, wide)))


def _widen(builder: Any, pairs: Any) -> Any:
    """Return neighbouring 16-bit sums, added in 32 bits."""
    if has_avx2():
        ones = ir.Constant(_PAIRS, [1] * 16)
        return _call(builder, "llvm.x86.avx2.pmadd.wd", _SUMS, pairs, ones)
    return _neighbours(builder, builder.sext(pairs, ir.VectorType(_I32, 16)))


def _load(builder: Any, pointer: Any, kind: Any) -> Any:
    value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    value.align = 1
    return value


def _splat(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_SUMS, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(_SUMS, [0] * 8))


def _emit(b: Any, rows: list[Any], panel: Any, units: Any, limit: Any, sums: Any) -> None:
    cells = [[cgutils.alloca_once(b, _PAIRS) for _ in range(_VECTORS)] for _ in rows]  # type: ignore[no-untyped-call]
    places = [
        [
            b.bitcast(b.gep(sums, [_index((r * _VECTORS + v) * 8)]), _SUMS.as_pointer())
            for v in range(_VECTORS)
        ]
        for r in range(len(rows))
    ]
    for place in (place for row in places for place in row):
        b.store(ir.Constant(_SUMS, None), place).align = 4
    done = cgutils.alloca_once_value(b, _index(0))  # type: ignore[no-untyped-call]
    head, body, end = (b.append_basic_block(name) for name in ("chunk", "add", "added"))
    b.branch(head)
    b.position_at_end(head)
    start = b.load(done)
    left = b.sub(units, start)
    b.cbranch(b.icmp_signed(">", left, _index(0)), body, end)
    b.position_at_end(body)
    size = b.select(b.icmp_signed("<", left, limit), left, limit)
    for cell in (cell for row in cells for cell in row):
        b.store(ir.Constant(_PAIRS, None), cell)
    with cgutils.for_range(b, size) as loop:
        k = b.add(start, loop.index)
        first = b.gep(panel, [b.mul(k, _index(32 * _VECTORS))])
        weights = [_load(b, b.gep(first, [_index(32 * v)]), _BYTES) for v in range(_VECTORS)]
        for row, row_cells in zip(rows, cells, strict=True):
            four = _load(b, b.gep(row, [b.mul(k, _index(4))]), _I32)
            x = b.bitcast(_splat(b, four), _BYTES)
            for w, cell in zip(weights, row_cells, strict=True):
                b.store(b.add(b.load(cell), _multiply(b, x, w)), cell)
    for row_cells, row_places in zip(cells, places, strict=True):
        for cell, place in zip(row_cells, row_places, strict=True):
            old = b.load(place)
            old.align = 4
            b.store(b.add(old, _widen(b, b.load(cell))), place).align = 4
    b.store(b.add(start, size), done)
    b.branch(head)
    b.position_at_end(end)


def _digits(count: int) -> Any:
    """Return the micro-kernel for ``count`` rows.

    In compiled code: ``f(panels, panel_start, rows, row_start, row_stride, units, limit, sums)``
    with starts and strides in bytes, ``units`` of four channels, ``limit`` the units that 16 bits
    can hold, and ``sums`` count x 32 int32, overwritten.
    """

    def micro_kernel(
        typing: Any,
        panels: Any,
        panel_start: Any,
        rows: Any,
        row_start: Any,
        row_stride: Any,
        units: Any,
        limit: Any,
        sums: Any,
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            panels_, panel_start_, rows_, row_start_, stride_, units_, limit_, sums_ = args

            def data(position: int, array: Any) -> Any:
                kind = signature.args[position]
                return context.make_array(kind)(context, builder, array).data

            panel = builder.gep(data(0, panels_), [panel_start_])
            first = builder.gep(data(2, rows_), [row_start_])
            pointers = [builder.gep(first, [builder.mul(stride_, _index(r))]) for r in range(count)]
            _emit(builder, pointers, panel, units_, limit_, data(7, sums_))
            return context.get_dummy_value()

        byte_array, index = types.Array(types.uint8, 1, "C"), types.int64
        sums_type = types.Array(types.int32, 1, "C")
        return types.none(
            byte_array, index, byte_array, index, index, index, index, sums_type
        ), code

    return emitted(micro_kernel)


digits_1, digits_2 = _digits(1), _digits(2)
