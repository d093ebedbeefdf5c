"""The micro-kernels of bytes with an instruction for four products and a sum (VPDPBUSD).

``sums[r, n] = sum_k row_r[k] panel[k, n]`` for unsigned inputs and signed weights of a byte, which
are summed in 32 bits: nothing overflows on the way, whatever the bits. A step takes four channels
of 32 outputs, two vectors of weights, for up to 12 rows: 24 sums fill the registers of AVX-512.
The rows of a tile lie unit by unit, the four bytes of one after those of the other: so many rows
on their own, powers of two apart, would drive each other out of the first cache.

Weights of 1, 2 or 4 bits are stored so and decoded in registers: a byte has those of as many
steps, and two instructions that look 64 bytes up in a table of 16 entries (VPSHUFB) make signed
bytes of one half of them. See :func:`~ste_lightning.kernels.layout.weight_tiles.lay_out_packed`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.cpu_features import has_avx2, vnni_bits
from ste_lightning.kernels.jit.llvm import fetch, load, pointer_to, splat, store
from ste_lightning.kernels.ukernels.int8 import multiply_words

__all__ = [
    *("bytes_1", "bytes_4", "bytes_8", "bytes_12", "decode_panel", "dot"),
    *("interleave_4", "interleave_8", "interleave_12", "packed_1", "packed_4"),
]

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES, _SUMS = ir.VectorType(_I8, 64), ir.VectorType(_I32, 16)
_WIDTH = 32  # outputs of a panel: two vectors
_CHAINS = 4  # sums of one row that do not wait for each other


def _index(value: int) -> Any:
    return ir.Constant(_I64, value)


def _call(builder: Any, name: str, result: Any, *operands: Any) -> Any:
    kind = ir.FunctionType(result, [operand.type for operand in operands])
    function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
    return builder.call(function, operands)


def _part(builder: Any, vector: Any, first: int, count: int) -> Any:
    mask = ir.Constant(ir.VectorType(_I32, count), [*range(first, first + count)])
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


def _joined(builder: Any, parts: list[Any]) -> Any:
    """Return two (four) vectors as one."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    halves = _joined(builder, parts[:middle]), _joined(builder, parts[middle:])
    lanes = [*range(2 * halves[0].type.count)]
    return builder.shuffle_vector(*halves, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))


def dot(builder: Any, total: Any, x: Any, w: Any) -> Any:
    """Return total + the sums of four neighbouring products of unsigned x and signed w."""
    bits = vnni_bits()
    if bits:
        count = bits // 32
        parts = [
            _call(
                builder,
                f"llvm.x86.avx512.vpdpbusd.{bits}",
                ir.VectorType(_I32, count),
                *(_part(builder, v, first, count) for v in (total, x, w)),
            )
            for first in range(0, 16, count)
        ]
        return _joined(builder, parts)
    pairs = []
    for first in range(0, 64, 16):
        words = ir.VectorType(_I16, 16)
        a, b = (_part(builder, builder.bitcast(v, _BYTES), first, 16) for v in (x, w))
        pairs.append(multiply_words(builder, builder.zext(a, words), builder.sext(b, words)))
    both = _joined(builder, pairs)
    even, odd = (
        builder.shuffle_vector(both, both, ir.Constant(ir.VectorType(_I32, 16), [*range(k, 32, 2)]))
        for k in range(2)
    )
    return builder.add(total, builder.add(even, odd))


def _decoded(builder: Any, vector: Any, bits: int, tables: list[Any]) -> list[Any]:
    """Return the signed bytes of all codes of ``bits`` bits in 64 bytes, the lowest ones first."""
    low = ir.Constant(_BYTES, [15] * 64)
    four = ir.Constant(_BYTES, [4] * 64)
    found = []
    for nibbles in (builder.and_(vector, low), builder.lshr(vector, four)):
        for number, table in enumerate(tables):
            octets = _looked_up(builder, table, nibbles, number * bits, bits)
            found.append(builder.bitcast(octets, _SUMS))
    return found


def _looked_up(builder: Any, table: Any, nibbles: Any, shift: int, bits: int) -> Any:
    if vnni_bits() == 512:
        return _call(builder, "llvm.x86.avx512.pshuf.b.512", _BYTES, table, nibbles)
    if has_avx2():
        halves = [
            _call(
                builder,
                "llvm.x86.avx2.pshuf.b",
                ir.VectorType(_I8, 32),
                *(_part(builder, v, first, 32) for v in (table, nibbles)),
            )
            for first in (0, 32)
        ]
        return _joined(builder, halves)
    # What a code stands for grows evenly.
    codes = builder.lshr(nibbles, ir.Constant(_BYTES, [shift] * 64))
    codes = builder.and_(codes, ir.Constant(_BYTES, [2**bits - 1] * 64))
    first, second = (builder.extract_element(table, ir.Constant(_I32, k)) for k in (0, 1 << shift))
    step = splat(builder, builder.sub(second, first), 64)
    return builder.add(builder.mul(codes, step), splat(builder, first, 64))


def _tables(builder: Any, pointer: Any, bits: int) -> list[Any]:
    """Return the tables of 16 bytes at ``pointer``, each four times in a vector."""
    found = []
    for number in range(4 // bits):
        sixteen = load(builder, builder.gep(pointer, [_index(16 * number)]), ir.VectorType(_I8, 16))
        found.append(_joined(builder, [sixteen] * 4))
    return found


class _Sums:
    """Sums of the rows of a tile x two vectors x chains."""

    def __init__(self, builder: Any, tile: Any, rows: int, chains: int) -> None:
        self.builder, self.tile = builder, tile
        self.cells = [
            [[cgutils.alloca_once(builder, _SUMS) for _ in range(chains)] for _ in range(2)]  # type: ignore[no-untyped-call]
            for _ in range(rows)
        ]
        for cell in (cell for row in self.cells for half in row for cell in half):
            builder.store(ir.Constant(_SUMS, None), cell)

    def add(self, unit: Any, weights: list[Any], chain: int = 0) -> None:
        """Add the products of both vectors of weights with the rows' bytes of a unit."""
        b = self.builder
        first = b.gep(self.tile, [b.mul(unit, _index(4 * len(self.cells)))])
        for r, cells in enumerate(self.cells):
            x = splat(b, load(b, b.gep(first, [_index(4 * r)]), _I32), 16)
            for w, half in zip(weights, cells, strict=True):
                cell = half[chain % len(half)]
                b.store(dot(b, b.load(cell), x, w), cell)

    def write(self, target: Any) -> None:
        """Write the sums, 32 of a row after those of the one before."""
        b = self.builder
        for r, halves in enumerate(self.cells):
            for v, chains in enumerate(halves):
                total = b.load(chains[0])
                for cell in chains[1:]:
                    total = b.add(total, b.load(cell))
                store(b, total, b.gep(target, [_index(r * _WIDTH + v * 16)]), 4)


def _over(builder: Any, start: Any, stop: Any, step: int) -> Any:
    return cgutils.for_range_slice(builder, start, stop, _index(step), inc=True)


def _sum_bytes(builder: Any, sums: _Sums, panel: Any, units: Any, chains: int) -> None:
    def weights(unit: Any) -> list[Any]:
        first = builder.gep(panel, [builder.mul(unit, _index(64))])
        second = builder.gep(first, [builder.mul(units, _index(64))])
        return [load(builder, place, _SUMS) for place in (first, second)]

    whole = builder.and_(units, _index(-chains))
    with _over(builder, _index(0), whole, chains) as (start, _):
        for chain in range(chains):
            unit = builder.add(start, _index(chain))
            sums.add(unit, weights(unit), chain)
    if chains > 1:
        with _over(builder, whole, units, 1) as (unit, _):
            sums.add(unit, weights(unit))


def _sum_packed(
    builder: Any, sums: _Sums, panel: Any, units: Any, bits: int, table: Any, chains: int
) -> None:
    per, tables = 8 // bits, _tables(builder, table, bits)
    groups = builder.sdiv(builder.add(units, _index(per - 1)), _index(per))
    whole = builder.sdiv(units, _index(per))
    unroll = max(1, chains // per)

    def decoded(group: Any) -> list[list[Any]]:
        first = builder.gep(panel, [builder.mul(group, _index(64))])
        second = builder.gep(first, [builder.mul(groups, _index(64))])
        halves = [
            _decoded(builder, load(builder, place, _BYTES), bits, tables)
            for place in (first, second)
        ]
        return [list(pair) for pair in zip(*halves, strict=True)]

    def add(group: Any, chain: int) -> None:
        for j, pair in enumerate(decoded(group)):
            unit = builder.add(builder.mul(group, _index(per)), _index(j))
            sums.add(unit, pair, chain + j)

    unrolled = builder.and_(whole, _index(-unroll))
    with _over(builder, _index(0), unrolled, unroll) as (start, _):
        for part in range(unroll):
            add(builder.add(start, _index(part)), part * per)
    if unroll > 1:
        with _over(builder, unrolled, whole, 1) as (group, _):
            add(group, 0)
    with builder.if_then(builder.icmp_signed("<", whole, groups)):
        for j, pair in enumerate(decoded(whole)):
            unit = builder.add(builder.mul(whole, _index(per)), _index(j))
            with builder.if_then(builder.icmp_signed("<", unit, units)):
                sums.add(unit, pair)


def _for_each_width(builder: Any, bits: Any, emit: Callable[[int], None]) -> None:
    """Emit code for 1, 2 and 4 bits, of which one is run."""
    for width in (1, 2, 4):
        with builder.if_then(builder.icmp_signed("==", bits, _index(width))):
            emit(width)


_ARRAY, _INDEX = types.Array(types.uint8, 1, "C"), types.int64
_INTEGERS = types.Array(types.int32, 1, "C")


def _of_bytes(rows: int, chains: int = 1) -> Any:
    """Return the micro-kernel for a tile of ``rows`` rows.

    In compiled code: ``f(panels, panel, tiles, tile, units, sums)`` with starts in bytes; ``sums``
    of 32 outputs for each row are overwritten.
    """

    def micro_kernel(
        typing: Any, panels: Any, panel: Any, tiles: Any, tile: Any, units: Any, sums: Any
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            panels_, panel_, tiles_, tile_, units_, sums_ = args
            kinds = signature.args
            first = pointer_to(context, builder, kinds[2], tiles_, tile_)
            found = _Sums(builder, first, rows, chains)
            weights = pointer_to(context, builder, kinds[0], panels_, panel_)
            _sum_bytes(builder, found, weights, units_, chains)
            found.write(pointer_to(context, builder, kinds[5], sums_, _index(0)))
            return context.get_dummy_value()

        return types.none(_ARRAY, _INDEX, _ARRAY, _INDEX, _INDEX, _INTEGERS), code

    return emitted(micro_kernel)


bytes_1, bytes_4 = _of_bytes(1, _CHAINS), _of_bytes(4)
bytes_8, bytes_12 = _of_bytes(8), _of_bytes(12)


def _of_packed(rows: int, chains: int) -> Any:
    """As :func:`_of_bytes`, of weights of ``bits`` bits, whose tables are at ``panels[table]``.

    In compiled code: ``f(panels, panel, table, bits, tiles, tile, units, sums)``.
    """

    def micro_kernel(
        typing: Any, panels: Any, panel: Any, table: Any, bits: Any, tiles: Any, tile: Any,
        units: Any, sums: Any,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            panels_, panel_, table_, bits_, tiles_, tile_, units_, sums_ = args
            kinds = signature.args
            first = pointer_to(context, builder, kinds[4], tiles_, tile_)
            found = _Sums(builder, first, rows, chains)
            weights, tables = (
                pointer_to(context, builder, kinds[0], panels_, at) for at in (panel_, table_)
            )

            def emit(width: int) -> None:
                _sum_packed(builder, found, weights, units_, width, tables, chains)

            _for_each_width(builder, bits_, emit)
            found.write(pointer_to(context, builder, kinds[7], sums_, _index(0)))
            return context.get_dummy_value()

        given = (_ARRAY, *[_INDEX] * 3, _ARRAY, _INDEX, _INDEX, _INTEGERS)
        return types.none(*given), code

    return emitted(micro_kernel)


packed_1, packed_4 = _of_packed(1, _CHAINS), _of_packed(4, 1)


@emitted
def decode_panel(
    typing: Any, panels: Any, panel: Any, table: Any, bits: Any, units: Any, start: Any, size: Any,
    out: Any,
) -> Any:  # fmt: skip
    """Write ``size`` of a panel's ``units`` as bytes to ``out``, from ``start`` on.

    They have 1, 2 or 4 bits; ``start`` is a multiple of eight, and ``out`` has room for eight more.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        panels_, panel_, table_, bits_, units_, start_, size_, out_ = args
        kinds = signature.args
        source, tables_ = (
            pointer_to(context, builder, kinds[0], panels_, at) for at in (panel_, table_)
        )
        target = pointer_to(context, builder, kinds[7], out_, _index(0))

        def emit(width: int) -> None:
            per, tables = 8 // width, _tables(builder, tables_, width)

            def groups(number: Any) -> Any:
                return builder.sdiv(builder.add(number, _index(per - 1)), _index(per))

            begin = builder.mul(groups(start_), _index(64))
            for half in range(2):
                first = builder.add(begin, builder.mul(groups(units_), _index(64 * half)))
                first = builder.gep(source, [first])
                to = builder.gep(target, [builder.mul(size_, _index(64 * half))])
                following = builder.mul(groups(size_), _index(64))
                with cgutils.for_range(builder, groups(size_)) as loop:
                    at = builder.gep(first, [builder.mul(loop.index, _index(64))])
                    fetch(builder, builder.gep(at, [following]))
                    place = builder.gep(to, [builder.mul(loop.index, _index(64 * per))])
                    found = _decoded(builder, load(builder, at, _BYTES), width, tables)
                    for j, value in enumerate(found):
                        store(builder, value, builder.gep(place, [_index(64 * j)]))

        _for_each_width(builder, bits_, emit)
        return context.get_dummy_value()

    return types.none(_ARRAY, *[_INDEX] * 6, _ARRAY), code


def _interleaved(count: int) -> Any:
    """Return what writes a tile of ``count`` rows: the four bytes of a unit of each row in turn.

    In compiled code: ``f(rows, row, stride, left, units, tiles, tile)``; where ``left`` rows are
    fewer, the last one is written again.
    """

    def interleave(
        typing: Any, rows: Any, row: Any, stride: Any, left: Any, units: Any, tiles: Any, tile: Any
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            rows_, row_, stride_, left_, units_, tiles_, tile_ = args
            first = pointer_to(context, builder, signature.args[0], rows_, row_)
            target = pointer_to(context, builder, signature.args[5], tiles_, tile_)
            last = builder.sub(left_, _index(1))
            sources = []
            for r in range(count):
                number = builder.select(builder.icmp_signed("<", last, _index(r)), last, _index(r))
                sources.append(builder.gep(first, [builder.mul(stride_, number)]))
            with cgutils.for_range(builder, units_) as loop:
                at = builder.mul(loop.index, _index(4))
                to = builder.gep(target, [builder.mul(loop.index, _index(4 * count))])
                for r, source in enumerate(sources):
                    four = load(builder, builder.gep(source, [at]), _I32)
                    store(builder, four, builder.gep(to, [_index(4 * r)]))
            return context.get_dummy_value()

        return types.none(_ARRAY, *[_INDEX] * 4, _ARRAY, _INDEX), code

    return emitted(interleave)


interleave_4, interleave_8, interleave_12 = (_interleaved(rows) for rows in (4, 8, 12))
