"""The two kernels, in Triton."""
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["many_rows", "single_rows"]


@triton.jit
def _stored(data, rows, inside, first, length, width, plane, PLANES: tl.constexpr, ROWS: tl.constexpr, WORDS: tl.constexpr):  # fmt: skip # noqa: E501
    """Return stored weights as int32 (ROWS, 32 * WORDS), from column ``32 * first`` on.

    Args: ``rows`` the outputs, ``inside`` which of them exist, ``length`` columns of a row,
    ``width`` words of a row, ``plane`` words of a bit plane.
    """
    if PLANES == 0:
        columns = first * 32 + tl.arange(0, 32 * WORDS)
        mask = inside[:, None] & (columns < length)[None, :]
        at = rows.to(tl.int64)[:, None] * length + columns[None, :]
        found = tl.load(data + at, mask=mask, other=0).to(tl.int32)
    else:
        words = first + tl.arange(0, WORDS)
        mask = inside[:, None] & (words < width)[None, :]
        at = rows.to(tl.int64)[:, None] * width + words[None, :]
        place = tl.arange(0, 32)[None, None, :]
        codes = tl.zeros((ROWS, WORDS, 32), tl.int32)
        for p in tl.static_range(PLANES):
            word = tl.load(data + p * plane + at, mask=mask, other=0)
            codes += ((word[:, :, None] >> place) & 1) << p
        found = tl.reshape(codes, (ROWS, 32 * WORDS))
    return found


@triton.jit
def single_rows(x, data, sums, scale, shift, out, outputs, length, width, plane, step, zero, center, FLOATS: tl.constexpr, PLANES: tl.constexpr, OUTPUTS: tl.constexpr, WORDS: tl.constexpr):  # fmt: skip # noqa: E501
    """One row of x times OUTPUTS rows of weights per program; x int8 or floats.

    The weights are read once per row of x, from memory or the cache.
    """
    channel = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    row = tl.program_id(1).to(tl.int64)
    inside = channel < outputs
    total = tl.zeros((OUTPUTS,), tl.float32 if FLOATS else tl.int32)
    for first in range(0, width, WORDS):
        columns = first * 32 + tl.arange(0, 32 * WORDS)
        values = tl.load(x + row * length + columns, mask=columns < length, other=0)
        stored = _stored(data, channel, inside, first, length, width, plane, PLANES, OUTPUTS, WORDS)
        weight = step * stored + zero
        if FLOATS:
            total += tl.sum(weight.to(tl.float32) * values.to(tl.float32)[None, :], 1)
        else:
            total += tl.sum(weight * values.to(tl.int32)[None, :], 1)
    if not FLOATS:
        total += center * tl.load(sums + channel, mask=inside, other=0)
    y = total.to(tl.float32) * tl.load(scale + channel, mask=inside, other=0.0)
    y = y + tl.load(shift + channel, mask=inside, other=0.0)
    tl.store(out + row * outputs + channel, y, mask=inside)


@triton.jit
def many_rows(x, data, sums, scale, shift, out, rows, outputs, length, width, plane, step, zero, center, PLANES: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, WORDS: tl.constexpr):  # fmt: skip # noqa: E501
    """ROWS rows of x (int8) times OUTPUTS rows of weights per program, on the tensor cores."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    present, inside = row < rows, channel < outputs
    total = tl.zeros((ROWS, OUTPUTS), tl.int32)
    row_sums = tl.zeros((ROWS,), tl.int32)
    for first in range(0, width, WORDS):
        columns = first * 32 + tl.arange(0, 32 * WORDS)
        at = row.to(tl.int64)[:, None] * length + columns[None, :]
        mask = present[:, None] & (columns < length)[None, :]
        values = tl.load(x + at, mask=mask, other=0)
        stored = _stored(data, channel, inside, first, length, width, plane, PLANES, OUTPUTS, WORDS)
        total = tl.dot(values, tl.trans(stored.to(tl.int8)), total, out_dtype=tl.int32)
        row_sums += tl.sum(values.to(tl.int32), 1)
    total = step * total + zero * row_sums[:, None]
    total += center * tl.load(sums + channel, mask=inside, other=0)[None, :]
    y = total.to(tl.float32) * tl.load(scale + channel, mask=inside, other=0.0)[None, :]
    y = y + tl.load(shift + channel, mask=inside, other=0.0)[None, :]
    at = row.to(tl.int64)[:, None] * outputs + channel[None, :]
    tl.store(out + at, y, mask=present[:, None] & inside[None, :])
