"""Products of packed rows with packed weights, as compiled code.

The micro-kernels count X = sum over bit planes i, j of 2^(i+j) popcount(x_i xor w_j). What a
caller gets is ``((slope X + from_row + from_column) / 2 + padding) * scale + shift`` as float32;
:mod:`.affine` has the coefficients. A ``plan`` holds the integers that describe the weights; its
entries are named by :func:`~ste_lightning.kernels.plan.plan_of`.
"""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.compiling import compiled
from ste_lightning.kernels.epilogue import finish
from ste_lightning.kernels.packing import pack_rows
from ste_lightning.kernels.tiles import tile
from ste_lightning.kernels.vectors import load_64, store_64

__all__ = ["multiply", "multiply_gathered", "pack_and_multiply"]

_lookup_4 = tile("lookup", 4)
_lookup_1 = tile("lookup", 1)
_bytes_4 = tile("bytes", 4)
_bytes_1 = tile("bytes", 1)
_words_8 = tile("words", 8)
_words_1 = tile("words", 1)

_BLOCK = 16  # gathered rows that share one pass over the weights
_MOST_UNITS = 8000  # bytes of bits that a 16-bit sum can count


@compiled
def _count(fmt, many, panels, panel, bits, row, stride, units, s16, s32):  # type: ignore[no-untyped-def]
    """Add to the sums of one row, or of as many as the micro-kernel takes."""
    if fmt == 0:
        if many:
            _lookup_4(panels, panel, bits, row, stride, units, s16)
        else:
            _lookup_1(panels, panel, bits, row, stride, units, s16)
    elif fmt == 1:
        if many:
            _bytes_4(panels, panel, bits, row, stride, units, s16)
        else:
            _bytes_1(panels, panel, bits, row, stride, units, s16)
    elif many:
        _words_8(panels, panel, bits, row, stride, units, s32)
    else:
        _words_1(panels, panel, bits, row, stride, units, s32)


@compiled
def _tile(plan, count, panels, panel, bits, row, row_plane, stride, s16, s32, total):  # type: ignore[no-untyped-def]
    """Write X of ``count`` rows times one panel to ``total``, panel width apart."""
    fmt, units = plan[0], plan[8]
    width = 32 if fmt == 2 else 64
    unit = 4 if fmt == 2 else 1
    row_unit = 2 if fmt == 0 else unit
    used = count * width
    for i in range(plan[1]):
        for j in range(plan[2]):
            for start in range(0, units, _MOST_UNITS):
                size = min(units - start, _MOST_UNITS)
                from_panel = panel + j * plan[9] + start * width * unit
                from_row = row + i * row_plane + start * row_unit
                if fmt == 2:
                    s32[:] = 0
                else:
                    s16[:] = 0
                _count(fmt, count > 1, panels, from_panel, bits, from_row, stride, size, s16, s32)
                first = i + j + start == 0
                if fmt == 2:
                    for k in range(used):
                        total[k] = (0 if first else total[k]) + (np.int32(s32[k]) << (i + j))
                elif first:
                    for k in range(used):
                        total[k] = np.int32(s16[k])
                else:
                    for k in range(used):
                        total[k] += np.int32(s16[k]) << (i + j)


@compiled
def _finish(total, at, slope, from_row, columns, column, count, scale, shift, out, place):  # type: ignore[no-untyped-def]
    """Write ``count`` results of one row."""
    first = 0
    while first + 32 <= count:
        finish(
            total,
            at + first,
            slope,
            from_row,
            columns,
            scale,
            shift,
            column + first,
            out,
            place + first,
        )
        first += 32
    for n in range(first, count):
        doubled = slope * total[at + n] + from_row + columns[column + n]
        value = np.float32(0.5) * np.float32(doubled)
        out[place + n] = value * scale[column + n] + shift[column + n]


@compiled
def _finish_padded(  # type: ignore[no-untyped-def]
    total,
    at,
    slope,
    from_row,
    columns,
    column,
    count,
    index,
    position,
    taps,
    padding,
    outputs,
    scale,
    shift,
    out,
    place,
):
    for n in range(count):
        doubled = slope * total[at + n] + from_row + columns[column + n]
        out[place + n] = np.float32(0.5) * np.float32(doubled)
    for t in range(taps):
        if index[position * taps + t] < 0:
            for n in range(count):
                out[place + n] += padding[t * outputs + column + n]
    for n in range(count):
        out[place + n] = out[place + n] * scale[column + n] + shift[column + n]


@compiled
def multiply(  # type: ignore[no-untyped-def]
    plan, bits, row_plane, sums, panels, columns, scale, shift, out, first, last, begin, end
):
    """Multiply rows ``first`` to ``last`` with panels ``begin`` to ``end``.

    ``bits`` must be readable for as many rows as the micro-kernel takes after ``first``.
    """
    fmt, outputs, stride, units = plan[0], plan[4], plan[7], plan[8]
    slope, row_slope = np.int32(plan[11]), np.int32(plan[12])
    width = 32 if fmt == 2 else 64
    step = 8 if fmt == 2 else 4
    unit = 4 if fmt == 2 else 1
    s16 = np.empty(step * width, np.uint16)
    s32 = np.empty(step * width, np.uint32)
    total = np.empty(step * width, np.int32)
    for p in range(begin, end):
        panel = p * width * units * unit
        valid = min(width, outputs - p * width)
        for m in range(first, last, step):
            count = min(step, last - m)
            row = m * stride
            _tile(plan, count, panels, panel, bits, row, row_plane, stride, s16, s32, total)
            for r in range(count):
                from_row = np.int32(0)
                if row_slope != 0:
                    from_row = row_slope * sums[m + r]
                _finish(
                    total,
                    r * width,
                    slope,
                    from_row,
                    columns,
                    p * width,
                    valid,
                    scale,
                    shift,
                    out,
                    (m + r) * outputs + p * width,
                )


@compiled
def pack_and_multiply(  # type: ignore[no-untyped-def]
    plan, x, factor, offset, bits, sums, panels, columns, scale, shift, out, rows
):
    """Quantize rows of floats to one bit and multiply them with all panels, on one thread."""
    width = 32 if plan[0] == 2 else 64
    pack_rows(plan, x, factor, offset, bits, sums, 0, rows)
    panel_count = (plan[4] + width - 1) // width
    multiply(plan, bits, 0, sums, panels, columns, scale, shift, out, 0, rows, 0, panel_count)


@compiled
def _gather(bits, base, index, taps, position, image, groups, group, size, rows, at):  # type: ignore[no-untyped-def]
    """Copy the pixels under the kernel at one output position into one row, tap after tap."""
    for t in range(taps):
        pixel = index[position * taps + t]
        if pixel < 0:
            for i in range(0, size, 8):
                store_64(rows, at + i, np.uint64(0))
        else:
            source = base + ((image + pixel) * groups + group) * size
            # May run over by up to seven bytes, which the next tap overwrites.
            for i in range(0, size, 8):
                store_64(rows, at + i, load_64(bits, source + i))
        at += size


@compiled
def multiply_gathered(  # type: ignore[no-untyped-def]
    plan,
    bits,
    row_plane,
    sums,
    pixels,
    index,
    positions,
    panels,
    columns,
    padding,
    scale,
    shift,
    out,
    first,
    last,
):
    """Convolve: rows are (image, position), ``index`` the input pixel of each position and tap.

    A pixel of -1 is padding: zero bits, and ``padding[tap, output]`` is added to the integer.
    ``bits`` must be readable eight bytes past its end.
    """
    fmt, input_bits, groups, outputs, taps = plan[0], plan[1], plan[3], plan[4], plan[5]
    size, units = plan[7], plan[8]
    slope, row_slope = np.int32(plan[11]), np.int32(plan[12])
    width = 32 if fmt == 2 else 64
    step = 8 if fmt == 2 else 4
    unit = 4 if fmt == 2 else 1
    s16 = np.empty(step * width, np.uint16)
    s32 = np.empty(step * width, np.uint32)
    total = np.empty(step * width, np.int32)
    stride = taps * size
    plane = _BLOCK * stride
    rows = np.zeros(input_bits * plane + 8, np.uint8)
    padded = np.zeros(_BLOCK, np.bool_)
    all_outputs = outputs * groups
    for block in range(first, last, _BLOCK):
        in_block = min(_BLOCK, last - block)
        for r in range(in_block):
            padded[r] = False
            if len(padding) > 0:
                position = (block + r) % positions
                for t in range(taps):
                    padded[r] |= index[position * taps + t] < 0
        for group in range(groups):
            for i in range(input_bits):
                for r in range(in_block):
                    position = (block + r) % positions
                    image = (block + r) // positions * pixels
                    _gather(
                        bits,
                        i * row_plane,
                        index,
                        taps,
                        position,
                        image,
                        groups,
                        group,
                        size,
                        rows,
                        i * plane + r * stride,
                    )
            for p in range((outputs + width - 1) // width):
                panel = group * plan[10] + p * width * units * unit
                valid = min(width, outputs - p * width)
                column = group * outputs + p * width
                for start in range(0, in_block, step):
                    count = min(step, in_block - start)
                    at = start * stride
                    _tile(plan, count, panels, panel, rows, at, plane, stride, s16, s32, total)
                    for r in range(count):
                        row = block + start + r
                        position = row % positions
                        from_row = np.int32(0)
                        if row_slope != 0:
                            image = row // positions * pixels
                            for t in range(taps):
                                pixel = index[position * taps + t]
                                if pixel >= 0:
                                    from_row += sums[(image + pixel) * groups + group]
                            from_row *= row_slope
                        place = row * all_outputs + column
                        if padded[start + r]:
                            _finish_padded(
                                total,
                                r * width,
                                slope,
                                from_row,
                                columns,
                                column,
                                valid,
                                index,
                                position,
                                taps,
                                padding,
                                all_outputs,
                                scale,
                                shift,
                                out,
                                place,
                            )
                        else:
                            _finish(
                                total,
                                r * width,
                                slope,
                                from_row,
                                columns,
                                column,
                                valid,
                                scale,
                                shift,
                                out,
                                place,
                            )
