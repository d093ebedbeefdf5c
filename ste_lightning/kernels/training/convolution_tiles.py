"""Gradients of two-dimensional convolutions of stride 1 by tile registers.

Images lie as a raster (:mod:`.raster`, which says what ``shape`` is): a kernel's tap is a shift of
it, and no column matrix is made. Parts of floats are those of
:mod:`~ste_lightning.kernels.ukernels.amx_bf16`: three of the output's gradient, one of weights and
inputs, which are integers.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.jit.arrays import empty, zeros
from ste_lightning.kernels.jit.c_functions import (
    BYTES,
    FLOAT,
    FLOATS,
    INTEGERS,
    SIZE,
    addressed,
    carray,
)
from ste_lightning.kernels.jit.compiling import inlined
from ste_lightning.kernels.jit.simd import copy
from ste_lightning.kernels.pack.transpose import transpose
from ste_lightning.kernels.training.raster import (
    FIELDS,
    GROUP,
    TERMS,
    area_of,
    blocks_of,
    fill_raster,
    lead_of,
    line_of,
    padded,
    several_of,
    shift_of,
)
from ste_lightning.kernels.ukernels.amx import begin_tiles, clear_tiles, end_tiles
from ste_lightning.kernels.ukernels.amx_bf16 import (
    add_float_tiles,
    cut_columns,
    cut_rows,
    lay_tile,
    load_sums,
    store_sums,
    turn_tile,
)

__all__ = ["input_gradient", "weight_gradient"]

_LINE, _TILE, _PARTS = 64, 1024, 3
_LEAST, _MOST = np.float32(-np.inf), np.float32(np.inf)


@addressed(INTEGERS, FLOATS, FLOATS, BYTES, FLOATS, SIZE, SIZE)
def input_gradient(shape_, grad_, scales_, weights_, out_, first, last):  # type: ignore[no-untyped-def]
    """Write the gradient in the input of images ``first`` to ``last``.

    dL/dx[c, q] = sum over outputs o and taps t of s[o] k[o, c, t] dL/dy[o, q - t], with ``weights``
    k as left tiles of (channels, taps x outputs in whole groups), and ``scales`` s in whole groups.
    """
    shape = carray(shape_, (FIELDS,))
    channels, outputs, height, width = shape[1], shape[2], shape[3], shape[4]
    rows, columns, taps = shape[5], shape[6], shape[7] * shape[8]
    area, lead = area_of(shape), lead_of(shape)
    wide, tall = padded(outputs), padded(channels)
    several = several_of(shape, outputs)
    blocks = blocks_of(shape, several)
    length = 2 * lead + TERMS * blocks
    grad = carray(grad_, (last * outputs * rows * columns,))
    out = carray(out_, (last * channels * height * width,))
    scales, ones = carray(scales_, (wide,)), empty(TERMS, np.float32)
    ones[:] = 1
    last_too = shape[13] != 0
    own, step = (ones, 0) if last_too else (scales, 1)
    across, along = (scales, 1) if last_too else (ones, 0)
    raster = zeros(wide * length, np.float32)
    pitch, of_block = 4 * length, 64 * length  # of pairs of outputs; a tile has 16
    part = wide // 2 * pitch
    pairs = zeros(_PARTS * part, np.uint8)
    tile, sums = empty(_PARTS * _TILE, np.uint8), empty(GROUP * GROUP, np.float32)
    turned = empty(GROUP * GROUP, np.float32)
    of_tap = wide // TERMS * _TILE
    of_taps = taps * of_tap  # bytes of a group's weights
    weights = carray(weights_, (tall // 16 * of_taps,))
    begin_tiles()
    for start in range(first, last, several):
        images = min(several, last - start)
        if images < several:
            raster[:] = 0
        fill_raster(shape, grad, start, images, outputs, rows, columns, length, raster)
        for group in range(0, wide // 16, 2):  # 32 outputs are 16 pairs: of both halves
            for pixel in range(0, length, 16):
                _pair_up(
                    *(shape, raster, length, wide, group, pixel, own, step, across, along),
                    *(tile, pairs, pitch, part),
                )
        for pixel in range(lead, lead + images * area, GROUP):
            for c in range(0, channels, GROUP):
                clear_tiles()
                for block in range(wide // TERMS):
                    for tap in range(0, taps, shape[8]):  # a kernel's line reads the same lines
                        row = c // 16 * of_taps + tap * of_tap + block * _TILE
                        at = 4 * (pixel - shift_of(shape, tap)) + block * of_block
                        add_float_tiles(
                            *(weights, (row, of_taps, _LINE, of_tap, 0), 1),
                            *(pairs, (at, _LINE, pitch, -4 * shape[12], part), _PARTS, shape[8]),
                        )
                store_sums(sums, 0, GROUP)
                _write(
                    *(shape, sums, turned, start, pixel - lead, c, min(channels - c, GROUP)),
                    *(min(images * area - pixel + lead, GROUP), out),
                )
    end_tiles()


@inlined
def _pair_up(  # type: ignore[no-untyped-def]
    shape, raster, length, wide, group, pixel, own, step, across, along, tile, pairs, pitch, part
):
    """Write 16 pixels of 32 outputs as 16 lines of pairs of outputs."""
    if shape[13]:
        at = pixel * wide + 16 * group
        cut_rows(
            *(raster, at, wide, own, 0, step, across, 16 * group * along, _LEAST, _MOST),
            *(_PARTS, tile, 0),
        )
        for k in range(_PARTS):
            turn_tile(tile, k * _TILE)
    else:
        at = 16 * group * length + pixel
        cut_columns(
            *(raster, at, length, own, 16 * group * step, step, across, 0, _LEAST, _MOST),
            *(_PARTS, tile, 0),
        )
    for k in range(_PARTS):
        lay_tile(tile, k * _TILE, pairs, k * part + 8 * group * pitch + 4 * pixel, pitch)


@inlined
def _write(shape, sums, turned, start, pixel, c, many, count, out):  # type: ignore[no-untyped-def]
    """Copy (channels, 32 pixels of the raster) to where pixels are no padding."""
    channels, height, width = shape[1], shape[3], shape[4]
    if shape[13]:
        for i in range(0, GROUP, 8):
            for j in range(0, GROUP, 8):
                transpose(sums, j * GROUP + i, GROUP, turned, i * GROUP + j, GROUP)
    line, area = line_of(shape), area_of(shape)
    i = 0
    while i < count:
        m, rest = (pixel + i) // area, (pixel + i) % area
        y, x = rest // line, rest % line
        run = min(line - x, count - i)  # pixels in the same line
        valid = min(max(width - x, 0), run) if y < height else 0
        if shape[13]:
            at = (((start + m) * height + y) * width + x) * channels + c
            for k in range(valid):
                copy(turned, (i + k) * GROUP, out, at + k * channels, many)
        else:
            at = (((start + m) * channels + c) * height + y) * width + x
            for j in range(many):
                copy(sums, j * GROUP + i, out, at + j * height * width, valid)
        i += run


@inlined
def _cut_gradient(shape, raster, length, wide, group, block, ones, tiles, to):  # type: ignore[no-untyped-def]
    """Write 32 pixels of 16 outputs in three parts: a tile's line is two pixels."""
    pixel = lead_of(shape) + block * TERMS
    if shape[13]:
        at = pixel * wide + 16 * group
        cut_columns(raster, at, wide, ones, 0, 0, ones, 0, _LEAST, _MOST, _PARTS, tiles, to)
    else:
        at = 16 * group * length + pixel
        cut_rows(raster, at, length, ones, 0, 0, ones, 0, _LEAST, _MOST, _PARTS, tiles, to)
        for k in range(_PARTS):
            turn_tile(tiles, to + k * _TILE)


@inlined
def _cut_input(shape, raster, length, tall, group, pixel, factors, tile):  # type: ignore[no-untyped-def]
    """Write 32 pixels of 16 channels as integers: a tile's line is a channel."""
    ones, steps = factors
    if shape[13]:
        at = pixel * tall + 16 * group
        missing = cut_columns(raster, at, tall, steps, 0, 0, ones, 0, _LEAST, _MOST, 1, tile, 0)
        turn_tile(tile, 0)
    else:
        at = 16 * group * length + pixel
        missing = cut_rows(raster, at, length, steps, 0, 0, ones, 0, _LEAST, _MOST, 1, tile, 0)
    return missing


@addressed(INTEGERS, FLOATS, FLOATS, FLOAT, FLOAT, FLOATS, SIZE, SIZE, returns=SIZE)
def weight_gradient(shape_, grad_, x_, step, pad, out_, first, last):  # type: ignore[no-untyped-def]
    """Write the gradient in the weights of images ``first`` to ``last``: (outputs, channels, taps).

    dL/dW[o, c, t] = step times the sum over pixels q of dL/dy[o, q] (x[c, q + t] / step), with
    padding of value ``pad``. Returns whether an input over ``step`` is no integer of eight bits.
    """
    shape = carray(shape_, (FIELDS,))
    channels, outputs, height, width = shape[1], shape[2], shape[3], shape[4]
    rows, columns, taps = shape[5], shape[6], shape[7] * shape[8]
    lead = lead_of(shape)
    wide, tall = padded(outputs), padded(channels)
    several = several_of(shape, max(channels, outputs))
    blocks = blocks_of(shape, several)
    length = 2 * lead + TERMS * blocks
    grad = carray(grad_, (last * outputs * rows * columns,))
    x = carray(x_, (last * channels * height * width,))
    of_grad, of_x = zeros(wide * length, np.float32), empty(tall * length, np.float32)
    of_x[:] = 0
    ones, steps = empty(TERMS, np.float32), empty(TERMS, np.float32)
    ones[:] = 1
    steps[:] = step
    pitch = 2 * length  # bytes of a channel's line of numbers of 16 bits
    lines = empty(tall * pitch, np.uint8)
    tiles = empty(wide // 16 * blocks * _PARTS * _TILE, np.uint8)
    of_group = blocks * _PARTS * _TILE
    tile = empty(_TILE, np.uint8)
    sums = zeros(taps * tall * wide, np.float32)
    missing = 0
    begin_tiles()
    for start in range(first, last, several):
        images = min(several, last - start)
        if images < several:
            of_grad[:] = 0
        fill_raster(shape, grad, start, images, outputs, rows, columns, length, of_grad)
        if start == first or images < several:
            if shape[13]:
                for i in range(length):
                    of_x[i * tall : i * tall + channels] = pad
            else:
                of_x[: channels * length] = pad
        fill_raster(shape, x, start, images, channels, height, width, length, of_x)
        for block in range(blocks):
            for group in range(wide // 16):
                to = (group * blocks + block) * _PARTS * _TILE
                _cut_gradient(shape, of_grad, length, wide, group, block, ones, tiles, to)
        for pixel in range(0, length, TERMS):
            for group in range(tall // 16):
                missing |= _cut_input(shape, of_x, length, tall, group, pixel, (ones, steps), tile)
                lay_tile(tile, 0, lines, 16 * group * pitch + 2 * pixel, pitch)
        used = blocks_of(shape, images)
        for c in range(0, channels, GROUP):
            for o in range(0, outputs, GROUP):
                for tap in range(taps):
                    place = (tap * tall + c) * wide + o
                    load_sums(sums, place, wide)
                    at = c * pitch + 2 * (lead + shift_of(shape, tap))
                    add_float_tiles(
                        *(lines, (at, 16 * pitch, pitch, _LINE, 0), 1),
                        *(tiles, (o // 16 * of_group, of_group, _LINE, _PARTS * _TILE, _TILE)),
                        *(_PARTS, used),
                    )
                    store_sums(sums, place, wide)
    end_tiles()
    out = carray(out_, (outputs * channels * taps,))
    for o in range(outputs):
        for c in range(channels):
            for tap in range(taps):
                out[(o * channels + c) * taps + tap] = step * sums[(tap * tall + c) * wide + o]
    return missing
