"""Pooling, scaling and bounding of images stored pixel by pixel, as compiled code."""

from __future__ import annotations

import numpy as np

from ste_lightning.kernels.addressed import FLAG, FLOAT, FLOATS, INTEGERS, SIZE, carray, on_demand
from ste_lightning.kernels.compiling import inlined

__all__ = ["finish", "multiply"]


@inlined
def _bounded(values, channels, scale, shift, low, high):  # type: ignore[no-untyped-def]
    for c in range(channels):
        value = values[c] * scale[c] + shift[c]
        value = low if value < low else value
        values[c] = high if value > high else value


@inlined
def _finish(  # type: ignore[no-untyped-def]
    y, image, window, pixels, taps, channels, scale, shift, low, high, late, average, out, first,
    last, some, most,
):  # fmt: skip
    for m in range(first, last):
        size = 1 if average else pixels
        to = m * channels * size
        if average:
            for c in range(channels):
                out[to + c] = 0
        for p in range(pixels):
            for c in range(channels):
                most[c] = -np.inf
            for t in range(p * taps, (p + 1) * taps):
                if window[t] >= 0:
                    at = m * image + window[t]
                    if late:
                        for c in range(channels):
                            some[c] = y[at + c]
                        _bounded(some, channels, scale, shift, low, high)
                        for c in range(channels):
                            most[c] = some[c] if some[c] > most[c] else most[c]
                    else:
                        for c in range(channels):
                            most[c] = y[at + c] if y[at + c] > most[c] else most[c]
            if not late:
                _bounded(most, channels, scale, shift, low, high)
            if average:
                for c in range(channels):
                    out[to + c] += most[c]
            else:
                for c in range(channels):
                    out[to + c * size + p] = most[c]
        if average:
            for c in range(channels):
                out[to + c] /= np.float32(pixels)


@on_demand(
    *(FLOATS, SIZE, INTEGERS, SIZE, SIZE, SIZE, FLOATS, FLOATS, FLOAT, FLOAT, FLAG, FLAG),
    *(FLOATS, SIZE, SIZE),
)
def finish(  # type: ignore[no-untyped-def]
    y_, image, window_, pixels, taps, channels, scale_, shift_, low, high, late, average, out_,
    first, last,
):  # fmt: skip
    """Finish images ``first`` to ``last`` of ``image`` floats, as :class:`.tail.Tail` says."""
    y, out = carray(y_, (last * image,)), carray(out_, (last * channels * pixels,))
    window = carray(window_, (pixels * taps,))
    scale, shift = carray(scale_, (channels,)), carray(shift_, (channels,))
    some, most = np.empty(channels, np.float32), np.empty(channels, np.float32)
    _finish(
        *(y, image, window, pixels, taps, channels, scale, shift, low, high, late, average, out),
        *(first, last, some, most),
    )


@inlined
def _multiply(x, weight, bias, inputs, outputs, out, rows):  # type: ignore[no-untyped-def]
    for row in range(rows):
        to = row * outputs
        for n in range(outputs):
            out[to + n] = bias[n]
        for k in range(inputs):
            value = x[row * inputs + k]
            for n in range(outputs):
                out[to + n] += value * weight[k * outputs + n]


@on_demand(FLOATS, FLOATS, FLOATS, SIZE, SIZE, FLOATS, SIZE)
def multiply(x_, weight_, bias_, inputs, outputs, out_, rows):  # type: ignore[no-untyped-def]
    """Write x W + b for a few rows; W has a row for every input."""
    x, out = carray(x_, (rows * inputs,)), carray(out_, (rows * outputs,))
    weight, bias = carray(weight_, (inputs * outputs,)), carray(bias_, (outputs,))
    _multiply(x, weight, bias, inputs, outputs, out, rows)
