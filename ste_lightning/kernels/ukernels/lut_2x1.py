"""The micro-kernel of inputs of two bits: sums of products looked up in constant tables.

As in the format ``lookup`` (:mod:`.lut_two_rows`), one VPSHUFB with a table that a row's codes
select answers for four bits of weights of 32 outputs. In the format ``lookup_2x1`` four two-bit
inputs select one of 256 tables, which hold the sums of their products with four one-bit weights, at
most 12. Bytes hold ten bytes of weights' sums. Then they are added to 16-bit sums: to one as they
are (the even byte and 256 times the odd one, modulo 2^16) and to one shifted (the odd byte), which
costs three instructions for two vectors' worth of sums instead of four.

Tables of two two-bit weights instead of four one-bit ones were no faster: half as many products
in each look-up, instead of two planes of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.cpu_features import has_avx2
from ste_lightning.kernels.jit.llvm import load

__all__ = ["table_2x1_1", "table_2x1_4"]

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES, _PAIRS = ir.VectorType(_I8, 32), ir.VectorType(_I16, 16)
_SUMS = ir.VectorType(_I32, 16)
_VECTORS = 2  # of 32 outputs: a panel of 64
_CHUNK = 10  # bytes of weights whose sums, at most 240, fit into a byte


def _index(value: int) -> Any:
    return ir.Constant(_I64, value)


def _constant(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _table(module: Any) -> Any:
    """Return a pointer to the tables: sum_k x_k w_k at 16 x + w, codes x and w, first k lowest."""
    name = "ste_lightning_products_2x1"
    if name not in module.globals:
        values = [
            sum((x >> 2 * k & 3) * (w >> k & 1) for k in range(4))
            for x in range(256)
            for w in range(16)
        ]
        kind = ir.ArrayType(_I8, len(values))
        table = ir.GlobalVariable(module, kind, name)
        table.linkage, table.global_constant, table.align = "internal", True, 64
        table.initializer = ir.Constant(kind, values)
    return module.globals[name].bitcast(_I8.as_pointer())


def _look_up(builder: Any, table: Any, offset: Any, weights: list[Any]) -> list[Any]:
    entry = load(builder, builder.gep(table, [offset]), ir.VectorType(_I8, 16), align=16)
    lanes = ir.Constant(ir.VectorType(_I32, 32), [*range(16)] * 2)
    both = builder.shuffle_vector(entry, ir.Constant(entry.type, ir.Undefined), lanes)
    kind = ir.FunctionType(_BYTES, [_BYTES, _BYTES])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pshuf.b")  # type: ignore[no-untyped-call]
    return [builder.call(function, [both, index]) for index in weights]


def _emit(b: Any, rows: list[Any], panel: Any, units: Any, shift: Any, sums: Any) -> None:
    """Emit the loops; a unit is a byte of weights of each output, and two offsets of a row."""
    limit = _index(_CHUNK)
    table = _table(b.module)
    cells, whole, upper = (
        [
            [cgutils.alloca_once(b, kind) for _ in range(_VECTORS)]  # type: ignore[no-untyped-call]
            for _ in rows
        ]
        for kind in (_BYTES, _PAIRS, _PAIRS)
    )
    for cell in (cell for group in (whole, upper) for row in group for cell in row):
        b.store(ir.Constant(_PAIRS, None), cell)
    done = cgutils.alloca_once(b, _I64)  # type: ignore[no-untyped-call]
    b.store(_index(0), done)
    head, body, end = (b.append_basic_block(name) for name in ("chunk", "add", "added"))
    b.branch(head)
    b.position_at_end(head)
    start = b.load(done)
    left = b.sub(units, start)
    b.cbranch(b.icmp_signed(">", left, _index(0)), body, end)
    b.position_at_end(body)
    size = b.select(b.icmp_signed("<", left, limit), left, limit)
    for cell in (cell for row in cells for cell in row):
        b.store(ir.Constant(_BYTES, None), cell)
    with cgutils.for_range(b, size) as loop:
        k = b.add(start, loop.index)
        first = b.gep(panel, [b.mul(k, _index(32 * _VECTORS))])
        packed = [load(b, b.gep(first, [_index(32 * v)]), _BYTES) for v in range(_VECTORS)]
        halves = [
            [b.and_(value, _constant(_BYTES, 15)) for value in packed],
            [b.lshr(value, _constant(_BYTES, 4)) for value in packed],
        ]
        for row, row_cells in zip(rows, cells, strict=True):
            at = b.gep(row, [b.mul(k, _index(4))])
            for half, weights in enumerate(halves):
                place = b.gep(at, [_index(2 * half)])
                offset = b.zext(load(b, place, _I16), _I64)
                for cell, found in zip(row_cells, _look_up(b, table, offset, weights), strict=True):
                    b.store(b.add(b.load(cell), found), cell)
    for r in range(len(rows)):
        for v in range(_VECTORS):
            pairs = b.bitcast(b.load(cells[r][v]), _PAIRS)
            b.store(b.add(b.load(whole[r][v]), pairs), whole[r][v])
            high = b.lshr(pairs, _constant(_PAIRS, 8))
            b.store(b.add(b.load(upper[r][v]), high), upper[r][v])
    b.store(b.add(start, size), done)
    b.branch(head)
    b.position_at_end(end)
    by = b.shuffle_vector(
        b.insert_element(ir.Constant(_SUMS, ir.Undefined), shift, ir.Constant(_I32, 0)),
        ir.Constant(_SUMS, ir.Undefined),
        ir.Constant(ir.VectorType(_I32, 16), [0] * 16),
    )
    for r in range(len(rows)):
        for v in range(_VECTORS):
            odd = b.load(upper[r][v])
            even = b.sub(b.load(whole[r][v]), b.shl(odd, _constant(_PAIRS, 8)))
            for part, found in enumerate((even, odd)):
                place = b.gep(sums, [_index((r * _VECTORS + v) * 32 + part * 16)])
                place = b.bitcast(place, _SUMS.as_pointer())
                more = b.shl(b.zext(found, _SUMS), by)
                b.store(b.add(load(b, place, _SUMS, 4), more), place).align = 4


def _look_up_rows(count: int) -> Callable[..., Any]:
    """Return the micro-kernel for ``count`` rows.

    In compiled code: ``f(panels, panel_start, rows, row_start, row_stride, units, shift, sums,
    sums_start)`` adds the sums, times 2^shift, to count x 64 int32; starts and strides of panels
    and rows in bytes, ``units`` at most 1000.
    """

    def micro_kernel(
        typing: Any,
        panels: Any,
        panel_start: Any,
        rows: Any,
        row_start: Any,
        row_stride: Any,
        units: Any,
        shift: Any,
        sums: Any,
        sums_start: Any,
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if not has_avx2():
                # Never called there, and the instruction must not reach the code generator.
                return context.get_dummy_value()
            panels_, panel_start_, rows_, row_start_, stride_, units_, shift_, *rest = args
            sums_, sums_start_ = rest

            def data(position: int, array: Any) -> Any:
                kind = signature.args[position]
                return context.make_array(kind)(context, builder, array).data

            panel = builder.gep(data(0, panels_), [panel_start_])
            first = builder.gep(data(2, rows_), [row_start_])
            pointers = [builder.gep(first, [builder.mul(stride_, _index(r))]) for r in range(count)]
            place = builder.gep(data(7, sums_), [sums_start_])
            _emit(builder, pointers, panel, units_, shift_, place)
            return context.get_dummy_value()

        byte_array, index = types.Array(types.uint8, 1, "C"), types.int64
        sums_type = types.Array(types.int32, 1, "C")
        return types.none(
            *(byte_array, index, byte_array, index, index, index, types.int32, sums_type, index)
        ), code

    return emitted(micro_kernel)


table_2x1_4, table_2x1_1 = _look_up_rows(4), _look_up_rows(1)
