"""The micro-kernels, as LLVM code: popcounts of R rows of bits against one panel of channels.

One call writes to ``sums[r, n]`` the count ``sum_k popcount(row_r[k] xor panel[k, n])``; every
other product follows from it (see :mod:`.integer_codes`). A panel holds its channels side by side
for each unit of bits (a byte, or in the format ``words`` a 32-bit word), so that a vector lane is a
channel and no sum ever runs across lanes. Byte lanes overflow after 31 bytes of eight bits; they
are then added to 16-bit sums, even lanes first and odd lanes after (the panel's channels are
ordered for that).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.llvm import fetch, load, pointer_to, splat, store

__all__ = ["CHUNK", "PANELS", "row_of_panels", "tile"]

PANELS = 4  # that one row of words is counted against at once
_AHEAD = 2048  # bytes of each that are fetched before they are needed
CHUNK = 31  # bytes whose count, at most 248, fits into a byte

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


def _index(value: int) -> Any:
    return ir.Constant(_I64, value)


def _splat_constant(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _add_to(builder: Any, pointer: Any, value: Any, align: int) -> None:
    target = builder.bitcast(pointer, value.type.as_pointer())
    old = builder.load(target)
    old.align = align
    builder.store(builder.add(old, value), target).align = align


def _count(builder: Any, value: Any) -> Any:
    width = f"v{value.type.count}i{value.type.element.width}"
    kind = ir.FunctionType(value.type, [value.type])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.ctpop.{width}")  # type: ignore[no-untyped-call]
    return builder.call(function, [value])


class _Popcount:
    """Rows hold the bits as they are; the lanes count by LLVM's population count."""

    lanes: int
    element: Any
    vectors = 2
    unit: int

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.kind = ir.VectorType(self.element, self.lanes)

    def weights(self, pointer: Any) -> list[Any]:
        b, size = self.builder, self.lanes * self.unit
        return [load(b, b.gep(pointer, [_index(v * size)]), self.kind) for v in range(self.vectors)]

    def counts(self, row: Any, weights: list[Any]) -> list[list[Any]]:
        b = self.builder
        bits = splat(b, load(b, row, self.element), self.lanes)
        return [[_count(b, b.xor(bits, w)) for w in weights]]


class _Bytes(_Popcount):
    lanes, element, unit = 32, _I8, 1


class _Words(_Popcount):
    lanes, element, unit = 16, _I32, 4


_FORMATS = {"bytes": _Bytes, "words": _Words}


def _emit(b: Any, fmt: Any, rows: list[Any], panel: Any, units: Any, sums: Any) -> None:
    """Emit the loops; ``rows`` are pointers, ``sums`` points to 16- or 32-bit sums."""
    bytes_per_step = fmt.lanes * fmt.vectors * fmt.element.width // 8
    limit = units if fmt.element is _I32 else _index(CHUNK)
    cells = [[cgutils.alloca_once(b, fmt.kind) for _ in range(fmt.vectors)] for _ in rows]  # type: ignore[no-untyped-call]
    for part in range(len(rows) * fmt.vectors * fmt.element.width // 8):
        kind = ir.VectorType(_I8, 2 * fmt.lanes if fmt.element is _I8 else fmt.lanes)
        place = b.gep(b.bitcast(sums, _I8.as_pointer()), [_index(part * kind.count)])
        b.store(ir.Constant(kind, None), b.bitcast(place, kind.as_pointer())).align = 1
    done = cgutils.alloca_once_value(b, _index(0))  # type: ignore[no-untyped-call]
    head, body, end = (b.append_basic_block(name) for name in ("chunk", "count", "counted"))
    b.branch(head)
    b.position_at_end(head)
    start = b.load(done)
    left = b.sub(units, start)
    b.cbranch(b.icmp_signed(">", left, _index(0)), body, end)
    b.position_at_end(body)
    size = b.select(b.icmp_signed("<", left, limit), left, limit)
    for cell in (cell for row in cells for cell in row):
        b.store(ir.Constant(fmt.kind, None), cell)
    with cgutils.for_range(b, size) as loop:
        k = b.add(start, loop.index)
        weights = fmt.weights(b.gep(panel, [b.mul(k, _index(bytes_per_step))]))
        for row, row_cells in zip(rows, cells, strict=True):
            at = b.gep(row, [b.mul(k, _index(fmt.unit))])
            for counts in fmt.counts(at, weights):
                for cell, count in zip(row_cells, counts, strict=True):
                    b.store(b.add(b.load(cell), count), cell)
    for r, row_cells in enumerate(cells):
        for v, cell in enumerate(row_cells):
            first = (r * fmt.vectors + v) * fmt.lanes
            if fmt.element is _I32:
                _add_to(b, b.gep(sums, [_index(first)]), b.load(cell), align=4)
                continue
            kind = ir.VectorType(_I16, fmt.lanes // 2)
            pairs = b.bitcast(b.load(cell), kind)
            even = b.and_(pairs, _splat_constant(kind, 255))
            odd = b.lshr(pairs, _splat_constant(kind, 8))
            _add_to(b, b.gep(sums, [_index(first)]), even, align=2)
            _add_to(b, b.gep(sums, [_index(first + fmt.lanes // 2)]), odd, align=2)
    b.store(b.add(start, size), done)
    b.branch(head)
    b.position_at_end(end)


def tile(name: str, rows: int) -> Callable[..., Any]:
    """Return the micro-kernel of a format for ``rows`` rows.

    Args:
        name: ``"bytes"`` or ``"words"``.
        rows: R.

    Returns:
        A function for compiled code: ``f(panels, panel_start, bits, row_start, row_stride,
        units, sums)``; starts and strides in bytes, ``units`` in bytes or words of eight or 32
        bits per row, ``sums`` R x 64 uint16 or R x 32 int32, overwritten.
    """
    fmt_class = _FORMATS[name]
    sum_type = types.int32 if name == "words" else types.uint16

    def micro_kernel(
        typing: Any,
        panels: Any,
        panel_start: Any,
        bits: Any,
        row_start: Any,
        row_stride: Any,
        units: Any,
        sums: Any,
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            panels_, panel_start_, bits_, row_start_, stride_, units_, sums_ = args

            def data(position: int, array: Any) -> Any:
                kind = signature.args[position]
                return context.make_array(kind)(context, builder, array).data

            panel = builder.gep(data(0, panels_), [panel_start_])
            first = builder.gep(data(2, bits_), [row_start_])
            pointers = [builder.gep(first, [builder.mul(stride_, _index(r))]) for r in range(rows)]
            fmt = fmt_class(builder)
            _emit(builder, fmt, pointers, panel, units_, data(6, sums_))
            return context.get_dummy_value()

        byte_array, index = types.Array(types.uint8, 1, "C"), types.int64
        out = types.Array(sum_type, 1, "C")
        return types.none(byte_array, index, byte_array, index, index, index, out), code

    return emitted(micro_kernel)


@emitted
def row_of_panels(
    typing: Any, panels: Any, panel: Any, size: Any, bits: Any, row: Any, units: Any, sums: Any
) -> Any:
    """Write the counts of one row of words against four panels of 32 channels to ``sums``.

    The panels, of ``size`` bytes, follow each other: four streams keep more of the memory busy than
    one does, and eight counts wait for one word of the row.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        panels_, panel_, size_, bits_, row_, units_, sums_ = args
        b, fmt = builder, _Words(builder)
        line = fmt.lanes * fmt.unit
        first = pointer_to(context, b, signature.args[0], panels_, panel_)
        starts = [b.gep(first, [b.mul(size_, _index(p))]) for p in range(PANELS)]
        source = pointer_to(context, b, signature.args[3], bits_, row_)
        cells = [cgutils.alloca_once(b, fmt.kind) for _ in range(PANELS * fmt.vectors)]  # type: ignore[no-untyped-call]
        for cell in cells:
            b.store(ir.Constant(fmt.kind, None), cell)
        with cgutils.for_range(b, units_) as loop:
            word = splat(b, load(b, b.gep(source, [b.mul(loop.index, _index(4))]), _I32), fmt.lanes)
            at = b.mul(loop.index, _index(line * fmt.vectors))
            for p, start in enumerate(starts):
                place = b.gep(start, [at])
                for v, w in enumerate(fmt.weights(place)):
                    fetch(b, b.gep(place, [_index(_AHEAD + v * line)]))
                    cell = cells[p * fmt.vectors + v]
                    b.store(b.add(b.load(cell), _count(b, b.xor(word, w))), cell)
        for number, cell in enumerate(cells):
            to = pointer_to(context, b, signature.args[6], sums_, _index(number * fmt.lanes))
            store(b, b.load(cell), to, 4)
        return context.get_dummy_value()

    byte_array, index = types.Array(types.uint8, 1, "C"), types.int64
    sums_array = types.Array(types.int32, 1, "C")
    return types.none(byte_array, index, index, byte_array, index, index, sums_array), code
