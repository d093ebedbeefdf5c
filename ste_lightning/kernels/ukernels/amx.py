"""The micro-kernel of bytes with tile registers (AMX): 16 rows x 16 outputs x 64 channels at once.

``sums[r, n] = sum_k row_r[k] panel[k, n]`` for unsigned inputs and signed weights of a byte, summed
in 32 bits by TDPBUSD. Eight tile registers hold 2 x 2 tiles of sums, two of rows and two of
weights. A panel's half is a tile of weights as it lies: 64 bytes for every four channels. Rows are
copied to groups of 16, 64 channels of each in turn, with zeros after the last channel; whatever
lies behind a panel's half is multiplied with those, so it need only be readable.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ste_lightning.kernels.jit.compiling import emitted
from ste_lightning.kernels.jit.cpu_features import has_tiles
from ste_lightning.kernels.jit.llvm import fetch, load, pointer_to, store

__all__ = [
    *("add_tiles", "begin_tiles", "call_tiles", "clear_tiles", "end_tiles", "lay_out_16"),
    *("register", "write_tiles"),
]

_I8, _I32, _I64 = (ir.IntType(bits) for bits in (8, 32, 64))
_LINE = ir.VectorType(_I8, 64)
_LINE_BYTES, _TILE_BYTES = 64, 1024
_AHEAD = 4096  # bytes of weights that are fetched before they are needed
_SUMS_PITCH = 128  # bytes: 32 sums
_ROWS_A, _WEIGHTS_B = (4, 5), (6, 7)  # registers; those of sums are 0 to 3
# palette 1; eight registers of 16 lines of 64 bytes
_CONFIGURATION = [1, *[0] * 15, *[64, 0] * 8, *[0] * 16, *[16] * 8, *[0] * 8]
_ARRAY, _INDEX = types.Array(types.uint8, 1, "C"), types.int64
_INTEGERS = types.Array(types.int32, 1, "C")


def _index(value: int) -> Any:
    return ir.Constant(_I64, value)


def call_tiles(builder: Any, name: str, *operands: Any) -> None:
    """Call an intrinsic, where the processor has it: elsewhere this code is never reached."""
    if not has_tiles():
        return
    kind = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}")  # type: ignore[no-untyped-call]
    builder.call(function, operands)


def register(number: int) -> Any:
    """Return the operand that names a tile register."""
    return ir.Constant(_I8, number)


@emitted
def begin_tiles(typing: Any) -> Any:
    """Set the tile registers up; :func:`end_tiles` must follow in the same call."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.ArrayType(_I8, len(_CONFIGURATION))
        constant = ir.Constant(kind, _CONFIGURATION)
        place = cgutils.alloca_once_value(builder, constant)  # type: ignore[no-untyped-call]
        builder.store(constant, place)
        call_tiles(builder, "ldtilecfg", builder.bitcast(place, _I8.as_pointer()))
        return context.get_dummy_value()

    return types.none(), code


@emitted
def end_tiles(typing: Any) -> Any:
    """Give the tile registers back, so that nobody has to save them."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call_tiles(builder, "tilerelease")
        return context.get_dummy_value()

    return types.none(), code


def _groups(builder: Any, rows: Any, emit: Any) -> None:
    """Emit code for one group of 16 rows and for two, of which one is run."""
    for groups in (1, 2):
        with builder.if_then(builder.icmp_signed("==", rows, _index(16 * groups))):
            emit(groups)


@emitted
def clear_tiles(typing: Any) -> Any:
    """Set all sums to zero."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for number in range(4):
            call_tiles(builder, "tilezero", register(number))
        return context.get_dummy_value()

    return types.none(), code


@emitted
def add_tiles(
    typing: Any, size: Any, panels: Any, panel: Any, tiles: Any, tile: Any, group: Any, units: Any
) -> Any:
    """Add the products of ``size`` rows, 16 or 32, with ``units`` units of a panel to the sums.

    ``panel`` and ``tile`` say where these begin, ``group`` bytes are between groups of rows.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size_, panels_, panel_, tiles_, tile_, group_, units_ = args
        kinds, b = signature.args, builder
        first_row = pointer_to(context, b, kinds[3], tiles_, tile_)
        first_weight = pointer_to(context, b, kinds[1], panels_, panel_)
        blocks = b.sdiv(b.add(units_, _index(15)), _index(16))
        half, pitch = b.mul(units_, _index(_LINE_BYTES)), _index(_LINE_BYTES)

        def emit(groups: int) -> None:
            with cgutils.for_range(b, blocks) as loop:
                step = b.mul(loop.index, _index(_TILE_BYTES))
                x, w = b.gep(first_row, [step]), b.gep(first_weight, [step])
                for g in range(groups):
                    call_tiles(b, "tileloadd64", register(_ROWS_A[g]), x, pitch)
                    x = b.gep(x, [group_])
                    for h in range(2):
                        if g == 0:
                            call_tiles(b, "tileloadd64", register(_WEIGHTS_B[h]), w, pitch)
                            for line in range(0, _TILE_BYTES, _LINE_BYTES):
                                fetch(b, b.gep(w, [_index(_AHEAD + line)]))
                            w = b.gep(w, [half])
                        operands = (2 * g + h, _ROWS_A[g], _WEIGHTS_B[h])
                        call_tiles(b, "tdpbusd", *(register(number) for number in operands))

        _groups(b, size_, emit)
        return context.get_dummy_value()

    return types.none(_INDEX, _ARRAY, _INDEX, _ARRAY, *[_INDEX] * 3), code


@emitted
def write_tiles(typing: Any, size: Any, sums: Any) -> Any:
    """Write the sums of ``size`` rows, 32 outputs of each, to ``sums``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = pointer_to(context, builder, signature.args[1], args[1], _index(0))
        target = builder.bitcast(target, _I8.as_pointer())

        def emit(groups: int) -> None:
            for g in range(groups):
                for h in range(2):
                    at = _index(g * 16 * _SUMS_PITCH + h * _LINE_BYTES)
                    place, pitch = builder.gep(target, [at]), _index(_SUMS_PITCH)
                    call_tiles(builder, "tilestored64", register(2 * g + h), place, pitch)

        _groups(builder, args[0], emit)
        return context.get_dummy_value()

    return types.none(_INDEX, _INTEGERS), code


@emitted
def lay_out_16(
    typing: Any, rows: Any, row: Any, stride: Any, left: Any, tiles: Any, tile: Any
) -> Any:
    """Write up to 16 rows, of ``left`` ones, as a group of tiles; ``stride`` is in whole words."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows_, row_, stride_, left_, tiles_, tile_ = args
        b = builder
        source = pointer_to(context, b, signature.args[0], rows_, row_)
        target = pointer_to(context, b, signature.args[4], tiles_, tile_)
        whole = b.sdiv(stride_, _index(_LINE_BYTES))
        words = b.sdiv(b.srem(stride_, _index(_LINE_BYTES)), _index(4))
        few = b.icmp_signed("<", left_, _index(16))
        with cgutils.for_range(b, b.select(few, left_, _index(16))) as over_rows:
            x = b.gep(source, [b.mul(over_rows.index, stride_)])
            to = b.gep(target, [b.mul(over_rows.index, _index(_LINE_BYTES))])
            with cgutils.for_range(b, whole) as loop:
                line = load(b, b.gep(x, [b.mul(loop.index, _index(_LINE_BYTES))]), _LINE)
                store(b, line, b.gep(to, [b.mul(loop.index, _index(_TILE_BYTES))]))
            with b.if_then(b.icmp_signed(">", words, _index(0))):
                x = b.gep(x, [b.mul(whole, _index(_LINE_BYTES))])
                to = b.gep(to, [b.mul(whole, _index(_TILE_BYTES))])
                store(b, ir.Constant(_LINE, None), to)
                with cgutils.for_range(b, words) as loop:
                    at = b.mul(loop.index, _index(4))
                    store(b, load(b, b.gep(x, [at]), _I32), b.gep(to, [at]))
        return context.get_dummy_value()

    return types.none(_ARRAY, *[_INDEX] * 3, _ARRAY, _INDEX), code
