"""The micro-kernel of the format ``lookup`` for one row against 64 channels.

Four bits of the row select one of 16 tables, whose entries are the counts popcount(a xor w). A
row alone gains nothing from tables of pairs (see :mod:`.lut_two_rows`), and without them needs no
instructions to part the counts.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.cpu_features import has_avx2
from ste_lightning.kernels.jit.llvm import load
from ste_lightning.kernels.ukernels.lut_two_rows import U8, U16, add_to_sums, pointer

__all__ = ["single_row"]

_CHUNK = 31  # bytes of the row whose counts, at most 248, fit into a byte
_I8, _I32, _I64 = (ir.IntType(bits) for bits in (8, 32, 64))
_HALF, _BYTES = ir.VectorType(_I8, 16), ir.VectorType(_I8, 32)


def _all(value: int) -> Any:
    return ir.Constant(_BYTES, [value] * 32)


def _tables(module: Any) -> Any:
    name = "ste_lightning_counts"
    if name not in module.globals:
        counts = [(a ^ w).bit_count() for a in range(16) for w in range(16)]
        kind = ir.ArrayType(_I8, len(counts))
        table = ir.GlobalVariable(module, kind, name)
        table.linkage, table.global_constant, table.align = "internal", True, 64
        table.initializer = ir.Constant(kind, counts)
    return module.globals[name].bitcast(_I8.as_pointer())


def _emit(b: Any, weights: Any, indices: Any, units: Any, sums: Any) -> None:
    tables = _tables(b.module)
    name = "llvm.x86.avx2.pshuf.b"
    kind = ir.FunctionType(_BYTES, [_BYTES, _BYTES])
    look_up = b.module.globals.get(name) or ir.Function(b.module, kind, name)
    twice = ir.Constant(ir.VectorType(_I32, 32), [*range(16), *range(16)])
    cells = [cgutils.alloca_once(b, _BYTES) for _ in range(2)]  # type: ignore[no-untyped-call]
    step = ir.Constant(_I64, _CHUNK)
    with cgutils.for_range_slice(b, _I64(0), units, step, inc=True) as (start, _):
        left = b.sub(units, start)
        size = b.select(b.icmp_signed("<", left, step), left, step)
        for cell in cells:
            b.store(_all(0), cell)
        with cgutils.for_range(b, size) as loop:
            unit = b.add(start, loop.index)
            chosen = []
            for half in range(2):
                at = b.gep(indices, [b.add(b.mul(unit, _I64(2)), _I64(half))])
                # Of the offset of a pair's table, 16 (a + 16 b), the lower byte is 16 a.
                offset = b.and_(b.zext(b.load(at), _I64), _I64(255))
                table = load(b, b.gep(tables, [offset]), _HALF)
                chosen.append(b.shuffle_vector(table, ir.Constant(_HALF, ir.Undefined), twice))
            for v, cell in enumerate(cells):
                at = b.gep(weights, [b.add(b.mul(unit, _I64(64)), _I64(32 * v))])
                value = load(b, at, _BYTES)
                lower = b.call(look_up, [chosen[0], b.and_(value, _all(15))])
                upper = b.call(look_up, [chosen[1], b.lshr(value, _all(4))])
                b.store(b.add(b.load(cell), b.add(lower, upper)), cell)
        for v, cell in enumerate(cells):
            add_to_sums(b, sums, 32 * v, b.load(cell))


@emitted
def single_row(
    typing: Any,
    weights: Any,
    weights_at: Any,
    indices: Any,
    at: Any,
    units: Any,
    sums: Any,
    sums_at: Any,
) -> Any:
    """Add the counts of one row and a panel's bytes to the 64 uint16 at ``sums[sums_at:]``.

    ``indices[at:]`` are those of :func:`~ste_lightning.kernels.ukernels.lut_two_rows.expand_16`.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if has_avx2():  # never called without
            panel, row, data = (
                pointer(context, builder, signature, args, i, i + 1) for i in (0, 2, 5)
            )
            _emit(builder, panel, row, args[4], data)
        return context.get_dummy_value()

    return types.none(U8, types.int64, U16, types.int64, types.int64, U16, types.int64), code
