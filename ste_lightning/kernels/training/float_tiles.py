"""Products of matrices of floats by tile registers: what :mod:`.amx_bf16` makes of whole operands.

An operand of R rows (or outputs) and K terms is packed as tiles (groups of 16 rows, blocks of 32
terms, parts), zeros after the last row and term, an even number of groups.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.arrays import zeros
from ste_lightning.kernels.jit.c_functions import (
    BYTES,
    FLAG,
    FLOAT,
    FLOATS,
    SIZE,
    addressed,
    carray,
)
from ste_lightning.kernels.jit.compiling import inlined
from ste_lightning.kernels.ukernels.amx import begin_tiles, clear_tiles, end_tiles
from ste_lightning.kernels.ukernels.amx_bf16 import (
    add_float_tiles,
    cut_columns,
    cut_rows,
    load_sums,
    store_sums,
    turn_tile,
)

__all__ = ["GROUP", "multiply", "pack", "packed_bytes"]

GROUP = 32  # rows of two groups, which are multiplied together
_TERMS, _LINE, _TILE = 32, 64, 1024
_AT_ONCE = 16  # blocks of terms for which a group of outputs stays in the first cache


def packed_bytes(rows: int, terms: int, parts: int) -> int:
    """Return the size of a packed operand."""
    return -(-rows // GROUP) * 2 * -(-terms // _TERMS) * parts * _TILE


@addressed(
    *(FLOATS, *[SIZE] * 3, *[FLAG] * 2, *[FLOATS, SIZE] * 2, *[FLOAT] * 2, SIZE, BYTES, SIZE, SIZE),
    returns=SIZE,
)
def pack(  # type: ignore[no-untyped-def]
    x_,
    rows,
    terms,
    stride,
    by_rows,
    is_left,
    lines_,
    step,
    across_,
    along,
    low,
    high,
    parts,
    out_,
    first,
    last,
):
    """Pack groups ``first`` to ``last`` of 32 rows; return whether one part is not enough.

    ``x`` has lines ``stride`` apart: rows, if ``by_rows``, else terms. For element j of line i
    there are the factors ``lines[i * step]`` and ``across[j * along]``, of which 32 can be read:
    three parts are its product with both, one is round(clip(x / lines, low, high)).
    """
    count, length = (rows, terms) if by_rows else (terms, rows)
    x = carray(x_, ((count - 1) * stride + length,))
    lines, across = carray(lines_, (count,)), carray(across_, (length + 32,))
    blocks = (terms + _TERMS - 1) // _TERMS
    out = carray(out_, (2 * last * blocks * parts * _TILE,))
    tall, wide = (16, 32) if by_rows else (32, 16)
    edge, of_edge, ones = zeros(512, np.float32), zeros(32, np.float32), zeros(32, np.float32)
    ones[:] = 1
    missing = 0
    for group in range(2 * first, 2 * last):
        for block in range(blocks):
            line, lane = (group * 16, block * 32) if by_rows else (block * 32, group * 16)
            many, some = min(max(count - line, 0), tall), min(max(length - lane, 0), wide)
            to = (group * blocks + block) * parts * _TILE
            if many == tall and some == wide:
                source, at, pitch = x, line * stride + lane, stride
                own, first_own, next_own = lines, line * step, step
                factor, more = across, lane * along
            else:
                source, at, pitch = edge, 0, wide
                own, first_own, next_own = of_edge, 0, 1
                factor, more = ones, 0
                edge[:] = 0
                of_edge[:] = 1
                for i in range(many):
                    of_edge[i] = lines[(line + i) * step]
                    for j in range(some):
                        value = x[(line + i) * stride + lane + j]
                        edge[i * wide + j] = value * across[(lane + j) * along]
            places = source, at, pitch, own, first_own, next_own, factor, more
            if by_rows:
                missing |= cut_rows(*places, low, high, parts, out, to)
            else:
                missing |= cut_columns(*places, low, high, parts, out, to)
            if by_rows != is_left:
                for part in range(parts):
                    turn_tile(out, to + part * _TILE)
    return missing


@inlined
def _copy_block(x, at, stride, out, to, out_stride, high, wide):  # type: ignore[no-untyped-def]
    for i in range(high):
        for j in range(wide):
            out[to + i * out_stride + j] = x[at + i * stride + j]


@addressed(BYTES, SIZE, BYTES, *[SIZE] * 4, FLOATS, *[SIZE] * 2)
def multiply(  # type: ignore[no-untyped-def]
    left_, lefts, right_, rights, rows, outputs, terms, out_, first, last
):
    """Write left @ right, (rows, outputs), for groups ``first`` to ``last`` of 32 outputs.

    ``lefts`` and ``rights`` are the numbers of parts.
    """
    blocks = (terms + _TERMS - 1) // _TERMS
    groups = (rows + GROUP - 1) // GROUP
    of_row, of_output = blocks * lefts * _TILE, blocks * rights * _TILE
    left, right = carray(left_, (2 * groups * of_row,)), carray(right_, (2 * last * of_output,))
    out, edge = carray(out_, (rows * outputs,)), zeros(GROUP * GROUP, np.float32)
    begin_tiles()
    for start in range(0, blocks, _AT_ONCE):
        size = min(_AT_ONCE, blocks - start)
        for group in range(first, last):
            wide = min(outputs - group * GROUP, GROUP)
            for row in range(groups):
                high = min(rows - row * GROUP, GROUP)
                at, whole = row * GROUP * outputs + group * GROUP, wide == GROUP and high == GROUP
                if start == 0:
                    clear_tiles()
                elif whole:
                    load_sums(out, at, outputs)
                else:
                    _copy_block(out, at, outputs, edge, 0, GROUP, high, wide)
                    load_sums(edge, 0, GROUP)
                from_left = 2 * row * of_row + start * lefts * _TILE
                from_right = 2 * group * of_output + start * rights * _TILE
                add_float_tiles(
                    *(left, (from_left, of_row, _LINE, lefts * _TILE, _TILE), lefts),
                    *(right, (from_right, of_output, _LINE, rights * _TILE, _TILE), rights, size),
                )
                if whole:
                    store_sums(out, at, outputs)
                else:
                    store_sums(edge, 0, GROUP)
                    _copy_block(edge, 0, GROUP, out, at, outputs, high, wide)
    end_tiles()
